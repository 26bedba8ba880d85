"""One run: adapters, optimizer, schedule, clipping, and where it stands; it saves itself and goes on exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer import checkpoint
from trainer.errors import TrainerError
from trainer.lora.lora import Adapters, LoraWeights
from trainer.optimization.optimizers import ParamGroups, build_optimizer, effective_learning_rate, evaluation_mode
from trainer.optimization.schedules import build_schedule
from trainer.packing.settings import RunSettings

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

    from trainer.packing.batches import Feed


class Run:
    """The private part of a trial or a production run; `Pack.join` makes them.

    epoch, step: epochs finished and optimizer steps taken.
    settings: what is its own. feed: its photos, which most runs of a pack share.
    effort: Σ over steps of the effective learning rate (brought up to date at the end of an epoch).
    last_loss: mean training loss of the last epoch; NaN before the first one.
    failed: why it cannot go on, or None.
    passed_over: damaged checkpoints, newer than the one it goes on from, in a line each.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        run_dir: Path,
        adapters: Adapters,
        settings: RunSettings,
        steps_per_epoch: int,
        loss_scaling: bool,
        describe: Callable[..., dict[str, str]],
    ) -> None:
        self.feed, self.run_dir, self.adapters, self.settings = feed, Path(run_dir), adapters, settings
        self._steps_per_epoch, self._describe = steps_per_epoch, describe
        learning, schedule = settings.optimizer, settings.schedule
        groups: ParamGroups = [{"params": adapters.parameters("denoiser"), "lr": learning.learning_rate}]
        if adapters.parameters("text_encoder"):
            groups.append({"params": adapters.parameters("text_encoder"), "lr": learning.text_encoder_lr})
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer: Optimizer = build_optimizer(learning, groups, warmup_steps=schedule.warmup_steps)
        self._course = replace(schedule, lr_scheduler="adafactor") if learning.relative_step else schedule
        self._base_rates = [float(group["lr"] or 0.0) for group in self.optimizer.param_groups]
        self._schedule = self._schedule_at(0)
        self._scaler = torch.amp.GradScaler(self.parameters[0].device.type) if loss_scaling else None
        self.epoch = self.step = 0
        self.effort = 0.0
        self.last_loss = math.nan
        self.failed: str | None = None
        self.passed_over: list[str] = []
        self._effort_here: Tensor | float = 0.0
        self._last_rate: Tensor | float | None = None
        self._loss_sum: Tensor | None = None
        self._losses = 0

    @property
    def finished(self) -> bool:
        """Whether it has reached its horizon."""
        return self.epoch >= self.settings.schedule.epochs

    @property
    def due(self) -> bool:
        """Whether the epoch just finished is one that gets a checkpoint."""
        return self.epoch > 0 and (self.epoch % self.settings.output.save_every_n_epochs == 0 or self.finished)

    @property
    def learning_rate(self) -> float:
        """Effective learning rate of the denoiser's adapters at the last step, before the first one (of this sitting)
        at the next (waits for the device under Adafactor with scaled parameters)."""
        return float(effective_learning_rate(self.optimizer) if self._last_rate is None else self._last_rate)

    @property
    def mean_loss(self) -> float:
        """Mean loss of the present epoch so far (waits for the device)."""
        return self.last_loss if self._loss_sum is None else float(self._loss_sum) / self._losses

    def lora_weights(self) -> LoraWeights:
        """The weights to sample, score and deliver: schedule-free AdamW's are its averages."""
        with evaluation_mode(self.optimizer):
            return self.adapters.weights()

    def save(self) -> Path:
        """Writes checkpoints/<epoch>/ under the run's folder: complete or absent. Older states make room.

        Raises:
            TrainerError: the run has failed; its weights are not worth keeping.
        """
        if self.failed is not None:
            raise TrainerError(f"{self.run_dir}: not saved: {self.failed}")
        folder = self.run_dir / "checkpoints"
        path = checkpoint.write_checkpoint(folder, self.epoch, self._write)
        checkpoint.drop_old_states(folder)
        return path

    def resume(self, folder: Path) -> None:
        """Goes on exactly from a checkpoint with state, of this run or of one with the same adapters and optimizer.

        Raises:
            TrainerError: the state is broken, or of other adapters, another optimizer or epochs of another length.
        """
        state = checkpoint.load_state(folder, self.parameters[0].device)
        own = dict(self.adapters.named_parameters())
        saved = state["parameters"]
        if {name: p.shape for name, p in own.items()} != {name: p.shape for name, p in saved.items()}:
            raise TrainerError(f"{folder}: made with other LoRA settings (rank, targets, text encoder)")
        if state["optimizer_class"] != type(self.optimizer).__name__:
            raise TrainerError(f"{folder}: made with {state['optimizer_class']}, not {type(self.optimizer).__name__}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(saved[name])
        if state["step"] != state["epoch"] * self._steps_per_epoch:
            raise TrainerError(
                f"{folder}: {state['step']} steps in {state['epoch']} epochs, but an epoch has {self._steps_per_epoch} "
                "steps here: other photos, or another number of processes"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.effort = state["epoch"], state["step"], state["effort"]
        self.last_loss = state["last_loss"]
        if self._schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
                group["lr"] = rate
            self._schedule = self._schedule_at(self.step)
        if self._scaler is not None and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to go backward from; fp16 gradients are scaled run by run."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def note_loss(self, loss: Tensor) -> None:
        """Adds a batch's loss (0-d, detached) to the epoch's mean, on the device."""
        self._loss_sum = loss.clone() if self._loss_sum is None else self._loss_sum.add_(loss)
        self._losses += 1

    def apply_step(self, row: Tensor | None = None) -> None:
        """One optimizer and schedule step on the gradients at hand.

        Args:
            row: all of them one after the other [n], where they lie so: a hundred small tensors cost more to clip.
        """
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        most = self.settings.optimizer.max_grad_norm
        if most > 0 and row is not None:
            row.mul_((most / (torch.linalg.vector_norm(row) + 1e-6)).clamp_(max=1.0))
        elif most > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters, most)
        if self._scaler is not None:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        else:
            self.optimizer.step()
        self._last_rate = effective_learning_rate(self.optimizer)
        self._effort_here = self._effort_here + self._last_rate
        if self._schedule is not None:
            self._schedule.step()
        self.step += 1

    def finish_epoch(self) -> None:
        """Counts the epoch and waits for the device once: loss, effort, and whether all is still finite."""
        assert self._loss_sum is not None
        norms = torch.stack(torch._foreach_norm([p.detach() for p in self.parameters])).sum()
        report = torch.stack([(self._loss_sum / self._losses).double(), norms.double()]).tolist()
        if not all(map(math.isfinite, report)):
            what = "loss" if not math.isfinite(report[0]) else "weights"
            self.failed = f"the {what} became NaN or infinite in epoch {self.epoch + 1}"
        else:
            self.epoch += 1
        self.last_loss = report[0]
        self.effort += float(self._effort_here)
        self.forget_epoch()

    def forget_epoch(self) -> None:
        """Drops the sums of an epoch begun."""
        self._effort_here, self._loss_sum, self._losses = 0.0, None, 0

    def _schedule_at(self, step: int) -> LambdaLR | None:
        total_steps = self.settings.schedule.epochs * self._steps_per_epoch
        return build_schedule(self.optimizer, self._course, total_steps=total_steps, step=step)

    def _write(self, folder: Path) -> None:
        from trainer.lora.kohya_file import save_lora

        save_lora(folder / checkpoint.LORA_FILE, self.lora_weights(), self._describe(epoch=self.epoch, steps=self.step))
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "effort": self.effort,
            "last_loss": self.last_loss,
            "optimizer_class": type(self.optimizer).__name__,
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
            "parameters": dict(self.adapters.named_parameters()),
        }
        checkpoint.save_state(folder, state)

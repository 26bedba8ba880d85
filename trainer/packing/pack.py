"""The one training loop: K runs share each forward and backward pass of one frozen base; a production run is a pack
of one."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer import checkpoint
from trainer.data.cache import LatentCache
from trainer.errors import ModelError
from trainer.lora.lora import alpha_in_file, create_adapters
from trainer.lora.metadata import build_metadata
from trainer.packing.batches import Feed
from trainer.packing.builder import build_pack_keywords, build_run_keywords, shares_a_pack
from trainer.packing.cpu_tuning import keep_freed_memory, prepack_convolutions
from trainer.packing.distributed import Crew
from trainer.packing.loss import Examples, draw_examples, run_losses
from trainer.packing.packed_layers import PackedLayers
from trainer.packing.training_run import Run

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset
    from trainer.families.family import Base


__all__ = ["Pack", "Run", "build_pack_keywords", "build_run_keywords", "shares_a_pack"]


class Pack:
    """Runs that share forward and backward passes. Everything given here is shared; a run's own is given to `join`.

    Args:
        base: frozen base, resident for as long as the pack lives; between steps it is exactly the base (on a CPU its
            small convolutions then answer single samples through oneDNN, which rounds differently).
        dataset: photos and captions.
        cache_dir: where latents and text embeddings are kept on disk; None keeps them in memory only.
        batch_size: images of each run per pass; gradient_accumulation_steps: passes per optimizer step.
        resolution: (width, height) in pixels, and the buckets' settings.
        seed: data order, timesteps, noise, flips and captions; the same for all runs, so they are paired.
        width, max_rank: fixed number of slots (empty ones are padded) and rank of the stacks, so that a run's result
            does not depend on its neighbours; None fits the pack to those who are in it.
        crew: the processes that share the batches of each epoch, every one with a pack like this; None is this alone.
    """

    def __init__(
        self,
        base: Base,
        dataset: Dataset,
        *,
        cache_dir: Path | None = None,
        cache: LatentCache | None = None,
        batch_size: int = 1,
        gradient_accumulation_steps: int = 1,
        resolution: tuple[int, int] = (512, 512),
        enable_bucket: bool = False,
        bucket_step: int = 64,
        min_bucket_resolution: int = 256,
        max_bucket_resolution: int = 1024,
        flip: bool = False,
        shuffle_caption: bool = False,
        keep_tokens: int = 0,
        caption_dropout: float = 0.0,
        clip_skip: int | None = None,
        train_text_encoder: bool = False,
        gradient_checkpointing: bool = False,
        seed: int = 0,
        width: int | None = None,
        max_rank: int | None = None,
        crew: Crew | None = None,
    ) -> None:
        for module in (base.denoiser, *base.text_encoders):
            module.requires_grad_(False)
        self.base, self.dataset, self.seed = base, dataset, seed
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.train_text_encoder, self.clip_skip = train_text_encoder, clip_skip
        self.gradient_checkpointing = gradient_checkpointing
        self.width, self.max_rank = width, max_rank
        self.crew = crew or Crew(base.device)
        self.feed = Feed(
            base,
            dataset,
            cache or LatentCache(base, cache_dir),
            batch_size=batch_size,
            resolution=resolution,
            enable_bucket=enable_bucket,
            bucket_step=bucket_step,
            min_bucket_resolution=min_bucket_resolution,
            max_bucket_resolution=max_bucket_resolution,
            flip=flip,
            shuffle_caption=shuffle_caption,
            keep_tokens=keep_tokens,
            caption_dropout=caption_dropout,
            clip_skip=clip_skip,
            train_text_encoder=train_text_encoder,
            seed=seed,
        )
        if base.device.type == "cpu":
            keep_freed_memory()
            prepack_convolutions(base.denoiser)
        else:
            base.park(vae=True, text_encoders=not train_text_encoder and not shuffle_caption)
        self.batches_per_epoch = math.ceil(len(self.feed.epoch(0)) / self.crew.size)
        self._described: dict[str, Any] = {
            "seed": seed,
            "resolution": resolution,
            "batch_size": batch_size,
            "gradient_accumulation_steps": gradient_accumulation_steps,
            "enable_bucket": enable_bucket,
            "train_text_encoder": train_text_encoder,
            "clip_skip": clip_skip,
            "caption_dropout": caption_dropout,
            "shuffle_caption": shuffle_caption,
            "keep_tokens": keep_tokens,
            "flip": flip,
            "precision": {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(base.dtype, "fp32"),
            "gradient_checkpointing": gradient_checkpointing,
        }
        self.runs: list[Run] = []
        self._slots: list[Run | None] = []
        self._layers: PackedLayers | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch: ⌈batches of this process ÷ accumulation⌉."""
        return math.ceil(self.batches_per_epoch / self.gradient_accumulation_steps)

    def join(
        self,
        *,
        run_dir: Path,
        rank: int = 16,
        alpha: float | None = None,
        targets: str = "kohya",
        conv_rank: int | None = None,
        conv_alpha: float | None = None,
        dora: bool = False,
        rslora: bool = False,
        optimizer: str = "AdamW",
        learning_rate: float = 1e-4,
        text_encoder_lr: float = 5e-5,
        weight_decay: float | None = None,
        relative_step: bool = False,
        d_coef: float = 1.0,
        optimizer_args: Mapping[str, Any] | None = None,
        max_grad_norm: float = 1.0,
        lr_scheduler: str = "constant",
        num_cycles: float = 1.0,
        warmup_steps: int = 0,
        epochs: int = 10,
        save_every_n_epochs: int = 1,
        min_snr_gamma: float | None = None,
        noise_offset: float = 0.0,
        prior_loss_weight: float = 1.0,
        output_name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        start_from: Path | None = None,
    ) -> Run:
        """A run that trains with the next epoch. It goes on exactly from the newest complete checkpoint under
        `run_dir`/checkpoints; if there is none, from the checkpoint `start_from`, else from epoch 0.

        Args:
            output_name: what WebUIs show; None takes the folder's name.
            metadata: further keys of the LoRA file's metadata.
            start_from: a checkpoint with state, of a run that shares this one's settings up to there.
            Others: fields of TrainConfig; learning rates are absolute.

        Raises:
            ModelError: the run cannot share this pack (DoRA, convolutions), or the pack is full.
            TrainerError: its optimizer cannot run here, or the checkpoint is of other settings.
        """
        adapters = create_adapters(
            self.base,
            rank=rank,
            alpha=float(alpha or rank),
            targets=targets,
            conv_rank=conv_rank,
            conv_alpha=conv_alpha,
            dora=dora,
            rslora=rslora,
            train_text_encoder=self.train_text_encoder,
            seed=self.seed,
        )
        self._check_room(adapters.alone, rank)
        run = Run(
            run_dir=Path(run_dir),
            adapters=adapters,
            optimizer=optimizer,
            learning_rate=learning_rate,
            text_encoder_lr=text_encoder_lr,
            weight_decay=weight_decay,
            relative_step=relative_step,
            d_coef=d_coef,
            optimizer_args=optimizer_args or {},
            max_grad_norm=max_grad_norm,
            lr_scheduler=lr_scheduler,
            num_cycles=num_cycles,
            warmup_steps=warmup_steps,
            epochs=epochs,
            steps_per_epoch=self.steps_per_epoch,
            save_every_n_epochs=save_every_n_epochs,
            min_snr_gamma=min_snr_gamma,
            noise_offset=noise_offset,
            prior_loss_weight=prior_loss_weight,
            loss_scaling=self.base.dtype == torch.float16,
            describe=functools.partial(
                build_metadata,
                self.base,
                self.dataset,
                self.feed.sizes,
                output_name=output_name or Path(run_dir).name,
                rank=rank,
                alpha=alpha_in_file(float(alpha or rank), rank, rslora=rslora),
                rslora=rslora,
                processes=self.crew.size,
                learning_rate=None if relative_step else learning_rate,
                text_encoder_lr=None if relative_step else text_encoder_lr,
                optimizer=optimizer,
                lr_scheduler=lr_scheduler,
                epochs=epochs,
                max_train_steps=epochs * self.steps_per_epoch,
                conv_rank=conv_rank,
                conv_alpha=conv_rank and alpha_in_file(float(conv_alpha or conv_rank), conv_rank, rslora=rslora),
                dora=dora,
                min_snr_gamma=min_snr_gamma,
                noise_offset=noise_offset,
                prior_loss_weight=prior_loss_weight,
                warmup_steps=warmup_steps,
                max_grad_norm=max_grad_norm,
                started_at=time.time(),
                extra=metadata,
                **self._described,
            ),
        )
        found = checkpoint.newest_state(Path(run_dir) / "checkpoints", say=run.passed_over.append) or start_from
        if found is not None:
            run.resume(found)
        self.runs.append(run)
        return run

    def leave(self, run: Run) -> None:
        """Takes a run out, between epochs or, from `train_epoch`'s `on_step`, between steps; the others notice
        nothing. Its weights stay as they are."""
        self.runs.remove(run)
        run.forget_epoch()
        run.optimizer.zero_grad(set_to_none=True)
        if not self.runs:
            self._slots, self._layers = [], None

    def train_epoch(self, on_step: Callable[[Pack], None] | None = None) -> None:
        """All runs that are neither finished nor failed go forward one epoch together.

        Args:
            on_step: called after each optimizer step; it may call `leave`.
        """
        self._checkpoint_activations()
        self._seat([run for run in self.runs if run.failed is None and not run.finished])
        orders = {epoch: self.feed.epoch(epoch) for epoch in {run.epoch for run in self._seated}}
        for first in range(0, self.batches_per_epoch, self.gradient_accumulation_steps):
            batches = range(first, min(first + self.gradient_accumulation_steps, self.batches_per_epoch))
            if not self._seated:
                return
            self._step(batches, orders)
            if on_step is not None:
                on_step(self)
                if any(run not in self.runs for run in self._seated):
                    self._seat([run for run in self._seated if run in self.runs])
        for run in self._seated:
            run.finish_epoch()

    @property
    def _seated(self) -> list[Run]:
        return [run for run in self._slots if run is not None]

    def _step(self, batches: range, orders: Mapping[int, Sequence[Sequence[int]]]) -> None:
        assert self._layers is not None
        layers, seated = self._layers, self._seated
        layers.refresh()
        layers.clear_gradients()
        with layers.active():
            for batch in batches:
                losses = self._losses(batch, orders)
                total = torch.stack([run.scale(loss) for run, loss in zip(seated, losses, strict=True)]).sum()
                (total / len(batches)).backward()
                for run, loss in zip(seated, losses.detach(), strict=True):
                    run.note_loss(loss)
        layers.collect_gradients()
        for run in seated:
            self.crew.average_gradients(run.parameters)
        for run in seated:
            run.apply_step(layers.row_of_gradients)

    def _losses(self, batch: int, orders: Mapping[int, Sequence[Sequence[int]]]) -> Tensor:
        """Each seated run's loss [K] on batch number `batch` of its own epoch, with gradients."""
        examples: dict[tuple[Any, ...], Examples] = {}
        batch = batch * self.crew.size + self.crew.rank  # this process's share, numbered over all of them
        batches = {epoch: self.feed.batch(order[batch % len(order)], epoch, batch) for epoch, order in orders.items()}
        rows, keys = [run if run is not None else self._seated[0] for run in self._slots], []
        for run in rows:
            settings = (run.min_snr_gamma, run.noise_offset, run.prior_loss_weight)
            keys.append((run.epoch, *settings))
            if keys[-1] in examples:
                continue
            photos = batches[run.epoch]
            examples[keys[-1]] = draw_examples(
                self.base,
                photos.mean,
                photos.std,
                photos.prior,
                seed=self.seed,
                epoch=run.epoch,
                batch=batch,
                min_snr_gamma=settings[0],
                noise_offset=settings[1],
                prior_loss_weight=settings[2],
            )
        drawn = [examples[key] for key in keys]
        conditioning = _stack([batches[run.epoch].conditioning for run in rows])
        if self.train_text_encoder:
            prompts = [caption for run in rows for caption in batches[run.epoch].captions]
            conditioning |= self.base.family.encode_prompts(self.base, prompts, self.clip_skip)
        prediction = self.base.family.predict(
            self.base,
            torch.cat([part.noisy for part in drawn]),
            torch.cat([part.timesteps for part in drawn]),
            conditioning,
        )
        target, weight = torch.cat([part.target for part in drawn]), torch.cat([part.weight for part in drawn])
        losses = run_losses(prediction, target, weight, len(rows))
        if len(self._seated) == len(rows):
            return losses
        return losses[[slot for slot, run in enumerate(self._slots) if run is not None]]

    def _seat(self, runs: list[Run]) -> None:
        """Gives runs their slots; with a fixed width a run keeps its slot for as long as it is there."""
        if self.width is None:
            slots: list[Run | None] = list(runs)
        else:
            slots = [run if run in runs else None for run in self._slots] or [None] * self.width
            for run in runs:
                if run not in slots:
                    slots[slots.index(None)] = run
        if slots != self._slots or self._layers is None:
            for run in self.runs:
                run.optimizer.zero_grad(set_to_none=True)
            self._slots = slots
            members = [None if run is None else run.adapters for run in slots]
            self._layers = PackedLayers(self.base, members, max_rank=self.max_rank) if runs else None

    def _check_room(self, alone: str | None, rank: int) -> None:
        others = [run for run in self.runs if not run.finished and run.failed is None]
        if others and (alone or others[0].adapters.alone):
            raise ModelError(f"{alone or others[0].adapters.alone} cannot share a pack yet; train such a run alone")
        if self.width is not None and len(others) >= self.width:
            raise ModelError(f"the pack is full: its width is {self.width}")
        if self.max_rank is not None and rank > self.max_rank:
            raise ModelError(f"rank {rank} is above the pack's max_rank {self.max_rank}")

    def _checkpoint_activations(self) -> None:
        denoiser: Any = self.base.denoiser
        if self.gradient_checkpointing:
            denoiser.enable_gradient_checkpointing()
        elif getattr(denoiser, "is_gradient_checkpointing", False):
            denoiser.disable_gradient_checkpointing()


def _stack(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

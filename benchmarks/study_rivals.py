"""A study as people write it themselves, with Optuna, diffusers and peft: what `benchmarks.study` compares with.

python -m benchmarks.study_rivals worker WORK resident|process SLOT   asks Optuna for trials until there are enough
python -m benchmarks.study_rivals trial WORK NUMBER SETTINGS       one trial in a process of its own

WORK holds `task.json` (see `Task`), the trials and Optuna's storage. A trial trains a LoRA by diffusers' text-to-image
example, draws the probe at each checkpoint through the pipeline, scores the images by `metrics`, as anybody could who
has it, and keeps each checkpoint. `process` trains each trial to its end in a process of its own; `resident` keeps the
models loaded and prunes by Optuna's MedianPruner.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

BASE = Path(__file__).parent.parent / "studies" / "demo" / "base"
CLIP = BASE.parent / "clip"
SIDE, STEPS, GUIDANCE = 64, 6, 3.0  # of the demo study's probe


@dataclass(frozen=True)
class Task:
    """What a rival is given.

    Attributes:
        trials, startup: how many, and how many of them before the pruner says anything.
        epochs: how far a constant run goes; horizons: to choose from for the other schedules.
        every: epochs between checkpoints.
        batch: photos of a step. scales: from and to, times an optimizer's usual rate. start: settings tried first.
        photos, captions: all files in the order of the probe's rows. trained: rows to train on.
        probe: fields of `ProbeLabels`.
        seed: of Optuna and training.
    """

    trials: int
    startup: int
    epochs: int
    horizons: tuple[int, ...]
    every: int
    batch: int
    scales: tuple[float, float]
    start: tuple[dict[str, Any], ...]
    photos: tuple[str, ...]
    captions: tuple[str, ...]
    trained: tuple[int, ...]
    probe: dict[str, list[Any]]
    seed: int = 0

    @classmethod
    def load(cls, work: Path) -> Task:
        return cls(**json.loads((work / "task.json").read_text()))

    def save(self, work: Path) -> None:
        (work / "task.json").write_text(json.dumps(asdict(self)))


def ask(trial: Any, task: Task) -> dict[str, Any]:
    """The demo study's space, written by hand."""
    scheduler = trial.suggest_categorical("lr_scheduler", ["constant", "cosine", "cosine_with_restarts", "adafactor"])
    settings = {"lr_scheduler": scheduler, "optimizer": "Adafactor", "epochs": task.epochs}
    if scheduler in ("cosine", "cosine_with_restarts"):
        settings["epochs"] = trial.suggest_categorical("epochs", list(task.horizons))
    if scheduler != "adafactor":
        settings["optimizer"] = trial.suggest_categorical(
            "optimizer", ["AdamW", "AdamW8bit", "Adafactor", "Lion", "Prodigy"]
        )
        if settings["optimizer"] == "Prodigy":
            settings["d_coef"] = trial.suggest_float("d_coef", 0.5, 4, log=True)
        else:
            settings["learning_rate_scale"] = trial.suggest_float("learning_rate_scale", *task.scales, log=True)
    settings["rank"] = trial.suggest_categorical("rank", [4, 8, 16])
    settings["alpha_ratio"] = trial.suggest_categorical("alpha_ratio", [0.25, 0.5, 1.0])
    return settings


class Plain:
    """The models, loaded once, and what trains and judges with them."""

    def __init__(self, task: Task) -> None:
        import torch
        from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline

        self.task = task
        self.pipeline = StableDiffusionPipeline.from_pretrained(BASE, safety_checker=None, dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self.noise = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self.pipeline.scheduler = DPMSolverMultistepScheduler.from_config(self.pipeline.scheduler.config)
        for part in (self.pipeline.unet, self.pipeline.vae, self.pipeline.text_encoder):
            part.requires_grad_(False)

    @cached_property
    def calibration(self) -> Any:
        from PIL import Image

        from metrics.checkpoint.encoders import load_encoder
        from metrics.checkpoint.score import ProbeLabels, calibrate

        labels = ProbeLabels(**{name: tuple(values) for name, values in self.task.probe.items()})
        photos = [np.asarray(Image.open(path).convert("RGB")) for path in self.task.photos]
        trained = [row in self.task.trained for row in range(len(photos))]
        return calibrate(photos, trained, self.draw(), labels, load_encoder(str(CLIP)), base_losses=None)

    def draw(self, prompts: list[str] | None = None, seeds: list[int] | None = None) -> np.ndarray:
        """uint8 [N, 64, 64, 3] of these prompts, the probe's where none are given, by the LoRA that is loaded."""
        import torch

        prompts, seeds = prompts or self.task.probe["prompts"], seeds or self.task.probe["seeds"]
        found = []
        for start in range(0, len(prompts), 16):
            generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds[start : start + 16]]
            found.append(
                self.pipeline(
                    prompts[start : start + 16], num_inference_steps=STEPS, guidance_scale=GUIDANCE,
                    height=SIDE, width=SIDE, generator=generators, output_type="np",
                ).images
            )  # fmt: skip
        return (np.concatenate(found) * 255).round().astype(np.uint8)

    def score(self, epoch: int) -> float:
        from metrics.checkpoint.score import read_checkpoint

        return float(read_checkpoint(self.calibration, epoch=epoch, effort=1.0, images=self.draw()).score)

    def train(self, settings: dict[str, Any], folder: Path, looked: Callable[[int, float], None]) -> tuple[float, int]:
        """(best score, its epoch). `looked(epoch, score)` may raise to end it."""
        import torch
        from peft import LoraConfig, get_peft_model_state_dict
        from safetensors.torch import save_file

        from trainer.families.unet import lora_targets

        torch.manual_seed(self.task.seed)
        assert self.calibration is not None  # of the base, before it gets a LoRA
        unet = self.pipeline.unet
        rank = settings["rank"]
        unet.add_adapter(
            LoraConfig(
                r=rank, lora_alpha=rank * settings["alpha_ratio"], init_lora_weights="gaussian",
                target_modules=lora_targets(unet, "kohya", False),
            )
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        best = (-1.0, 0)
        try:
            steps = self._steps(unet, settings)
            for epoch in range(1, settings["epochs"] + 1):
                unet.train()
                for _ in range(0, len(self.task.trained), self.task.batch):
                    next(steps)
                if epoch % self.task.every == 0 or epoch == settings["epochs"]:
                    unet.eval()
                    state = {name: value.contiguous() for name, value in get_peft_model_state_dict(unet).items()}
                    save_file(state, folder / f"{epoch:04d}.safetensors")
                    value = self.score(epoch)
                    best = max(best, (value, epoch))
                    looked(epoch, value)
        finally:
            self.unload()
        return best

    def load(self, file: Path, rank: int, alpha_ratio: float) -> None:
        """A trial's checkpoint into the pipeline, until `unload`."""
        from peft import LoraConfig, set_peft_model_state_dict
        from safetensors.torch import load_file

        from trainer.families.unet import lora_targets

        unet = self.pipeline.unet
        targets = lora_targets(unet, "kohya", False)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank * alpha_ratio, target_modules=targets))
        set_peft_model_state_dict(unet, load_file(file))
        unet.eval()

    def unload(self) -> None:
        self.pipeline.unet.delete_adapters("default")
        self.pipeline.unet.unload_lora()

    def _steps(self, unet: Any, settings: dict[str, Any]) -> Iterator[None]:
        import torch
        from PIL import Image
        from torch.nn import functional
        from torchvision.transforms.functional import to_tensor

        vae, text, tokenizer = self.pipeline.vae, self.pipeline.text_encoder, self.pipeline.tokenizer
        rows = self.task.trained
        pixels = [to_tensor(Image.open(self.task.photos[row]).convert("RGB")) * 2 - 1 for row in rows]
        tokens = tokenizer(
            [self.task.captions[row] for row in rows], padding="max_length", max_length=tokenizer.model_max_length,
            truncation=True, return_tensors="pt",
        ).input_ids  # fmt: skip
        parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        photos, batch = torch.stack(pixels), self.task.batch
        optimizer, schedule = _optimizer(parameters, settings, settings["epochs"] * ceil(len(photos) / batch))
        while True:
            for chosen in torch.randperm(len(photos)).split(batch):
                with torch.no_grad():
                    latents = vae.encode(photos[chosen]).latent_dist.sample() * vae.config.scaling_factor
                    states = text(tokens[chosen])[0]
                noise = torch.randn_like(latents)
                timesteps = torch.randint(0, self.noise.config.num_train_timesteps, (len(chosen),))
                noisy = self.noise.add_noise(latents, noise, timesteps)
                target = noise
                if self.noise.config.prediction_type == "v_prediction":
                    target = self.noise.get_velocity(latents, noise, timesteps)
                loss = functional.mse_loss(unet(noisy, timesteps, states).sample, target)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                yield


def _optimizer(parameters: list[Any], settings: dict[str, Any], steps: int) -> tuple[Any, Any]:
    import torch
    from diffusers.optimization import get_scheduler
    from transformers.optimization import Adafactor, AdafactorSchedule

    from trainer.optimization.optimizers import OPTIMIZERS

    name = settings["optimizer"]
    if settings["lr_scheduler"] == "adafactor":
        optimizer: Any = Adafactor(parameters, scale_parameter=True, relative_step=True, warmup_init=False, lr=None)
        return optimizer, AdafactorSchedule(optimizer)
    rate = settings.get("learning_rate_scale", 1.0) * OPTIMIZERS[name].learning_rate
    if name == "AdamW":
        optimizer = torch.optim.AdamW(parameters, lr=rate)
    elif name == "AdamW8bit":
        from bitsandbytes.optim import AdamW8bit

        optimizer = AdamW8bit(parameters, lr=rate)
    elif name == "Adafactor":
        optimizer = Adafactor(parameters, lr=rate, relative_step=False, scale_parameter=False, warmup_init=False)
    elif name == "Lion":
        from pytorch_optimizer import Lion

        optimizer = Lion(parameters, lr=rate)
    else:
        from pytorch_optimizer import Prodigy

        optimizer = Prodigy(parameters, lr=1.0, d_coef=settings["d_coef"])
    cycles = {"num_cycles": 2} if settings["lr_scheduler"] == "cosine_with_restarts" else {}
    schedule = get_scheduler(
        settings["lr_scheduler"], optimizer, num_warmup_steps=0, num_training_steps=steps, **cycles
    )
    return optimizer, schedule


def open_study(work: Path, task: Task, kind: str, slot: int = 0) -> Any:
    """The Optuna study of a rival, made where it is not there; workers of the same seed would ask for the same."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=task.startup) if kind == "resident" else None
    return optuna.create_study(
        study_name=kind, storage=f"sqlite:///{work / 'optuna.db'}", direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=task.seed + slot, n_startup_trials=task.startup),
        pruner=pruner or optuna.pruners.NopPruner(),
    )  # fmt: skip


def work_on(work: Path, kind: str, slot: int) -> None:
    """One worker: trials until there are enough."""
    import optuna

    task = Task.load(work)
    plain = Plain(task) if kind == "resident" else None

    def objective(trial: optuna.Trial) -> float:
        settings = ask(trial, task)
        trial.set_user_attr("settings", settings)
        if plain is None:
            command = [sys.executable, "-m", "benchmarks.study_rivals", "trial", str(work), str(trial.number)]
            subprocess.run([*command, json.dumps(settings)], check=True)
            told = json.loads((work / f"{trial.number}" / "told.json").read_text())
            trial.set_user_attr("epoch", told["epoch"])
            return float(told["score"])

        def looked(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        score, epoch = plain.train(settings, work / f"{trial.number}", looked)
        trial.set_user_attr("epoch", epoch)
        return score

    study = open_study(work, task, kind, slot)
    # those that run count, too: with the last one running nobody asks for more
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.RUNNING)
    study.optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(task.trials, states=states)])


def main(arguments: list[str]) -> int:
    what, work = arguments[0], Path(arguments[1])
    if what == "worker":
        work_on(work, arguments[2], int(arguments[3]))
        return 0
    number, settings = arguments[2], json.loads(arguments[3])
    score, epoch = Plain(Task.load(work)).train(settings, work / number, lambda epoch, score: None)
    (work / number / "told.json").write_text(json.dumps({"score": score, "epoch": epoch}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Packs of the tiny base, and the same runs alone as peft, an optimizer and a loop would train them by hand."""

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.optim import AdamW8bit
from diffusers.optimization import get_scheduler
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.nn import functional as F
from transformers.optimization import Adafactor

from tests.trainer import packs
from tests.trainer.packs import create_adapters
from trainer.base_model.load import load_base
from trainer.data.dataset import Dataset
from trainer.families.family import Base
from trainer.lora.lora import ADAPTER
from trainer.packing.loss import draw_examples
from trainer.packing.pack import Pack
from trainer.packing.settings import LossSettings
from trainer.packing.training_run import Run

STEPS_PER_EPOCH = 4  # 8 photos × 2 repeats ÷ 4


@dataclass(frozen=True)
class Spec:
    """A run, and how a person would build its optimizer by hand."""

    keywords: dict[str, Any]
    by_hand: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    schedule: tuple[str, dict[str, Any]] = ("constant", {})
    clip: float = 1.0
    targets: str = field(default="kohya")


SPECS = [
    Spec(
        {"rank": 4, "alpha": 2.0, "optimizer": "AdamW", "learning_rate": 1e-3, "max_grad_norm": 0.05},
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01),
        clip=0.05,
    ),
    Spec(
        {"rank": 8, "alpha": 8.0, "optimizer": "Adafactor", "learning_rate": 1e-3, "max_grad_norm": 0.0,
         "lr_scheduler": "cosine"},
        lambda p: Adafactor(p, lr=1e-3, relative_step=False, scale_parameter=False),
        schedule=("cosine", {"num_warmup_steps": 0}),
        clip=0.0,
    ),
    Spec(
        {"rank": 3, "alpha": 3.0, "optimizer": "AdamW", "learning_rate": 3e-3, "lr_scheduler": "cosine_with_restarts",
         "num_cycles": 3.0, "warmup_steps": 2, "targets": "attention"},
        lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.01),
        schedule=("cosine_with_restarts", {"num_warmup_steps": 2, "num_cycles": 3}),
        targets="attention",
    ),
    Spec(
        {"rank": 6, "alpha": 1.0, "optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor",
         "max_grad_norm": 0.0},
        lambda p: Adafactor(p, relative_step=True),
        clip=0.0,
    ),
    Spec(
        {"rank": 8, "alpha": 4.0, "optimizer": "AdamW", "learning_rate": 1e-4, "weight_decay": 0.1,
         "lr_scheduler": "linear"},
        lambda p: torch.optim.AdamW(p, lr=1e-4, weight_decay=0.1),
        schedule=("linear", {"num_warmup_steps": 0}),
    ),
]  # fmt: skip


EIGHT_BIT = Spec(
    {"rank": 5, "alpha": 5.0, "optimizer": "AdamW8bit", "learning_rate": 1e-4, "optimizer_args": {"min_8bit_size": 64}},
    lambda p: AdamW8bit(p, lr=1e-4, weight_decay=0.01, min_8bit_size=64),
)


HORIZON = 5  # epochs


def base_in(folder: Path, dtype: torch.dtype, device: str = "cpu") -> Base:
    """A base of one's own; each is loaded once in a process."""
    return copy.deepcopy(_loaded(folder, dtype, device))


@functools.cache
def _loaded(folder: Path, dtype: torch.dtype, device: str) -> Base:
    base = load_base(folder, device=device)
    for module in (base.denoiser, *base.text_encoders):
        nn.Module.to(module, dtype)
    base.dtype = dtype
    return base


def new_pack(base: Base, dataset: Dataset, *, batch_size: int = 4, **keywords: Any) -> Pack:
    return packs.new_pack(base, dataset, batch_size=batch_size, resolution=(32, 32), **keywords)


def alone_under_peft(
    folder: Path, dtype: torch.dtype, dataset: Dataset, spec: Spec, device: str = "cpu"
) -> Iterator[dict[str, torch.Tensor]]:
    """The documented recipe: peft's own layers in the UNet, one optimizer, diffusers' schedule. Parameters after each
    step."""
    base = base_in(folder, dtype, device)
    feed = new_pack(base, dataset).feed
    start = create_adapters(base, rank=spec.keywords["rank"], alpha=spec.keywords["alpha"], targets=spec.targets)
    config = LoraConfig(
        r=spec.keywords["rank"],
        lora_alpha=spec.keywords["alpha"],
        target_modules=[path for _, path in start.layers],
    )
    unet = inject_adapter_in_model(config, base.denoiser)
    ours = {path: layer for (_, path), layer in start.layers.items()}
    parameters: dict[str, nn.Parameter] = {}
    for path, layer in ours.items():
        peft_layer = unet.get_submodule(path)
        for name, half, own in (("down", peft_layer.lora_A, layer.lora_A), ("up", peft_layer.lora_B, layer.lora_B)):
            half.to(dtype)
            half[ADAPTER].weight.data.copy_(own[ADAPTER].weight.data)
            parameters[f"denoiser.{path}.{name}"] = half[ADAPTER].weight
    optimizer = spec.by_hand(list(parameters.values()))
    relative = spec.keywords.get("relative_step", False)
    name, more = spec.schedule
    total = HORIZON * STEPS_PER_EPOCH
    schedule = None if relative else get_scheduler(name, optimizer, num_training_steps=total, **more)
    for step in range(total):
        epoch, place = divmod(step, STEPS_PER_EPOCH)
        batch = feed.batch(feed.photo_pass(epoch)[place], epoch, place)
        drawn = draw_examples(
            base, batch.mean, batch.std, batch.prior, settings=LossSettings(), seed=0, epoch=epoch, batch=place
        )
        prompt_embeds = batch.conditioning["prompt_embeds"].to(dtype)
        prediction = unet(drawn.noisy, drawn.timesteps, encoder_hidden_states=prompt_embeds).sample
        F.mse_loss(prediction, drawn.target).backward()
        if spec.clip:
            nn.utils.clip_grad_norm_(parameters.values(), spec.clip)
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            schedule.step()
        yield {name: parameter.detach().clone() for name, parameter in parameters.items()}


def after(steps: int, run: Iterator[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The parameters after so many more steps."""
    return next(islice(run, steps - 1, None))


def parameters_of(run: Run) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in run.adapters.named_parameters()}


def assert_close(run: Run, expected: dict[str, torch.Tensor], tolerance: float, *, flips: float = 0.0) -> None:
    """`flips`: share of values whose 8-bit state may lie a quantisation step off (a last-bit difference decides)."""
    found = parameters_of(run)
    assert found.keys() == expected.keys()
    errors = torch.cat([(found[name] - expected[name]).abs().flatten() for name in expected])
    assert float((errors > tolerance).double().mean()) <= flips
    assert float(errors.max()) <= (1e-4 if flips else tolerance)
    assert any(bool(value.any()) for name, value in expected.items() if name.endswith(".up"))


def train(pack: Pack, steps: int) -> None:
    """Whole epochs, then a part of one."""
    epochs, rest = divmod(steps, STEPS_PER_EPOCH)
    for _ in range(epochs):
        pack.train_epoch()
    if not rest:
        return
    done = 0

    def stop(pack: Pack) -> None:
        nonlocal done
        done += 1
        if done == rest:
            for run in list(pack.runs):
                pack.leave(run)

    pack.train_epoch(stop)

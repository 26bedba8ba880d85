"""One training stage in a box of minutes or steps: schedule, average weights, progress, checkpoints to resume from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Box:
    """A stage ends after so many minutes of its own training time, summed over resumptions, or after so many steps."""

    minutes: float
    steps: int | None = None

    def fraction(self, step: int, seconds: float) -> float:
        return min(1.0, step / self.steps if self.steps else seconds / (60 * self.minutes))


def finished(name: str, work: Path, box: Box) -> bool:
    """Whether the stage's checkpoint says that its box is full."""
    file = work / f"{name}.pt"
    if not file.exists():
        return False
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return box.fraction(state["step"], state["seconds"]) >= 1


def train(
    name: str,
    work: Path,
    box: Box,
    module: nn.Module,
    loss: Callable[[nn.Module, torch.Generator], Tensor],
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    average: float = 0.998,
    seed: int = 0,
    save_every_seconds: float = 60.0,
    device: torch.device,
) -> nn.Module:
    """Minimises `loss(module, generator)`; returns the running average of the weights (on `device`, in eval mode).

    The generator is seeded anew for each step, so a resumed run takes the very steps an uninterrupted one takes
    (in a box of steps; in a box of minutes the schedule follows the clock)."""
    cuda = device.type == "cuda"
    module.to(device).train()
    averaged = deepcopy(module).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=cuda
    )
    file, step, seconds = work / f"{name}.pt", 0, 0.0
    if file.exists():
        state = torch.load(file, map_location=device, weights_only=True)
        module.load_state_dict(state["module"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        print(f"{name}: goes on from step {step} ({seconds / 60:.1f} min)", flush=True)
    pairs = list(zip(averaged.parameters(), module.parameters(), strict=True))
    targets, sources = [a for a, _ in pairs], [p for _, p in pairs]
    generator = torch.Generator(device)

    def save() -> None:
        work.mkdir(parents=True, exist_ok=True)
        state = {"module": module.state_dict(), "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict(),
                 "step": step, "seconds": seconds}  # fmt: skip
        torch.save(state, file.with_suffix(".part"))
        os.replace(file.with_suffix(".part"), file)

    saved = shown = last = time.perf_counter()
    total, counted = torch.zeros((), device=device), 0
    first = step
    while (done := box.fraction(step, seconds)) < 1:
        warm = min(1.0, (step + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        generator.manual_seed(seed * 10_000_019 + step)
        value = loss(module, generator)
        value.backward()
        torch.nn.utils.clip_grad_norm_(sources, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(average, (1 + step) / (10 + step))
            torch._foreach_lerp_(targets, sources, 1 - keep)
        step += 1
        total, counted = total + value.detach(), counted + 1
        if cuda and step % 50 == 0:
            torch.cuda.synchronize()
        now = time.perf_counter()
        seconds, last = seconds + now - last, now
        if now - shown > 15:
            rate = step / max(seconds, 1e-9)
            mean = total.item() / counted
            print(f"{name}: {100 * done:3.0f} %  step {step}  loss {mean:.4f}  {rate:.1f} steps/s", flush=True)
            shown, total, counted = now, torch.zeros((), device=device), 0
        if now - saved > save_every_seconds:
            save()
            saved = last = time.perf_counter()
    if step > first or not file.exists():
        save()
    print(f"{name}: done  step {step}  {seconds / 60:.1f} min", flush=True)
    for target, source in zip(averaged.buffers(), module.buffers(), strict=True):
        target.copy_(source)
    return averaged

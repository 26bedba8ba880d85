"""Learning-rate schedules by name, from diffusers, placed at any step of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class ScheduleSettings:
    """The course of the learning rate over the horizon; `build_schedule` acts on it."""

    lr_scheduler: str = "constant"
    """diffusers' name of the course, or "adafactor" where the optimizer sets its own rate."""
    num_cycles: float = 1.0
    """Cycles of cosine_with_restarts, above 0; not whole when the horizon ends within a cycle."""
    warmup_steps: int = 0
    """Optimizer steps over which the rate rises from 0."""
    epochs: int = 10
    """The horizon: epochs that the course is laid out for, 1 or more."""


def build_schedule(
    optimizer: Optimizer, settings: ScheduleSettings, *, total_steps: int, step: int = 0
) -> LambdaLR | None:
    """The schedule over `optimizer`, as it stands after `step` optimizer steps; None where the optimizer sets its own
    rate ("adafactor").

    Args:
        total_steps: optimizer steps of the whole horizon.
        step: steps already taken; rates are closed forms of it, so a resumed schedule goes on exactly.
    """
    if settings.lr_scheduler == "adafactor":
        # transformers' AdafactorSchedule only reports the optimizer's own rate: `effective_learning_rate` does
        return None
    from diffusers.optimization import get_scheduler

    for group in optimizer.param_groups:
        group.pop("initial_lr", None)
    # diffusers' polynomial starts from the defaults, which need not be the groups' (Adafactor's are None)
    optimizer.defaults["lr"] = optimizer.param_groups[0]["lr"]
    schedule = get_scheduler(
        settings.lr_scheduler,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=total_steps,
        num_cycles=settings.num_cycles,  # the closed form takes parts of a cycle
    )
    if step:
        schedule.last_epoch = step
        rates = [base * course(step) for base, course in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates
    return schedule


def learning_rates(settings: ScheduleSettings, *, learning_rate: float, total_steps: int) -> list[float]:
    """The rate in force at each of `total_steps` optimizer steps (not for "adafactor"). Two runs that share a prefix of
    this list share that part of their training."""
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=learning_rate)
    schedule = build_schedule(optimizer, settings, total_steps=total_steps)
    if schedule is None:
        raise ValueError("adafactor's rate depends on the weights")
    course = schedule.lr_lambdas[0]
    return [learning_rate * float(course(step)) for step in range(total_steps)]

"""How the run that ships ends: with which epoch's LoRA, and whether training goes on behind it."""

from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any

from trainer.config.rules import FLAT_SCHEDULERS

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig

_WITH_HORIZON = {
    "linear": "get_linear_schedule_with_warmup",
    "cosine": "get_cosine_schedule_with_warmup",
    "cosine_with_restarts": "get_cosine_with_hard_restarts_schedule_with_warmup",
    "polynomial": "get_polynomial_decay_schedule_with_warmup",
}
"""The functions of `diffusers.optimization` that sd-scripts' schedules are."""


@dataclass(frozen=True)
class Ending:
    """The end of a production run.

    Attributes:
        epoch: the epoch to ship; None ships the last one.
        go_on: train to the horizon all the same, to compare.
        steps_per_epoch: optimizer steps; needed where training ends before a horizon that the schedule follows, and
            where an epoch is no pass over the photos.
        steps_per_pass: those of a pass over the photos, where an epoch is none.
    """

    epoch: int | None = None
    go_on: bool = False
    steps_per_epoch: int = 0
    steps_per_pass: int = 0

    def last_epoch(self, config: "TrainConfig") -> int:
        """The epoch at which training ends."""
        return config.epochs if self.epoch is None or self.go_on else min(self.epoch, config.epochs)

    def to_the_horizon(self, config: "TrainConfig") -> "Ending":
        """The same for a trainer whose schedules end with its training: it goes on to the end of the schedule."""
        cut = self.last_epoch(config) < config.epochs and config.lr_scheduler not in FLAT_SCHEDULERS
        return replace(self, go_on=True) if cut and not config.relative_step else self

    def needs_copy(self, config: "TrainConfig") -> bool:
        """Whether sd-scripts, which names the last epoch's file after the run, ends with another than the one to
        ship."""
        return self.epoch is not None and self.epoch < self.last_epoch(config)


def saved_every(config: "TrainConfig", ending: Ending) -> int:
    """`save_every_n_epochs` such that the epoch to ship is among those saved."""
    if not ending.needs_copy(config):
        return config.save_every_n_epochs
    return gcd(config.save_every_n_epochs, ending.epoch or 0)


def saved_as(config: "TrainConfig", name: str, epoch: int) -> str:
    """What sd-scripts calls the file of an epoch on the way: by its step where an epoch is no pass over the photos."""
    if config.steps_per_epoch is None:
        return f"{name}-{epoch:06d}.safetensors"
    return f"{name}-step{epoch * config.steps_per_epoch:08d}.safetensors"


def schedule(config: "TrainConfig", ending: Ending, num_cycles: int) -> dict[str, Any]:
    """sd-scripts' options of the schedule.

    sd-scripts lays a schedule out over the epochs that it trains. A run that ends before its horizon takes the very
    function of that schedule by name, with the horizon's steps (`lr_scheduler_type` goes before `lr_scheduler`).
    """
    if config.relative_step:
        return {"lr_scheduler": "adafactor", "lr_warmup_steps": 0}
    own_warmup = config.optimizer == "AdamWScheduleFree"
    values: dict[str, Any] = {
        "lr_scheduler": config.lr_scheduler,
        "lr_warmup_steps": 0 if own_warmup else config.warmup_steps,
    }
    if config.lr_scheduler == "cosine_with_restarts":
        values["lr_scheduler_num_cycles"] = num_cycles
    if config.lr_scheduler in FLAT_SCHEDULERS or ending.last_epoch(config) == config.epochs:
        return values
    function, arguments = horizon_schedule(config, ending, num_cycles)
    return values | {
        "lr_warmup_steps": 0,  # sd-scripts refuses another beside lr_scheduler_type
        "lr_scheduler_type": function,
        "lr_scheduler_args": [f"{key}={value}" for key, value in arguments.items()],
    }


def horizon_schedule(config: "TrainConfig", ending: Ending, num_cycles: float) -> tuple[str, dict[str, float]]:
    """The function of `diffusers.optimization` that a schedule with a horizon is, and its keywords, the steps of the
    whole horizon among them: for trainers that lay a schedule out over the epochs they train."""
    arguments: dict[str, float] = {
        "num_warmup_steps": config.warmup_steps,
        "num_training_steps": config.epochs * ending.steps_per_epoch,
    }
    if config.lr_scheduler == "cosine_with_restarts":
        arguments["num_cycles"] = num_cycles
    return f"diffusers.optimization.{_WITH_HORIZON[config.lr_scheduler]}", arguments

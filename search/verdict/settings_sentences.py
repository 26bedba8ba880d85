"""A training's settings in a line."""

from search.record.record import TrialRecord
from trainer.config.config import TrainConfig
from trainer.config.rules import SELF_TUNING


def settings_of(record: TrialRecord) -> str:
    """What a trial was trained with in one line; of a run that was finished before, what its files say."""
    return settings(record.config) if record.finished_run is None else record.finished_run.settings


def settings(config: TrainConfig) -> str:
    """A config in one line: optimizer, learning rate, schedule, rank and alpha, what is trained."""
    parts = [str(config.optimizer)]
    if config.relative_step:
        parts.append("sets its own learning rate")
    else:
        parts.append(f"learning rate {config.effective_learning_rate:.2g}")
    if config.optimizer in SELF_TUNING and config.d_coef != 1.0:
        parts.append(f"d_coef {config.d_coef:.3g}")
    schedule = str(config.lr_scheduler)
    if schedule == "cosine_with_restarts":
        if config.cycle_epochs:
            schedule += f" every {config.cycle_epochs} epochs"
        elif config.num_cycles:
            schedule += f", {_cycles(config.num_cycles)}"
    parts += [schedule, f"rank {config.rank}", f"alpha {config.effective_alpha:.3g}"]
    if config.targets == "attention":
        parts.append("attention only")
    if config.steps_per_epoch is not None:
        parts.append(f"epochs of {config.steps_per_epoch} steps")
    for on, words in (
        (config.dora, "DoRA"),
        (config.rslora, "rank-stabilised"),
        (config.train_text_encoder, "text encoder too"),
    ):
        if on:
            parts.append(words)
    return ", ".join(parts)


def leave_epochs(horizon: int, ship: int | None) -> str:
    """Why `epochs` stays as it is in a train.yaml whose schedule is not flat, and where training ends all the same.

    Args:
        horizon: `epochs`. ship: the epoch to ship, where training ends; None: it goes on to the horizon.
    """
    ends = "" if ship in (None, horizon) else f" Training stops after epoch {ship} by itself."
    return f"Leave epochs at {horizon} in train.yaml: the learning rate is planned over {horizon} epochs.{ends}"


def _cycles(number: int) -> str:
    return f"{number} cycle" + ("" if number == 1 else "s")

"""Cells of the table of trials: what is shown and what it is sorted by."""

from search.record.record import TrialRecord
from trainer.config.config import TrainConfig


def training(record: TrialRecord) -> list[tuple[str, object]]:
    """Optimizer, rate and schedule; of a run that was finished before they are not known for sure."""
    if record.finished_run is not None:
        return [("–", None)] * 3
    config = record.config
    return [(config.optimizer, config.optimizer), _rate(config), (_schedule(config), _schedule(config))]


def alpha(record: TrialRecord) -> tuple[str, float | None]:
    if record.finished_run is not None and "alpha" not in record.finished_run.settings:
        return "–", None
    return f"{record.config.effective_alpha:.3g}", record.config.effective_alpha


def _rate(config: TrainConfig) -> tuple[str, float | None]:
    if config.relative_step:
        return "its own", None
    return f"{config.effective_learning_rate:.2g}", config.effective_learning_rate


def _schedule(config: TrainConfig) -> str:
    name = str(config.lr_scheduler)
    if name == "cosine_with_restarts":
        return f"{name} / {config.cycle_epochs}" if config.cycle_epochs else f"{name} × {config.num_cycles or 1}"
    return name

"""Cells of the table of trials: what is shown and what it is sorted by."""

from markupsafe import Markup

from search.record.curve import Curve
from search.record.record import TrialRecord
from search.verdict.charts import OWN_SCALE, spark
from search.verdict.decision import decide
from search.verdict.quantities import duration
from search.verdict.trial_sentences import onset_short, state_text
from trainer.config.config import TrainConfig


def cells(record: TrialRecord, curve: Curve | None, *, opens: bool) -> list[tuple[str, str]]:
    """(what is shown, what it is sorted by) of a trial's row. `opens`: whether more of it stands below."""
    config, found = record.config, decide(record)
    _, onset = found.earlier
    state = state_text(record)
    opener = Markup('<button type="button" class="open" aria-expanded="false">{}</button>')
    scale = None if record.objective else OWN_SCALE
    shown: list[tuple[str, object]] = [
        (opener.format(record.number) if opens else str(record.number), record.number),
        (Markup('<span class="tag {}">{}</span>').format(record.state, state), state),
        ("" if found.score is None else f"{found.score:.3f}", found.score),
        ("" if curve is None else spark(*curve.line, found.shipped, scale), ""),
        ("–" if found.shipped is None else str(found.shipped), found.shipped),
        (f"{record.epochs_trained} / {record.epochs}", record.epochs_trained),
        (onset_short(found), None if onset is None else onset.epoch),
        *_training(record),
        (str(config.rank), config.rank),
        _alpha(record),
        (duration(sum(record.timings.values())), sum(record.timings.values())),
    ]
    return [(text, _bare(value)) for text, value in shown]


def _training(record: TrialRecord) -> list[tuple[str, object]]:
    """Optimizer, rate and schedule; of a run that was finished before they are not known for sure."""
    if record.finished_run is not None:
        return [("–", None)] * 3
    config = record.config
    return [(config.optimizer, config.optimizer), _rate(config), (_schedule(config), _schedule(config))]


def _alpha(record: TrialRecord) -> tuple[str, float | None]:
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


def _bare(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

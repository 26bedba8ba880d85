"""What a study spent, in numbers and in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.record.record import TrialRecord
from search.verdict.quantities import counted, duration


@dataclass(frozen=True)
class Cost:
    """What the study spent.

    Attributes:
        seconds: worker time over all trials; `train`, `sample` and `score` are its parts.
        wall_seconds: time on the clock, None when nobody measured it.
        epochs: trained epochs over all trials.
        complete, pruned, failed, running: numbers of trials.
        at_onset: how many of the complete ones were stopped at a confirmed onset.
        taken: how many have readings of another trial that is the same run. saved_epochs, saved_seconds: what that
            saved; these epochs are not among `epochs`.
    """

    seconds: float = 0.0
    train: float = 0.0
    sample: float = 0.0
    score: float = 0.0
    wall_seconds: float | None = None
    epochs: int = 0
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    at_onset: int = 0
    taken: int = 0
    saved_epochs: int = 0
    saved_seconds: float = 0.0

    @property
    def trials(self) -> int:
        return self.complete + self.pruned + self.failed + self.running


def cost_of(records: Sequence[TrialRecord], wall_seconds: float | None) -> Cost:
    """What these trials took together. `wall_seconds`: on the clock, where somebody measured it."""

    def spent(part: str) -> float:
        return float(sum(r.timings.get(part, 0.0) for r in records))

    def count(state: str) -> int:
        return sum(r.state == state for r in records)

    return Cost(
        seconds=float(sum(sum(r.timings.values()) for r in records)),
        train=spent("train"),
        sample=spent("sample"),
        score=spent("score"),
        wall_seconds=wall_seconds,
        epochs=sum(r.epochs_trained - r.saved_epochs for r in records),
        complete=count("complete"),
        pruned=count("pruned"),
        failed=count("failed"),
        running=count("running"),
        taken=sum(r.taken is not None for r in records),
        saved_epochs=sum(r.saved_epochs for r in records),
        saved_seconds=float(sum(r.saved_seconds for r in records)),
        at_onset=sum(r.state == "complete" and r.stopped == "onset" for r in records),
    )


def spent_sentence(spent: Cost) -> str:
    """What the study took."""
    kinds = [
        f"{number} {what}"
        for number, what in (
            (spent.complete - spent.at_onset, "trained to the end"),
            (spent.at_onset, "stopped at the onset"),
            (spent.pruned, "pruned because others were ahead"),
            (spent.failed, "failed"),
            (spent.running, "unfinished"),
        )
        if number
    ]
    clock = f" in {duration(spent.wall_seconds)} on the clock" if spent.wall_seconds is not None else ""
    return (
        f"{counted(spent.trials, 'trial')}"
        + (f" ({', '.join(kinds)})" if kinds else "")
        + f" with {counted(spent.epochs, 'trained epoch')}{clock}. The workers took {duration(spent.seconds)}: "
        f"training {duration(spent.train)}, drawing images {duration(spent.sample)}, scoring {duration(spent.score)}."
        + _saved(spent)
    )


def _saved(spent: Cost) -> str:
    """What was not trained, since the same run was there; "" where nothing was saved."""
    if not spent.taken:
        return ""
    return (
        f" {counted(spent.taken, 'trial')} {'have' if spent.taken > 1 else 'has'} readings of the same run in another "
        f"trial: that saved {counted(spent.saved_epochs, 'trained epoch')} and {duration(spent.saved_seconds)}."
    )

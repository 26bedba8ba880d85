"""What is said of a final run: what its LoRA is, and what its twin and the average of its checkpoints showed."""

from typing import TYPE_CHECKING

from search.record.final_run import FinalRun
from search.verdict.decision import Decision

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict


def all_photos(verdict: "Verdict") -> str:
    """On what the LoRA was trained, and from which run the onsets are."""
    trained, held = verdict.photos or (0, 0)
    return (
        f"It was trained on all {trained + held} photos. The onsets are those of its twin, which was trained on "
        f"{trained} of them and has as many steps at each epoch: with more photos overfitting begins a little later."
    )


def against_before(found: Decision, run: FinalRun) -> str:
    """Where the epoch was expected."""
    where = f"The study {run.study} found" if run.study else "The study file expects"
    return f"{where} epoch {run.epoch}; here it is {found.epoch}."


def average_text(found: Decision, run: FinalRun) -> str:
    """Whether the average of the best checkpoints ships, and why."""
    average = run.average
    if average is None:
        return "There is no average of checkpoints: none but the best could be part of it."
    which = f"The average of epochs {', '.join(map(str, average.epochs))} scores {average.score:.3f}"
    rank = f" Its rank holds {100 * (1 - average.lost):.1f} % of that average." if average.lost >= 0.01 else ""
    if found.average is not None:
        return f"{which}, more than epoch {found.epoch} alone ({average.best:.3f}) by more than the noise.{rank}"
    return (
        f"{which}, and epoch {found.epoch} alone {average.best:.3f}: it is not better by more than the noise "
        f"(±{average.noise:.3f}), so the checkpoint itself ships.{rank}"
    )

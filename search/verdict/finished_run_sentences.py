"""What is said of a run that was finished before: what to do with its files, and what the verdict rests on."""

from typing import TYPE_CHECKING

from search.record.finished_run import FinishedRun
from search.verdict.decision import Decision
from search.verdict.quantities import duration

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict


def run_headline(found: Decision) -> str:
    """What to do with the run, in one line."""
    score = "" if found.score is None else f" (score {found.score:.3f})"
    if found.average is not None:
        return f"Ship the average of epochs {found.average[0]} to {found.average[1]}{score}."
    if found.ships:
        return f"Ship {found.unit} {found.epoch}{score}."
    if found.learns_too_late:
        return "Ship nothing: the run overfits before it learns the subject."
    if found.outcome == "not_learned":
        return "Ship nothing: the run did not learn the subject."
    if found.outcome == "poor":
        return f"Ship nothing: the best score is {found.score or 0.0:.3f}."
    if found.outcome == "unfinished":
        return "Ship nothing yet: the run was not trained to its end."
    return "Ship nothing: its checkpoints could not be scored."


def what_to_use(verdict: "Verdict", run: FinishedRun) -> str:
    """The file to ship, and what its own metadata says of it."""
    file = run.files[verdict.decision.epoch or run.counts[-1]]
    return f"Use {file} (best/{verdict.study}.safetensors is a copy): {run.settings}."


def what_it_rests_on(run: FinishedRun) -> str:
    """Whether photos were held out, and what cannot be told where none were."""
    if run.held_out:
        return f"The run was not trained on {run.held_out} of the photos, which the file says: their losses count here."
    return (
        "All photos were trained on, so their losses tell nothing. The verdict rests on images, and on subjects that "
        "were moved to other places. Hold a few photos out of the next run: then it will be surer."
    )


def what_it_took(verdict: "Verdict", run: FinishedRun) -> str:
    """Time and checkpoints; nothing was trained."""
    cost = verdict.cost
    clock = f"{duration(cost.wall_seconds)} on the clock, " if cost.wall_seconds is not None else ""
    return (
        f"{len(run.files)} checkpoints looked at, {clock}{duration(cost.seconds)} of worker time "
        f"(drawing {duration(cost.sample)}, scoring {duration(cost.score)}). Nothing was trained."
    )

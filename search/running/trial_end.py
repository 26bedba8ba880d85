"""Whether a trial ends at its newest checkpoint, and why."""

from collections.abc import Callable

from metrics.onset.onset import confirmed_onset, find_onset
from metrics.onset.turns import Onset
from search.record.trial_progress import Course
from search.study.study import Study


def end_of(course: Course, study: Study, *, prune: Callable[[], bool]) -> tuple[str, str, Onset | None] | None:
    """(state, why it stopped, onset) as its record says it; None where it goes on. `prune`: asked last."""
    stop, ship = study.stop, study.score.ship
    onset = confirmed_onset(course.trajectory, ship=ship) if stop.onset else None
    if onset is not None:
        return "complete", "onset", onset
    if course.processed >= course.config.epochs:
        return "complete", "horizon", find_onset(course.trajectory, ship=ship)
    if stop.prune and prune():
        return "pruned", "pruned", find_onset(course.trajectory, ship=ship)
    return None

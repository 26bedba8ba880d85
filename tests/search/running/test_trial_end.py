"""Whether a trial ends at its newest checkpoint: by its onset, its horizon or its peers, in that order."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from metrics.onset.onset import confirmed_onset, find_onset
from metrics.trajectory.trajectory import Trajectory
from search.record.record import TrialRecord
from search.record.trial_progress import Course
from search.running.trial_end import end_of
from tests.search.any_config import CONFIG
from tests.search.finished_studies import Plan, planted

WHOLE = planted(Plan({}, quality=0.8, turn=10), 40, 0)
CONFIRMED = next(
    n for n in range(2, 21) if confirmed_onset(Trajectory(WHOLE.readings[:n]), ship="balanced") is not None
)


def course(checkpoints: int, horizon: int = 40) -> Course:
    """A trial that has had the base and so many checkpoints less one."""
    config = CONFIG.model_copy(update={"epochs": horizon, "save_every_n_epochs": 2})
    trajectory = Trajectory(WHOLE.readings[:checkpoints])
    record = TrialRecord(0, "running", config, {}, horizon)
    return replace(Course(record), record=replace(record, epochs_trained=2 * (checkpoints - 1)), trajectory=trajectory)


@pytest.mark.parametrize(
    ("checkpoints", "horizon", "onset", "prune", "behind", "ends"),
    [
        (CONFIRMED, 40, True, True, True, ("complete", "onset")),
        (CONFIRMED, 40, False, True, True, ("pruned", "pruned")),
        (CONFIRMED, 40, False, True, False, None),
        (CONFIRMED, 40, False, False, True, None),
        (CONFIRMED - 1, 40, True, True, True, ("pruned", "pruned")),
        (CONFIRMED - 1, 40, True, True, False, None),
        (4, 6, True, True, True, ("complete", "horizon")),
        (4, 8, True, False, True, None),
        (CONFIRMED, 2 * (CONFIRMED - 1), False, True, True, ("complete", "horizon")),
        (CONFIRMED, 2 * (CONFIRMED - 1), True, True, True, ("complete", "onset")),
    ],
)
def test_what_comes_first_ends_it(
    checkpoints: int, horizon: int, onset: bool, prune: bool, behind: bool, ends: tuple[str, str] | None
) -> None:
    asked: list[bool] = []
    stop = SimpleNamespace(onset=onset, prune=prune)
    study: Any = SimpleNamespace(stop=stop, score=SimpleNamespace(ship="balanced"))
    this = course(checkpoints, horizon)
    found = end_of(this, study, prune=lambda: asked.append(behind) or behind)
    assert (None if found is None else found[:2]) == ends
    if found is not None:
        read = confirmed_onset if ends == ("complete", "onset") else find_onset
        assert found[2] == read(this.trajectory, ship="balanced")
    by_peers = prune and (ends is None or ends[0] == "pruned")
    assert asked == ([behind] if by_peers else []), "asked last"

"""Where a score is highest, how far around it scores are as good, and how much they jump by chance."""

import numpy as np
import pytest

from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory
from search.verdict.plateau import Peak, jitter, peak, plateau

NAN = float("nan")


def scored(*scores: float) -> Trajectory:
    """Checkpoints every second epoch, the base first."""
    return Trajectory(tuple(Readings(2 * row, 0.1 * row, {}, score=score) for row, score in enumerate(scores)))


@pytest.mark.parametrize(
    ("scores", "epoch", "around"),
    [
        ((0.0, 0.5, 0.80, 0.79, 0.81, 0.4, 0.82), 8, (4, 8)),  # broken by the 0.4 before the end
        ((0.0, 0.5, 0.80, 0.79, 0.81, 0.80, 0.82), 8, (4, 12)),  # up to the last checkpoint
        ((0.0, 0.4, 0.80, 0.79, 0.81, 0.80, 0.4), 4, (4, 10)),  # and to one before it
        ((0.9, 0.81, 0.80, 0.4), 4, (2, 4)),  # the base is no checkpoint
        ((0.0, 0.5, 0.9, 0.5), 4, (4, 4)),
        ((0.0, 0.5, 0.80, NAN, 0.81), 8, (8, 8)),
    ],
)
def test_a_plateau_is_the_unbroken_run_of_checkpoints_that_score_as_well(scores, epoch, around) -> None:
    assert plateau(scored(*scores), epoch, noise=0.02) == around


def test_there_is_no_plateau_around_what_was_not_measured() -> None:
    assert plateau(scored(0.0, 0.5), 3, 0.02) is None
    assert plateau(scored(0.0, 0.5), None, 0.02) is None
    assert plateau(None, 2, 0.02) is None


def test_the_peak_is_the_earliest_of_the_highest_scores_of_trained_checkpoints() -> None:
    assert peak(scored(0.9, 0.5, 0.8, 0.79, 0.8, NAN), 0.02) == Peak(4, 0.8, 4, 8)
    assert peak(scored(0.9), 0.02) is None
    assert peak(scored(0.9, NAN), 0.02) is None
    assert peak(None, 0.02) is None


def test_jitter_is_that_of_neighbours_and_not_the_course() -> None:
    random = np.random.default_rng(0)
    course = np.linspace(0.1, 0.7, 200)
    found = jitter([scored(0.0, *(course + random.normal(0, 0.01, 200)))])
    assert found == pytest.approx(0.01, rel=0.2)
    assert jitter([scored(0.0, *course)]) == 0.002, "at least"
    assert jitter([scored(0.0, *random.uniform(0, 1, 50))]) == 0.02, "at most"
    assert jitter([scored(0.0, 0.1, 0.9)]) == jitter([]) == 0.005, "too few to tell"

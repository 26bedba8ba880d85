"""A score of somebody's own: what it is made of, that ours stays beside it, and how far it would move."""

from collections.abc import Mapping

import numpy as np
import pytest

from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.objective import scored_by
from metrics.checkpoint.score import calibrate, read_checkpoint
from metrics.checkpoint.score_spread import score_draws
from metrics.onset.onset import find_onset
from metrics.trajectory.readings import OWN_SCORE, Reading, Readings
from metrics.trajectory.trajectory import Trajectory
from tests.metrics.photo_sets import OTHERS, crops, probe_labels
from tests.search.finished_studies import Plan, planted

READINGS = Readings(3, 0.0, {"fidelity": Reading(0.5, 0.4, 0.6), "prompt": Reading(-0.2, -0.3, -0.1)}, {}, 0.7)


def mixed(values: Mapping[str, float]) -> float:
    return 100 * values["fidelity"] + values["prompt"]


def test_its_number_is_the_score_and_ours_a_channel() -> None:
    found = scored_by(mixed, READINGS)
    assert found.score == pytest.approx(49.8)
    assert found.channels[OWN_SCORE].value == 0.7
    assert {name: found.channels[name] for name in READINGS.channels} == dict(READINGS.channels)
    assert scored_by(lambda values: values[OWN_SCORE] + 1, READINGS).score == pytest.approx(1.7)


def test_scored_anew_it_forgets_the_objective_before_and_without_one_is_ours_again() -> None:
    twice = scored_by(lambda values: values[OWN_SCORE], scored_by(mixed, READINGS))
    assert (twice.score, twice.channels[OWN_SCORE].value) == (0.7, 0.7)
    assert scored_by(None, scored_by(mixed, READINGS)) == READINGS


def test_what_another_look_measured_stands_in_for_what_this_one_did_not() -> None:
    also = {"heldout_loss": -0.5, "fidelity": 9.0}
    assert scored_by(lambda v: v["heldout_loss"] * v["fidelity"], READINGS, also).score == pytest.approx(-0.25)


@pytest.fixture(scope="module")
def looked() -> tuple[Calibration, Readings]:
    labels = probe_labels()
    calibration = calibrate(crops(24, 1), [True] * 24, crops(len(labels), 2, OTHERS), labels, None)
    return calibration, read_checkpoint(calibration, epoch=3, effort=0.0, images=crops(len(labels), 5))


@pytest.mark.parametrize("channel", ["burn", "colour", "composition", "framing", "copying", "collapse"])
def test_its_draws_are_in_its_own_units_and_as_wide_as_the_prompts_make_them(looked, channel: str) -> None:
    calibration, readings = looked
    draws = score_draws(calibration, readings, objective=lambda values: 1000 * values[channel])
    value, low, high = 1000 * readings.channels[channel].value, *np.quantile(draws, (0.01, 0.99))
    assert low < value < high
    assert draws.std() == pytest.approx(1000 * score_draws(calibration, readings, objective=lambda v: v[channel]).std())


def test_without_one_the_draws_are_the_same_to_the_bit_whatever_was_before(looked) -> None:
    calibration, readings = looked
    scored = scored_by(lambda values: values["burn"], readings)
    np.testing.assert_array_equal(score_draws(calibration, readings), score_draws(calibration, scored))


def test_onset_and_epoch_to_ship_hang_on_our_score_alone(tmp_path) -> None:
    plain = planted(Plan({}, turn=18), 40, 1)
    images_alone = Trajectory(
        tuple(Readings(r.epoch, r.effort, {"fidelity": r.channels["fidelity"]}, {}, r.score) for r in plain.readings)
    )
    for trajectory in (plain, images_alone):  # without losses the score chooses the epoch to ship
        other = Trajectory(tuple(scored_by(lambda values: -1e3 * values[OWN_SCORE], r) for r in trajectory.readings))
        np.testing.assert_allclose(other.scores, -1e3 * trajectory.scores)
        assert find_onset(other) == find_onset(trajectory)
        other.save(tmp_path)
        np.testing.assert_array_equal(Trajectory.load(tmp_path).own_scores, trajectory.own_scores)

"""A trial's course: which checkpoints it has, how it adds up, and with what record it ends."""

from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import pytest

from metrics.onset.onset import find_onset
from metrics.trajectory.readings import OWN_SCORE, Reading
from search.record.events import Checkpointed, save_readings
from search.record.finished_run import FinishedRun
from search.record.record import TrialRecord
from search.record.trial_progress import Course, checkpoint_epochs, looked_at, measured_in_a_row
from tests.search.any_config import CONFIG
from tests.search.finished_studies import Plan, planted

READINGS = {each.epoch: each for each in planted(Plan({}, quality=0.8, turn=6), 10, 0).readings}
RECORD = TrialRecord(3, "running", CONFIG.model_copy(update={"epochs": 10, "save_every_n_epochs": 2}), {}, 10)


@pytest.mark.parametrize(
    ("epochs", "step", "after", "found"),
    [
        (10, 2, 0, [2, 4, 6, 8, 10]), (9, 2, 0, [2, 4, 6, 8, 9]), (9, 2, 3, [4, 6, 8, 9]), (9, 2, 4, [6, 8, 9]),
        (3, 5, 0, [3]), (9, 2, 8, [9]), (9, 2, 9, []), (10, 2, 12, []), (4, 1, 2, [3, 4]),
    ],
)  # fmt: skip
def test_checkpoints_are_every_so_many_epochs_and_the_last(epochs, step, after, found) -> None:
    config = CONFIG.model_copy(update={"epochs": epochs, "save_every_n_epochs": step})
    assert list(checkpoint_epochs(config, after)) == found


def test_a_finished_run_is_looked_at_at_its_files() -> None:
    record = replace(RECORD, finished_run=FinishedRun({8: "c", 3: "a", 5: "b"}))
    assert list(looked_at(record, 3)) == [5, 8]
    assert Course(record).due == 3
    assert Course(replace(record, epochs_trained=8)).due == 10, "nothing is left; its horizon"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Readings of the base and of epochs 2, 4 and 8: that of 6 is missing."""
    save_readings(Checkpointed.file(tmp_path, 0), READINGS[0])
    for epoch in (2, 4, 8):
        timings, memory = {"train": 1.0 * epoch, "save": 0.5}, {"rss_gib": [0, 3.0, 1.0, 0, 2.0][epoch // 2]}
        Checkpointed(3, epoch, READINGS[epoch], timings, memory).save(tmp_path)
    return tmp_path


def test_what_was_decided_is_replayed_up_to_the_first_gap(home: Path) -> None:
    assert measured_in_a_row(home, RECORD.config) == [2, 4]
    for decided, epochs in ((0, []), (2, [0, 2]), (3, [0, 2]), (4, [0, 2, 4]), (10, [0, 2, 4])):
        course = Course(RECORD, decided).replayed(home)
        assert course.trajectory.epochs.tolist() == epochs
        assert course.processed == (epochs[-1] if epochs else 0)
    assert course.record.timings == {"train": 6.0, "save": 1.0}
    assert course.record.memory == {"rss_gib": 3.0}
    assert course.due == 6
    assert course.trajectory.unit == "epoch"
    Checkpointed.file(home, 0).unlink()
    assert not len(Course(RECORD, 10).replayed(home).trajectory)


def test_seconds_add_up_memory_is_the_most_and_nothing_is_decided_before_it_was(home: Path) -> None:
    course, memory = Course(RECORD), {"rss_gib": 1.0, "gpu_gib": 0.5}
    assert course.decided == 0
    for epoch in (2, 4):
        course = course.advanced(Checkpointed.load(home, 3, epoch), home)
    assert course.record.timings == {"train": 6.0, "save": 1.0}
    again = course.advanced(Checkpointed(3, 6, READINGS[6], {"train": 1.0, "save": 0.5, "sample": 2.0}, memory), home)
    assert again.record.timings == {"train": 7.0, "save": 1.5, "sample": 2.0}
    assert again.record.memory == {"rss_gib": 3.0, "gpu_gib": 0.5}


def test_steps_stay_steps(home: Path) -> None:
    steps = replace(RECORD, finished_run=FinishedRun({2: "a", 4: "b"}, unit="step"))
    assert Course(steps, 4).replayed(home).trajectory.unit == "step"


@pytest.fixture
def course(tmp_path: Path) -> Course:
    """With all its checkpoints; an objective's score of its own beside that of epoch 4."""
    save_readings(Checkpointed.file(tmp_path, 0), READINGS[0])
    found = Course(RECORD)
    for epoch in (2, 4, 6, 8, 10):
        channels = {**READINGS[epoch].channels, OWN_SCORE: Reading(epoch / 100, 0.0, 0.0)}
        found = found.advanced(Checkpointed(3, epoch, replace(READINGS[epoch], channels=channels)), tmp_path)
    return found


def test_the_record_of_its_end_has_the_score_of_what_ships_and_optuna_that_of_its_last(course: Course) -> None:
    onset = replace(find_onset(course.trajectory), best=4)
    complete = course.ended("complete", "onset", onset)
    assert (complete.state, complete.stopped, complete.onset) == ("complete", "onset", onset)
    assert (complete.epoch_shipped, complete.score, complete.value) == (4, READINGS[4].score, READINGS[4].score)
    assert (complete.own_score, complete.error) == (0.04, None)
    pruned = course.ended("pruned", "pruned", onset)
    assert (pruned.epoch_shipped, pruned.score, pruned.value) == (4, READINGS[4].score, READINGS[10].score)
    failed = course.ended("failed", "failed", onset, "NaN")
    assert (failed.epoch_shipped, failed.score, failed.value, failed.own_score) == (None, None, None, None)
    assert (failed.state, failed.error) == ("failed", "NaN")


@pytest.mark.parametrize("score", [nan, None])
def test_without_a_score_nothing_is_complete(course: Course, score: float | None) -> None:
    onset = find_onset(course.trajectory)
    best = 3 if score is None else 4  # an epoch without a checkpoint, or one that could not be judged
    rows = tuple(replace(r, score=nan) if r.epoch == 4 else r for r in course.trajectory.readings)
    unscored = replace(course, trajectory=replace(course.trajectory, readings=rows))
    found = unscored.ended("complete", "horizon", replace(onset, best=best))
    assert (found.state, found.stopped, found.value) == ("failed", "failed", None)
    assert found.error is not None
    assert "no score" in found.error
    assert unscored.ended("pruned", "pruned", replace(onset, best=best)).state == "pruned"
    assert score is None or isnan(score)


def test_a_single_look_has_no_onset(course: Course) -> None:
    one = replace(course.record, finished_run=FinishedRun({1: "a"}), epochs_trained=2)
    found = replace(course, record=one).ended("complete", "horizon", find_onset(course.trajectory))
    assert (found.onset, found.epoch_shipped, found.score) == (None, 2, READINGS[2].score)


def test_what_another_process_ended_is_judged_by_what_was_measured(course: Course) -> None:
    found = course.ended_elsewhere("pruned", "balanced")
    onset = find_onset(course.trajectory)
    assert (found.state, found.stopped, found.onset) == ("pruned", "told", onset)
    assert found.epoch_shipped == onset.best
    assert found.error is not None
    assert "another process" in found.error
    assert course.ended_elsewhere("failed", "balanced").onset is None
    assert Course(RECORD).ended_elsewhere("pruned", "balanced").onset is None
    alone = replace(course, trajectory=replace(course.trajectory, readings=course.trajectory.readings[:1]))
    assert alone.ended_elsewhere("pruned", "balanced").onset is None, "the base alone says nothing"

"""What twins read, joined to the readings of their trial."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metrics.channels.bootstrap import reading_of_items
from metrics.onset.turns import Onset, Turn
from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory
from search.record.record import StudyFolder, TrialRecord
from search.record.twin_curve import CHANNEL, last_epoch, plotted, with_twin_losses
from search.record.twins import TwinLosses, Twins
from tests.search.any_config import CONFIG
from tests.search.running.planted_twins import planted


def test_losses_of_twins_stand_beside_those_of_held_out_photos() -> None:
    read = [planted(place, 8) for place in range(3)]
    held = np.full((2, 8, 1), 0.5)
    readings = [Readings(epoch, 0.0, {CHANNEL: reading_of_items(held)}, {CHANNEL: held}) for epoch in range(0, 9, 2)]
    joined = with_twin_losses(Trajectory(tuple(readings)), read, 0.0).cube(CHANNEL)
    assert joined.shape == (5, 11, 8, 1)
    assert (joined[:, :2] == 0.5).all()
    for place, each in enumerate(read):
        assert np.array_equal(joined[:, 2 + place :: 3], each.ratios)
    later = with_twin_losses(Trajectory(tuple(readings)), read, 1.0).cube(CHANNEL)  # epoch 6 is their epoch 4
    assert later[3, 2:] == pytest.approx(joined[2, 2:])


def test_an_epoch_of_a_twin_is_worth_what_its_own_number_of_photos_says() -> None:
    def flat(rows: list[int], last: int) -> TwinLosses:
        """Losses that say their epoch."""
        epochs = np.arange(0, last + 1)
        said = epochs[:, None, None, None] * np.ones((1, len(rows), 1, 1))
        return TwinLosses("asked", np.array(rows), epochs, said, 1.0)

    readings = tuple(Readings(epoch, 0.0, {}) for epoch in (0, 6, 12))
    few, many = flat([1, 4], 9), flat([0, 2, 3, 5], 5)  # of six photos: 2/3 of the passes, and 1/3
    joined = with_twin_losses(Trajectory(readings), [many, few])
    assert joined.cube(CHANNEL)[1, :, 0, 0] == pytest.approx([2, 4, 2, 2, 4, 2])
    assert joined.cube(CHANNEL)[2, :, 0, 0] == pytest.approx([4, 8, 4, 4, 8, 4])
    assert [last_epoch(CONFIG, 12, 6, left_out) for left_out in (2, 4)] == [8, 4]


def test_beyond_what_twins_read_and_where_losses_are_of_another_form_readings_stay() -> None:
    read = [planted(place, 8) for place in range(3)]
    readings = [Readings(epoch, 0.0, {}) for epoch in (0, 2, 8, 12, 40)]
    joined = with_twin_losses(Trajectory(tuple(readings)), read)
    assert [each.epoch for each in joined.readings] == [0, 2, 8, 12, 40]
    assert [CHANNEL in each.items for each in joined.readings] == [True, True, True, True, False]
    assert (joined.readings[0].items[CHANNEL] == 0).all()
    assert joined.readings[0].items[CHANNEL].shape == (9, 8, 1)
    assert joined.readings[3].items[CHANNEL] == pytest.approx(
        np.concatenate([each.ratios[-1] for each in read])[np.argsort(np.concatenate([each.rows for each in read]))]
    )
    other = np.zeros((2, 5, 1))
    apart = [Readings(0, 0.0, {}), Readings(2, 0.0, {CHANNEL: reading_of_items(other)}, {CHANNEL: other})]
    assert with_twin_losses(Trajectory(tuple(apart)), read).readings[1] is apart[1]


def test_a_trial_is_plotted_with_what_its_twins_read_where_they_say_an_onset(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    trajectory = Trajectory(tuple(Readings(epoch, 0.0, {}, {}) for epoch in (0, 2, 8)))
    trajectory.save(folder.trial(3))
    read = [planted(place, 8) for place in range(3)]
    for place, each in enumerate(read):
        each.save(TwinLosses.file(tmp_path / "finalists", 3, 3, place))
    onset = Onset("found", Turn("unmeasured"), Turn("unmeasured"), 2, 8)
    record = TrialRecord(3, "complete", CONFIG, {}, 8, 8)

    def channels(twins: Twins | None) -> set[str]:
        return set(plotted(folder, replace(record, twins=twins)).readings[1].channels)

    said = Twins(3, 8, 8, onset=onset)
    assert channels(None) == channels(replace(said, onset=None)) == set()
    assert channels(said) == {CHANNEL}
    found = plotted(folder, replace(record, twins=said)).readings[2].items[CHANNEL]
    assert np.array_equal(found, with_twin_losses(trajectory, read).readings[2].items[CHANNEL])
    TwinLosses.file(tmp_path / "finalists", 3, 3, 1).unlink()
    assert channels(said) == set(), "what one of them read is lost"

"""What a trial has taken from the same run of another one, and what that saved."""

from pathlib import Path

import pytest

from search.record.taken_run import RunMark, TakenRun


def test_it_names_the_trial_and_how_far(tmp_path: Path) -> None:
    taken = TakenRun("dog", 3, looked=8)
    assert taken.sentence == "the same run as trial 3 of dog: its readings up to epoch 8 are taken"
    assert (taken.trained, taken.epoch_seconds, taken.look_seconds) == (0, 0.0, 0.0)
    assert TakenRun.load(tmp_path) is None
    taken.save(tmp_path)
    assert TakenRun.load(tmp_path) == taken
    assert RunMark.load(tmp_path) is None
    RunMark("settings", ("a", "b")).save(tmp_path)
    assert RunMark.load(tmp_path) == RunMark("settings", ("a", "b"))


@pytest.mark.parametrize(
    ("trained", "epochs", "seconds"), [(4, 4, 4 * 2 + 2 * 3), (8, 8, 8 * 2 + 4 * 3), (9, 6, 6 * 2 + 4 * 3)]
)
def test_up_to_its_readings_all_was_saved_and_beyond_them_what_could_be_gone_on_from(
    trained: int, epochs: int, seconds: float
) -> None:
    taken = TakenRun("dog", 3, looked=8, trained=6, epoch_seconds=2.0, look_seconds=3.0)
    assert (taken.saved_epochs(trained), taken.saved_seconds(trained, 2)) == (epochs, seconds)

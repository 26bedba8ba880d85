"""What twins say of a trial: the epoch that ships by them, and how much they train."""

from pathlib import Path

import pytest

from metrics.onset.turns import Onset, Turn
from search.record.twins import TwinLosses, Twins, trainings


@pytest.mark.parametrize(("twins", "as_many"), [(0, 0), (1, 0), (2, 1), (3, 2), (5, 4)])
def test_twins_that_each_leave_out_a_part_train_as_one_less_of_their_trial(twins: int, as_many: int) -> None:
    assert trainings(twins) == as_many


def test_what_ships_by_them_is_what_they_say_or_as_before(tmp_path: Path) -> None:
    silent = Twins(3, 40, 18)
    assert (silent.shipped, silent.moved) == (18, False)
    assert (silent.count, silent.photos, silent.beside, silent.seconds) == (0, 0, 0, 0.0)
    assert (silent.onset, silent.score, silent.own_score, silent.failed, silent.broken) == (None, None, None, "", False)
    for best, moved in ((18, False), (14, True)):
        onset = Onset("found", Turn("unmeasured"), Turn("found", 15.0, 12.0, 18.0, ("heldout_loss",)), 4, best)
        told = Twins(3, 40, 18, count=3, photos=9, onset=onset, score=0.5)
        assert (told.shipped, told.moved) == (best, moved)
        told.save(tmp_path)
        assert Twins.load(tmp_path) == told
    (tmp_path / "twins.json").write_text("{")
    assert Twins.load(tmp_path) is None


def test_where_their_losses_and_their_trainings_lie() -> None:
    file = TwinLosses.file(Path("looks"), 7, 3, 2)
    assert file == Path("looks/0007/twins-3/2.npz")
    assert TwinLosses.training(Path("looks"), 7, 3, 2) == Path("looks/0007/twins-3/2")

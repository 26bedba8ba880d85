"""Finalists and their looks as they are kept, and what they say of each other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metrics.trajectory.readings import Reading, Readings
from search.record.events import DrawAgain
from search.record.finalists import Finalist, Finalists, FreshLook, StrengthsShown, learned_little
from search.record.record import StudyFolder


def test_a_fresh_look_comes_back(tmp_path: Path) -> None:
    readings = Readings(8, 0.5, {"fidelity": Reading(0.5, 0.4, 0.6)}, {"fidelity": np.arange(3.0)}, 0.7)
    FreshLook("asked", readings, np.arange(5.0), 8, 4, 1, 2.5).save(tmp_path / "a.npz")
    found = FreshLook.load(tmp_path / "a.npz")
    assert found is not None
    assert (found.asked, found.images, found.prompts, found.repeated, found.seconds) == ("asked", 8, 4, 1, 2.5)
    assert found.draws.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert (found.readings.epoch, found.readings.score, found.readings.channels) == (8, 0.7, readings.channels)
    assert FreshLook.load(tmp_path / "b.npz") is None


@pytest.mark.parametrize(
    ("trial", "retrained", "place"),
    [(None, False, "base/0006"), (3, False, "0003/0006"), (3, True, "0003/retrained/0006")],
)
def test_where_a_look_lies(trial: int | None, retrained: bool, place: str) -> None:
    folder = StudyFolder(Path("/runs/dog"))
    file = FreshLook.file(folder, trial, 6, retrained=retrained)
    assert file == Path(f"/runs/dog/finalists/{place}.npz")
    assert FreshLook.picture(folder, trial, 6, retrained=retrained) == file.with_suffix(".png")
    assert FreshLook.file(folder, trial, 6) == FreshLook.file(folder, trial, 6, retrained=False)


def test_finalists_that_are_as_good_and_those_that_are_surely_better() -> None:
    first = Finalist(3, 8, searched=0.5, score=0.6, low=0.5, high=0.7, best=0.9)
    assert first.as_good
    assert [replace(first, behind=share).as_good for share in (0.94, 0.95)] == [True, False]
    better = replace(first, score=0.7)
    assert [replace(better, behind=share).surely_above(first) for share in (0.04, 0.06)] == [True, False]
    assert not replace(first, behind=0.0).surely_above(first)
    found = Finalists({}, (first, replace(first, trial=5, trainings=(0.5, 0.7))), {7: "NaN"})
    assert (found.numbers, found.retrained) == ({3, 5, 7}, True)
    assert found.of(5) == found.drawn[1]
    assert (found.of(7), found.of(None)) == (None, None)
    assert not replace(found, drawn=(first,)).retrained
    assert (DrawAgain(3, 8, twins=3, place=2).twin, DrawAgain(3, 8, place=2).twin) == (2, None)


def test_they_are_kept_beside_those_as_they_were_drawn_where_twins_ship(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    one = Finalist(3, 8, searched=0.5, score=0.6, low=0.55, high=0.7, best=0.9, trainings=(0.5, 0.7), learned=0.2)
    plain, moved = Finalists({"trials": 4}, (one,), base=0.1), Finalists({"trials": 4}, (replace(one, epoch=6),))
    assert (Finalists.load(folder), Finalists.load(folder, by_twins=True)) == (None, None)
    plain.save(folder)
    assert (Finalists.load(folder), Finalists.load(folder, by_twins=True)) == (plain, None)
    moved.save(folder, by_twins=True)
    assert (Finalists.load(folder), Finalists.load(folder, by_twins=True)) == (plain, moved)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")) == [
        "finalists.json", "finalists/by_twins.json"
    ]  # fmt: skip


def test_a_finalist_that_says_little_is_first_once_trained_and_of_no_objective() -> None:
    one = Finalist(3, 8, searched=0.5, score=0.6, low=0.55, high=0.7, best=0.9)
    assert (one.behind, one.own, one.trainings, one.learned, one.as_good) == (0.0, None, (), None, True)
    assert one.sentence == (
        "On fresh seeds and prompts it scores 0.600 (90 % interval 0.550 to 0.700); in the search it was 0.500."
    )
    none = Finalists({}, ())
    assert (none.images, none.prompts, none.repeated, none.base, none.seconds) == (0, 0, 0, None, 0.0)
    assert (none.retrained, none.numbers, none.learned_little) == (False, set(), set())


@pytest.mark.parametrize(
    ("learned", "little"),
    [
        ({}, set()),
        ({1: None, 2: None}, set()),
        ({1: 0.4, 2: 0.2, 3: 0.19, 4: None, 5: -0.1}, {3, 5}),
        ({1: 0.2, 2: 0.4, 3: 0.8}, {1}),
        ({1: -0.4, 2: -0.1}, set()),  # nobody has learned anything
        ({1: 0.0, 2: 0.0}, set()),
    ],
)
def test_less_than_half_of_what_the_most_learned_has_is_little(learned: dict[int, float | None], little: set) -> None:
    assert learned_little(learned) == little
    drawn = tuple(
        Finalist(n, 8, searched=0.5, score=0.6, low=0.5, high=0.7, best=0.9, learned=value)
        for n, value in learned.items()
    )
    assert Finalists({}, drawn).learned_little == little


def test_what_the_picture_of_strengths_shows_comes_back(tmp_path: Path) -> None:
    folder, shown = StudyFolder(tmp_path), StrengthsShown(3, 8, "asked")
    assert StrengthsShown.load(folder) is None
    shown.save(folder)
    assert StrengthsShown.load(folder) == shown
    StrengthsShown.file(folder).write_text("[")
    assert StrengthsShown.load(folder) is None

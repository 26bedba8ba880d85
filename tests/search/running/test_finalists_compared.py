"""What fresh images say of finalists: order, intervals and chances, from looks that are planted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metrics.trajectory.readings import OWN_SCORE, Reading, Readings
from search.record.finalists import FreshLook
from search.record.record import StudyFolder
from search.running.finalists import compared, luck_of_training
from search.study.study import Study, load_study


class Planted:
    """Fresh looks of trials at epoch 8."""

    def __init__(self, study: Study, folder: StudyFolder) -> None:
        self.study, self.folder = study, folder

    def look(
        self, number: int | None, draws: Any, *, again: bool = False, own: float | None = None, **more: Any
    ) -> None:
        values = np.asarray(draws, float)
        score = more.pop("score", float(values.mean()))
        channels = {} if own is None else {OWN_SCORE: Reading(own, own - 0.1, own + 0.1)}
        epoch = 0 if number is None else 8
        about = {"images": 8, "prompts": 4, "repeated": 1, "seconds": 2.0} | more
        found = FreshLook("asked", Readings(epoch, 0.0, channels, {}, score), values, **about)
        found.save(FreshLook.file(self.folder, number, epoch, retrained=again))

    def compared(self, *numbers: int, first: int | None = None, **more: Any) -> Any:
        searched = {number: 0.5 + number / 100 for number in numbers}
        epochs = dict.fromkeys(numbers, 8)
        left_out, not_retrained = more.get("left_out", {}), more.get("not_retrained", {})
        return compared(self.study, self.folder, searched, epochs, left_out, not_retrained, first)


@pytest.fixture
def planted(write_study: Any, tmp_path: Path) -> Any:
    def made(**finalists: Any) -> Planted:
        folder = StudyFolder(tmp_path / "runs" / "small")
        folder.path.mkdir(parents=True, exist_ok=True)
        return Planted(load_study(write_study(finalists=finalists)), folder)

    return made


STEPS = np.arange(100) / 1000  # 0 to 0.099


def test_each_has_its_mean_its_interval_and_its_chances(planted: Any) -> None:
    these: Planted = planted()
    these.look(None, [0.1, 0.1], seconds=1.0)
    these.look(1, 0.5 + STEPS, own=0.4)
    these.look(2, 0.55 + STEPS[::-1])
    found = these.compared(1, 2)
    second, first = (found.of(number) for number in (1, 2))
    assert [one.trial for one in found.drawn] == [2, 1]
    assert (first.score, first.searched, first.epoch, first.own, first.trainings) == (
        pytest.approx(0.5995), 0.52, 8, None, (),
    )  # fmt: skip
    assert (first.low, first.high) == pytest.approx((0.55 + 0.099 * 0.05, 0.55 + 0.099 * 0.95))
    assert second.own == 0.4
    ahead = np.mean(0.55 + STEPS[::-1] < 0.5 + STEPS)
    assert (first.best, first.behind) == (pytest.approx(1 - ahead), 0.0)
    assert (second.best, second.behind) == pytest.approx((ahead, np.mean(0.55 + STEPS[::-1] > 0.5 + STEPS)))
    assert (found.images, found.prompts, found.repeated, found.base, found.seconds) == (8, 4, 1, 0.1, 5.0)
    assert (found.left_out, found.not_retrained) == ({}, {})
    assert found.settings == these.study.finalists.model_dump(mode="json")


def test_of_equal_ones_the_one_that_the_search_put_first_goes_first_unless_another_ships(planted: Any) -> None:
    these: Planted = planted()
    for number in (1, 2, 3):
        these.look(number, [0.5, 0.6] if number < 3 else [0.7, 0.8])
    assert [one.trial for one in these.compared(1, 2, 3).drawn] == [3, 2, 1]
    shipped = these.compared(1, 2, 3, first=1)
    assert [one.trial for one in shipped.drawn] == [1, 3, 2]
    assert [one.behind for one in shipped.drawn] == [0.0, 0.0, 0.0], "less than the first one: none"
    assert [one.best for one in shipped.drawn] == [0.0, 1.0, 0.0]


def test_who_has_no_look_or_no_score_is_left_out_and_named(planted: Any) -> None:
    these: Planted = planted()
    these.look(1, [0.5, 0.6])
    these.look(2, [0.5, 0.6], score=float("nan"))
    these.look(3, [0.9, 0.9])
    found = these.compared(1, 2, 3, 4, left_out={3: "its LoRA is gone"})
    assert [one.trial for one in found.drawn] == [1]
    no_score = "its fresh images have no score"
    assert found.left_out == {2: no_score, 3: "its LoRA is gone", 4: no_score}
    assert (found.base, found.seconds) == (None, 2.0)


def test_without_any_look_there_is_nothing_to_say(planted: Any) -> None:
    found = planted().compared(1, 2)
    assert (found.drawn, found.images, found.prompts, found.repeated, found.base, found.seconds) == (
        (),
        0,
        0,
        0,
        None,
        0,
    )
    assert set(found.left_out) == {1, 2}


def test_second_trainings_count_where_the_study_asks_for_them(planted: Any) -> None:
    these: Planted = planted(retrain=True)
    for number in (1, 2, 3):
        these.look(number, 0.5 + number / 10 + STEPS)
        these.look(number, 0.7 - number / 10 + STEPS, again=True, seconds=7.0)
    found = these.compared(1, 2, 3, not_retrained={3: "it blew up"})
    one, two, three = (found.of(number) for number in (1, 2, 3))
    assert one.score == pytest.approx((0.6 + 0.6) / 2 + STEPS.mean())
    assert one.trainings == pytest.approx((0.6 + STEPS.mean(), 0.6 + STEPS.mean()))
    assert two.score == pytest.approx((0.7 + 0.5) / 2 + STEPS.mean())
    assert (three.score, three.trainings) == (pytest.approx(0.8 + STEPS.mean()), ())
    assert found.seconds == 3 * 2.0 + 2 * 7.0
    assert found.not_retrained == {3: "it blew up"}
    plain = planted()
    assert plain.compared(1, 2, 3).of(2).trainings == ()


def test_the_luck_of_training_is_as_large_as_two_trainings_differ() -> None:
    seeds = np.random.default_rng(1).normal(0, 0.05, (500, 2))
    found = luck_of_training(dict(enumerate(seeds.tolist())) | {500: [0.5]}, range(501), 200)
    assert found[:500].std() == pytest.approx(0.05 / np.sqrt(2), rel=0.1)
    assert found[500].std() == pytest.approx(0.05, rel=0.15)
    assert not luck_of_training({0: [0.5], 1: [0.4]}, [0, 1], 9).any()

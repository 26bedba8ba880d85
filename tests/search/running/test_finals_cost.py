"""What the finals cost: as many looks and trainings as there will be, on the clock of the workers that share them."""

import pytest

from search.running.finals_cost import NO_FINALS, FinalsCost
from search.study.study import load_study


@pytest.mark.parametrize(
    ("finalists", "cost"),
    [
        ({"trials": 4}, FinalsCost(looks=5)),
        ({"trials": 4, "strengths": [0.6, 1.0]}, FinalsCost(looks=6)),
        ({"trials": 4, "retrain": True}, FinalsCost(looks=5, retrained=4)),
        ({"trials": 4, "retrain": True, "twins": 3}, FinalsCost(looks=6, retrained=5, twins=3)),
        ({"trials": 9}, FinalsCost(looks=6)),  # of five trials
        ({"trials": 0, "twins": 3}, FinalsCost(twins=3)),
        ({"trials": 0}, NO_FINALS),
    ],
)
def test_a_study_asks_for_as_many_looks_and_trainings(write_study, finalists, cost) -> None:
    file = write_study(budget={"trials": 5}, finalists={"strengths": [], **finalists})
    assert FinalsCost.of(load_study(file)) == cost


def test_a_look_again_is_two_of_a_checkpoints_images_and_its_readings() -> None:
    assert FinalsCost(looks=5).seconds(60.0, 4.0, 1.0, workers=1) == pytest.approx(5 * 9)
    assert FinalsCost(looks=5).seconds(60.0, 4.0, 1.0, workers=2) == pytest.approx(5 * 9 / 2)
    assert FinalsCost(looks=5).seconds(60.0, 4.0, 1.0, workers=9) == pytest.approx(9)


def test_each_worker_trains_whole_second_trainings() -> None:
    assert FinalsCost(retrained=3).seconds(60.0, 4.0, 1.0, workers=1) == pytest.approx(3 * 69)
    assert FinalsCost(retrained=3).seconds(60.0, 4.0, 1.0, workers=2) == pytest.approx(2 * 69)


@pytest.mark.parametrize(("workers", "rounds"), [(1, 3), (2, 2), (3, 1), (8, 1)])
def test_each_of_three_twins_has_two_thirds_of_the_photos(workers: int, rounds: int) -> None:
    assert FinalsCost(twins=3).seconds(60.0, 4.0, 1.0, workers=workers) == pytest.approx(rounds * 2 / 3 * 60)
    with_losses = FinalsCost(twins=3).seconds(60.0, 4.0, 1.0, workers=workers, twin_losses=12.0)
    assert with_losses == pytest.approx(rounds * (2 / 3 * 60 + 12 / 3))

"""Runs replayed as studies with fewer images: what is planted comes out, and remembering losses changes nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.look_replay import ALWAYS, Compared, Rule, Run, losses_read_once, replay
from search.tuning.peers import Curve
from tests.search.finished_studies import Plan, planted


def _run(quality: float, seed: int, turn: float | None = None) -> Run:
    case: Any = SimpleNamespace(run="adamw")
    return Run(case, planted(Plan({}, quality=quality, turn=turn), 24, seed).readings)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [_run(0.8, 1), _run(0.5, 2, turn=8), _run(0.3, 3)]


def test_with_all_images_each_trial_is_looked_at_at_every_checkpoint(runs: list[Run]) -> None:
    with losses_read_once():
        found = replay(runs, ALWAYS)
    assert found.verdict is not None
    assert found.verdict[0] == 0
    for trial in found.trials:
        assert trial.looked == [epoch for epoch in trial.run.epochs if epoch <= trial.at]


def test_with_fewer_the_epoch_to_ship_is_looked_at_all_the_same(runs: list[Run]) -> None:
    with losses_read_once():
        always, spared = replay(runs, ALWAYS), replay(runs, Rule(2.0, due=True, learned=True))
    assert spared.verdict == always.verdict
    assert spared.looks < 0.7 * always.looks
    for trial in spared.trials:
        assert trial.onset is not None
        assert trial.onset.best in trial.looked


def test_losses_that_are_read_once_give_the_same_onset(runs: list[Run]) -> None:
    with losses_read_once():
        remembered = [runs[1].onset(24, looked, confirmed=False) for looked in (runs[1].epochs, runs[1].epochs[::3])]
    again = _run(0.5, 2, turn=8)
    assert remembered == [again.onset(24, looked, confirmed=False) for looked in (again.epochs, again.epochs[::3])]
    assert remembered[0] != remembered[1]


def test_the_pruner_need_not_be_asked_of_a_trial_that_is_not_behind_already() -> None:
    peers = Compared(warmup=0.3, min_peers=2, reports=3)
    for number, score in enumerate((0.5, 0.6)):
        peers.see(number, Curve(20, "constant", 1.0, {2: score, 8: score, 20: score}, runs=False))
    for number, score, may in ((2, 0.56, False), (3, 0.54, True)):
        peers.see(number, Curve(20, "constant", 1.0, {2: score, 4: score}, runs=True))
        assert not peers.may_fall_behind(number, 4)  # within the warm-up
        assert peers.may_fall_behind(number, 8) == may
        peers.reported(number, 8, 0.1)
        assert peers.behind(number) == may

"""Peers kept up to date report by report say what reading all trials anew says, to the last bit."""

import random
from collections.abc import Mapping

import numpy as np
import pytest

from search.tuning.peers import Curve, Peers, outlook

Trials = dict[int, Curve]


def behind(trials: Trials, number: int, min_peers: int, reports: int) -> bool:
    """What it means, read from all trials anew."""
    mine = trials[number]
    if len(mine.scores) < reports or mine.progress[-1] < 0.3:
        return False
    progress = mine.progress[-1]
    others = [
        curve
        for other, curve in trials.items()
        if other != number and curve.scores and (not curve.runs or curve.progress[-1] >= progress - 1e-9)
    ]
    kin = [curve for curve in others if curve.kind == mine.kind]
    among = [best_at(curve, progress) for curve in (kin if len(kin) >= min_peers else others)]
    if len(among) < min_peers or max(mine.scores.values()) >= float(np.median(among)):
        return False
    return outlook(mine.scores, mine.horizon) < max(max(curve.scores.values()) for curve in others)


def best_at(curve: Curve, progress: float) -> float:
    by_then = [score for at, score in zip(curve.progress, curve.scores.values(), strict=True) if at <= progress + 1e-9]
    return max(by_then, default=min(curve.scores.values()))


def fresh(schedule: str, horizon: int, cycles: float = 1.0, scores: Mapping[int, float] | None = None) -> Curve:
    return Curve(horizon, schedule, cycles, scores or {}, runs=True)


@pytest.mark.parametrize("places", [128, 2])
@pytest.mark.parametrize("seed", range(6))
def test_they_say_what_all_trials_say(seed: int, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tuning.peers._MOST_PLACES", places)
    luck = random.Random(seed)
    peers, trials = Peers(warmup=0.3, min_peers=2, reports=3), Trials()
    running: list[int] = []
    stopped = decided = 0
    for _ in range(700):
        if len(running) < 5:
            number = len(trials)
            schedule = luck.choice(["constant", "cosine", "linear", "cosine_with_restarts"])
            curve = fresh(schedule, luck.choice([8, 12, 13, 20]), 2.0)
            trials[number] = curve
            running.append(number)
        number = luck.choice(running)
        curve = trials[number]
        epoch = max(curve.scores, default=0) + luck.choice([1, 2])
        # round numbers: ties are what a list kept in order gets wrong
        score = luck.choice([float("nan"), *(round(luck.random(), 1) for _ in range(9))])
        if epoch <= curve.horizon:
            known = number in peers
            curve.add(epoch, score)
            if known:
                peers.reported(number, epoch, score)
            else:
                peers.see(number, fresh(curve.schedule, curve.horizon, curve.cycles, curve.scores))
            expected = behind(trials, number, 2, 3)
            assert peers.behind(number) is expected
            decided, stopped = decided + 1, stopped + expected
        if epoch > curve.horizon or luck.random() < 0.08:
            running.remove(number)
            failed = luck.random() < 0.2
            peers.ended(number, failed=failed)
            curve.runs = False
            if failed:
                trials[number] = Curve(curve.horizon, curve.schedule, curve.cycles, {}, runs=False)
    assert decided > 300
    assert stopped > 10


def test_a_trial_that_goes_on_to_a_later_horizon_is_compared_anew() -> None:
    peers = Peers(warmup=0.3, min_peers=2, reports=3)
    scores = {2: 0.1, 4: 0.1, 6: 0.1}
    for number, level in enumerate((0.5, 0.6)):
        peers.see(number, Curve(20, "constant", 1.0, dict.fromkeys(range(2, 21, 2), level), runs=False))
    peers.see(2, fresh("constant", 20, scores=scores))
    peers.see(3, fresh("constant", 20, scores=scores))
    assert peers.behind(2)
    peers.see(2, fresh("constant", 60, scores=scores))
    assert not peers.behind(2)  # a tenth of its schedule: too early
    assert peers.behind(3)


def test_one_that_is_seen_when_it_has_ended_counts_at_shares_that_were_asked_for_before() -> None:
    peers, trials = Peers(warmup=0.3, min_peers=2, reports=3), Trials()

    def see(number: int, level: float, *, runs: bool = False) -> None:
        trials[number] = Curve(20, "constant", 1.0, dict.fromkeys((2, 4, 8), level), runs=runs)
        peers.see(number, Curve(20, "constant", 1.0, dict.fromkeys((2, 4, 8), level), runs=runs))

    see(0, 0.5, runs=True)
    for number, level in ((1, 0.4), (2, 0.3), (3, 0.7), (4, 0.8), (5, 0.9)):
        see(number, level)
        assert peers.behind(0) is behind(trials, 0, 2, 3)
    assert peers.behind(0), "the median is above it by now"


def test_orders_that_were_not_asked_for_lately_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tuning.peers._MOST_PLACES", 2)
    peers = Peers(warmup=0.0, min_peers=1, reports=1)
    for number, last in enumerate((4, 8, 12)):
        peers.see(number, fresh("constant", 16, scores={last: 0.5}))
    for number in (0, 1, 0, 2):
        peers.behind(number)
    assert list(peers._places) == [4 / 16, 12 / 16]


def test_before_its_first_report_a_trial_counts_as_its_worst() -> None:
    curve = fresh("constant", 16, scores={4: 0.5, 8: 0.7, 12: 0.3})
    assert [curve.best_at(share) for share in (0.1, 0.25, 0.4, 0.5, 1.0)] == [0.3, 0.5, 0.5, 0.7, 0.7]
    rising = fresh("constant", 16, scores={4: 0.1, 8: 0.7})
    assert rising.best_at(0.0) == 0.1


def test_a_report_of_an_epoch_that_was_reported_before_takes_its_place() -> None:
    peers, anew = (Peers(warmup=0.0, min_peers=1, reports=1) for _ in range(2))
    for each in (peers, anew):
        each.see(1, Curve(16, "constant", 1.0, {4: 0.5, 8: 0.6}, runs=False))
    peers.see(0, fresh("constant", 16, scores={4: 0.1, 8: 0.7}))
    anew.see(0, fresh("constant", 16, scores={4: 0.1, 8: 0.2}))
    assert [peers.behind(0), anew.behind(0)] == [False, True]
    peers.reported(0, 8, 0.2)
    assert peers.behind(0)
    peers.reported(0, 4, 0.9)
    assert not peers.behind(0)
    assert peers._curves[0].scores == {4: 0.9, 8: 0.2}
    assert list(peers._curves[0].scores) == [4, 8]

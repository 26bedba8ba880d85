"""The parts of a forecast in closed form: rates, paces, peers, horizons, and the time left where all is known."""

from dataclasses import replace

import numpy as np
import pytest

from search.record.record import TrialRecord
from search.running.eta import _EDGES, Forecast, _ends, _luck, _Rates
from tests.search.any_config import CONFIG


def seconds_left(forecast: Forecast, now: float) -> float:
    left = forecast.time_left(now)
    assert left is not None
    return left.seconds


def running(number: int, epochs: int = 20, trained: int = 0) -> TrialRecord:
    return TrialRecord(number=number, state="running", config=CONFIG, params={}, epochs=epochs, epochs_trained=trained)


@pytest.mark.parametrize(
    ("before", "after", "shares"),
    [
        (0.0, 0.25, (0.0, 0.0)),  # never before the first edge
        (0.0, 0.5, (0.25, 0.0)),
        (0.5, 0.5, (0.0, 0.0)),
        (0.5, 0.75, (0.1, 0.15)),
        (0.0, 1.0, (0.35, 0.4)),
        (0.75, 1.0, (0.0, 0.25)),
        (1.0, 1.5, (0.0, 0.0)),
    ],
)
def test_what_a_trial_survives_counts_in_each_stretch(before: float, after: float, shares: tuple[float, float]):
    rates = _Rates(((1.0, 1.0), (2.0, 3.0)), True)
    rates.survived(before, after)
    assert rates.shares - (1.0, 3.0) == pytest.approx(shares)
    assert rates.events.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("share", "stretch"), [(0.1, 0), (0.3, 0), (0.6, 0), (0.61, 1), (0.99, 1), (1.2, 1)])
def test_an_early_end_counts_in_its_stretch_and_shows_that_it_can_be(share: float, stretch: int):
    rates = _Rates(((1.0, 1.0), (2.0, 3.0)), False)
    assert not rates.drawn(np.random.default_rng(0), 9).any()
    rates.happened(share)
    assert rates.events.tolist() == [1.0 + (stretch == 0), 2.0 + (stretch == 1)]
    assert rates.drawn(np.random.default_rng(0), 9).all()


def test_rates_are_drawn_as_a_gamma_distribution_of_events_over_shares():
    rates = _Rates(((4.0, 2.0), (9.0, 0.5)), True)
    drawn = rates.drawn(np.random.default_rng(0), 40_000)
    assert drawn.shape == (40_000, 2)
    assert drawn.mean(axis=0) == pytest.approx([2.0, 18.0], rel=0.02)
    assert drawn.std(axis=0) == pytest.approx([2 / 2.0, 3 / 0.5], rel=0.03)
    gamma = np.random.default_rng(1).gamma([4.0, 9.0], size=(40_000, 2)) / [2.0, 0.5]
    for at in (0.05, 0.5, 0.95):
        assert np.quantile(drawn, at, axis=0) == pytest.approx(np.quantile(gamma, at, axis=0), rel=0.04)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.8, 1.0, 1.3])
def test_a_trial_ends_where_its_luck_is_spent_at_the_rate_of_each_stretch(share: float):
    """Luck is what the rate adds up to from the share that is reached; checked by adding it up in small steps."""
    rates, luck = np.tile([2.0, 0.5], (6, 1)), np.array([0.0, 0.1, 0.5, 0.72, 0.85, 3.0])
    grid = np.linspace(share, max(1.0, share), 20_001)
    rate = np.where(grid < _EDGES[0], 0.0, np.where(grid < _EDGES[1], 2.0, 0.5))
    spent = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(grid))])
    expected = [grid[np.searchsorted(spent, each, side="right") - 1] if each < spent[-1] else grid[-1] for each in luck]
    assert _ends(rates, luck, share) == pytest.approx(expected, abs=2e-4)
    assert luck[0] == 0.0, "nothing of it is written into"


def test_without_a_rate_all_end_at_their_horizon():
    assert (_ends(np.zeros((4, 2)), np.zeros(4), 0.0) == 1.0).all()


def test_luck_is_each_trials_own_and_stays():
    one, again, other = _luck(3, 5000), _luck(3, 5000), _luck(4, 5000)
    assert one is again
    assert not np.allclose(one.end, other.end)
    assert (one.end.mean(), one.pace.mean(), one.pace.std(), one.horizon.mean()) == pytest.approx(
        (1, 0, 1, 0.5), abs=0.05
    )
    assert 0 <= one.horizon.min() < one.horizon.max() < 1


def test_the_pace_is_that_of_all_trials_by_their_epochs():
    forecast = Forecast(9, 3)
    assert forecast._pace() is None
    forecast.ended(None, replace(running(0, trained=10), timings={"train": 60.0, "score": 20.0}), 0.0)
    assert forecast._pace() == 8.0
    forecast.places = 2  # its record has only its part of the worker's time
    assert forecast._pace() == 16.0
    forecast.began(0, running(1), 100.0)
    forecast.began(1, running(2, trained=4), 100.0)
    assert forecast._pace() == 16.0
    forecast.checkpointed(0, 2, 110.0)
    assert forecast._pace() == 5.0, "of this sitting, as soon as there is one"
    forecast.checkpointed(1, 10, 112.0)
    assert forecast._pace() == pytest.approx((10.0 + 12.0) / (2 + 6))
    forecast.ended(0, running(1, trained=8), 148.0)
    assert forecast._pace() == pytest.approx((48.0 + 12.0) / (8 + 6))
    forecast.ended(1, running(2, trained=4), 150.0)
    assert forecast._pace() == 6.0, "that one ended where it began"
    assert (forecast._earlier, forecast._epochs_earlier) == (80.0, 10), "none of this sitting is of an earlier one"


def test_without_times_an_earlier_sitting_says_no_pace():
    forecast = Forecast(9, 1)
    forecast.ended(None, running(0, trained=10), 0.0)
    assert forecast._pace() is None


def test_paces_spread_as_they_did_and_as_they_usually_do():
    forecast = Forecast(9, 1)
    assert forecast._spread() == pytest.approx(0.2)
    for number, pace in enumerate((1.0, 2.0, 4.0)):
        forecast.began(0, running(number), 0.0)
        forecast.ended(0, running(number, trained=10), 10 * pace)
        if not number:
            assert forecast._spread() == pytest.approx(0.2), "one alone says nothing"
    squares = 2 * np.log(2) ** 2
    assert forecast._spread() == pytest.approx(np.sqrt((squares + 3 * 0.2**2) / (2 + 3)))
    forecast.began(0, running(3), 0.0)
    forecast.ended(0, running(3, trained=10), 0.0)  # in no time at all
    assert np.isfinite(forecast._spread())


def test_peers_are_trials_that_have_ended_or_got_as_far():
    forecast = Forecast(9, 4)
    for slot, epoch in enumerate((4, 10, 15)):
        forecast.began(slot, running(slot, trained=epoch), 0.0)
    assert [forecast._peers(0, share) for share in (0.2, 0.5, 0.51, 0.75, 0.8)] == [2, 2, 1, 1, 0]
    assert forecast._peers(2, 0.2) == 2, "not itself"
    forecast.ended(None, running(7, trained=20), 0.0)
    assert [forecast._peers(0, share) for share in (0.2, 0.75, 0.8)] == [3, 2, 1]
    assert forecast._peers(7, 0.75) == 1
    forecast.ended(None, running(8, trained=20), 0.0)
    assert forecast._peers(0, 0.2) == 2, "those that have ended are enough"


def test_stopping_is_survived_by_all_and_pruning_only_where_there_are_peers():
    forecast = Forecast(9, 3)
    pruned, stopped = forecast._pruned.shares.copy(), forecast._stopped.shares.copy()
    forecast.began(0, running(0), 0.0)
    forecast.checkpointed(0, 10, 1.0)
    assert forecast._stopped.shares - stopped == pytest.approx([0.25, 0.0])
    assert (forecast._pruned.shares == pruned).all()
    for number in (1, 2):
        forecast.ended(None, running(number, trained=20), 0.0)
    pruned, stopped = forecast._pruned.shares.copy(), forecast._stopped.shares.copy()
    forecast.checkpointed(0, 16, 2.0)
    assert forecast._pruned.shares - pruned == pytest.approx([0.1, 0.2])
    assert forecast._stopped.shares - stopped == pytest.approx([0.1, 0.2])
    before = forecast._pruned.events.copy(), forecast._stopped.events.copy()
    forecast.ended(0, replace(running(0, trained=18), stopped="pruned"), 3.0)
    assert forecast._pruned.events - before[0] == pytest.approx([0, 1])
    forecast.ended(None, replace(running(3, trained=8), stopped="onset"), 3.0)
    assert forecast._stopped.events - before[1] == pytest.approx([1, 0])
    assert forecast._pruned.shares - pruned == pytest.approx([0.1 + 0.15, 0.2 + 0.1]), "up to where each came"


def test_horizons_to_come_are_those_of_the_space_and_by_and_by_those_seen():
    luck = np.arange(1000) / 1000
    forecast = Forecast(9, 1, horizons=(30, 10))
    for number in range(4):
        forecast.ended(None, running(number, epochs=50, trained=50), 0.0)
    found = forecast._horizons()(luck)
    assert [(found == each).mean() for each in (10, 30, 50)] == pytest.approx([6 / 16, 6 / 16, 4 / 16], abs=0.002)
    unknown = Forecast(9, 1)
    for number, epochs in enumerate((20, 40, 40, 60)):
        unknown.ended(None, running(number, epochs=epochs, trained=epochs), 0.0)
    found = unknown._horizons()(luck)
    assert [(found == each).mean() for each in (20, 40, 60)] == pytest.approx([1 / 4, 1 / 2, 1 / 4], abs=0.002)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_where_all_is_known_the_time_left_is_the_longest_slots(slots: int, monkeypatch: pytest.MonkeyPatch):
    """No spread, nothing ends early: trials of 10 epochs at 3 s each go to whichever slot is free first."""
    monkeypatch.setattr("search.running.eta._SPREAD", 0.0)
    forecast = Forecast(7, slots, horizons=(10,), prunes=False, stops=False, finish=4.0)
    for slot in range(slots):
        forecast.began(slot, running(slot, epochs=10), 0.0)
        forecast.prepared(slot, 0.0)
        forecast.checkpointed(slot, 2, 6.0)
    free = [8 * 3.0] * slots
    for _ in range(7 - slots):
        first = free.index(min(free))
        free[first] += 30.0
    left = forecast.time_left(6.0)
    assert left is not None
    assert (left.low, left.seconds, left.high) == pytest.approx((max(free) + 4.0,) * 3)
    later = forecast.time_left(10.0)
    assert later is not None
    assert later.seconds == pytest.approx(max(free))


def test_of_very_many_trials_to_come_those_not_played_take_as_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("search.running.eta._SPREAD", 0.0)
    monkeypatch.setattr("search.running.eta._MOST_WAITING", 20)
    ends = []
    for deadline in (None, 500.0):
        forecast = Forecast(101, 2, horizons=(10,), deadline=deadline, prunes=False, stops=False)
        forecast.began(0, running(0, epochs=10), 0.0)
        forecast.prepared(0, 0.0)
        forecast.checkpointed(0, 5, 5.0)
        ends.append(seconds_left(forecast, 5.0))
    # 20 are played on two slots, of which one has half a trial left; the other 80 take 10 s each, two at a time
    assert ends == pytest.approx([105.0 + 80 * 10 / 2] * 2)
    assert seconds_left_with(100.0) == pytest.approx(100.0 + 95.0), "none begins after the deadline"
    assert seconds_left_with(3.0) == 5.0, "it is over: only what runs comes to its end"


def seconds_left_with(deadline: float) -> float:
    forecast = Forecast(101, 2, horizons=(10,), deadline=deadline, prunes=False, stops=False)
    forecast.began(0, running(0, epochs=10), 0.0)
    forecast.prepared(0, 0.0)
    forecast.checkpointed(0, 5, 5.0)
    return seconds_left(forecast, 5.0)


@pytest.mark.parametrize("slot", [0, None])
def test_trials_take_as_long_on_the_mean_as_their_pace_says_however_it_spreads(slot: int | None):
    """The mean of a lognormal pace is the pace itself: of a trial that runs and of one to come."""
    forecast = Forecast(33, 1, horizons=(10,), prunes=False, stops=False)
    for number in range(32):
        forecast.began(0, running(number, epochs=10), 0.0)
        forecast.ended(0, running(number, epochs=10, trained=10), 10 * (0.25 if number % 2 else 1.0))
    assert forecast._spread() > 0.5
    if slot is not None:
        forecast.began(slot, running(32, epochs=10), 0.0)
    played = forecast._plays(0.0)
    assert played is not None
    assert played.mean() == pytest.approx(10 * 0.625, rel=0.15)


def test_only_the_first_word_of_a_worker_begins_what_it_was_given():
    forecast = Forecast(2, 1, stops=False, prunes=False)
    forecast.began(0, running(0, epochs=10), 0.0)
    forecast.prepared(0, 20.0)
    forecast.prepared(0, 28.0)  # another one in the place of a lost worker
    forecast.checkpointed(0, 2, 30.0)
    assert forecast._pace() == 5.0
    forecast.checkpointed(1, 2, 30.0)  # a slot without a trial
    assert forecast._pace() == 5.0


def test_whatever_happens_moves_the_forecast_at_once():
    forecast = Forecast(9, 2, horizons=(10,), prunes=False, stops=False)
    forecast.began(0, running(0, epochs=10), 0.0)
    forecast.checkpointed(0, 5, 5.0)
    seen = [seconds_left(forecast, 5.0)]
    for happens in (
        lambda: forecast.began(1, running(1, epochs=90), 5.0),
        lambda: forecast.checkpointed(0, 9, 5.0),
        lambda: forecast.ended(0, running(0, epochs=10, trained=10), 5.0),
    ):
        happens()
        seen.append(seconds_left(forecast, 5.0))
    assert len(set(seen)) == 4


def test_who_reaches_its_horizon_has_not_ended_early():
    forecast = Forecast(9, 1)
    before = forecast._pruned.events.copy(), forecast._stopped.events.copy()
    for number, stopped in enumerate(("horizon", "pruned", "onset")):
        forecast.ended(None, replace(running(number, trained=20), stopped=stopped), 0.0)
    assert (forecast._pruned.events.tolist(), forecast._stopped.events.tolist()) == tuple(map(list, before))


@pytest.mark.parametrize(("waiting", "plays"), [(0, 240), (1, 240), (100, 240), (200, 120), (600, 40), (5000, 40)])
def test_fewer_plays_are_played_where_many_trials_are_to_come(waiting: int, plays: int):
    forecast = Forecast(waiting + 1, 1, horizons=(10,))
    forecast.began(0, running(0, epochs=10), 0.0)
    forecast.checkpointed(0, 5, 5.0)
    played = forecast._plays(5.0)
    assert played is not None
    assert played.shape == (plays,)


def test_the_more_paces_are_known_the_surer_is_their_mean():
    widths = []
    for known in (1, 16):
        forecast = Forecast(known + 12, 1, horizons=(10,), prunes=False, stops=False)
        for number in range(known):
            forecast.began(0, running(number, epochs=10), 0.0)
            forecast.ended(0, running(number, epochs=10, trained=10), 10.0)
        forecast.began(0, running(known, epochs=10), 10.0)
        left = forecast.time_left(10.0)
        assert left is not None
        widths.append((left.high - left.low) / left.seconds)
    assert widths[1] < 0.6 * widths[0]
    earlier = Forecast(3, 1, horizons=(10,), prunes=False, stops=False)
    earlier.ended(None, replace(running(0, epochs=10, trained=10), timings={"train": 50.0}), 0.0)
    left = earlier.time_left(0.0)
    assert left is not None
    assert np.isfinite([left.low, left.seconds, left.high]).all(), "none of this sitting"

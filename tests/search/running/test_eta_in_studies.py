"""The time left: as near as pruning lets it be, with a range that says how near; known for a single trial.

Studies are played with a clock of their own: trials that differ in pace and horizon, some pruned, some stopped.
"""

import heapq
import random
import statistics
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from search.record.record import TrialRecord
from search.running.eta import Forecast, TimeLeft, planned_epochs
from search.study.space import Entry, Space
from tests.search.any_config import CONFIG


@dataclass(frozen=True)
class Shape:
    """Of a study: `pruned` and `stopped` are shares of its trials, `starting` seconds until the workers are ready.

    `pruned` None: every study has a rate of its own, 0.4 on the average. `spread`: of the trials' paces, as ln.
    """

    trials: int = 14
    slots: int = 2
    horizons: tuple[int, ...] = (16, 32, 32)
    pruned: float | None = 0.3
    stopped: float = 0.1
    starting: float = 15.0
    spread: float = 0.2
    step: int = 2


SHAPES = {
    "like the demo": Shape(),
    "four slots": Shape(trials=40, slots=4),
    "one slot": Shape(trials=20, slots=1),
    "nothing ends early": Shape(pruned=0.0, stopped=0.0),
    "one horizon, some stopped": Shape(horizons=(40,), pruned=0.0, stopped=0.3),
    "six of ten pruned": Shape(pruned=0.6),
    "eight trials": Shape(trials=8, horizons=(8, 16, 16), pruned=0.5),
    "any rate of pruning": Shape(trials=20, pruned=None),
}
NEVER_TUNED_ON = {  # the forecast's few constants were chosen with seeds 200 to 219 of the shapes above
    "three slots, four of ten pruned": Shape(trials=18, slots=3, horizons=(12, 24, 48), pruned=0.4, spread=0.35),
    "thirty trials, one of ten pruned": Shape(trials=30, horizons=(30,), pruned=0.1, stopped=0.3),
    "ten trials, half of them pruned": Shape(trials=10, slots=1, horizons=(10, 20), pruned=0.5, stopped=0.0),
}


@dataclass(frozen=True)
class Told:
    """At an event: seconds, trials that have ended, what was forecast."""

    now: float
    ended: int
    left: TimeLeft | None


def play(shape: Shape, seed: int) -> list[Told]:
    """What is forecast whenever a trial ends, and at a fifth of the checkpoints; and at the end."""
    luck, asked = random.Random(seed), random.Random(seed + 1000)
    forecast, events, told = Forecast(shape.trials, shape.slots, horizons=shape.horizons), [], []
    pruned = luck.betavariate(2, 3) if shape.pruned is None else shape.pruned
    begun = ended = 0

    def begin(slot: int, now: float) -> None:
        nonlocal begun
        if begun == shape.trials:
            return
        planned, kind = luck.choice(shape.horizons), luck.random()
        end, why = float(planned), "horizon"
        if begun >= 3 and kind < pruned:
            end, why = planned * luck.uniform(0.3, 0.7), "pruned"
        elif kind > 1 - shape.stopped:
            end, why = planned * luck.uniform(0.4, 1.0), "onset"
        pace = luck.lognormvariate(0, shape.spread)
        record = TrialRecord(number=begun, state="running", config=CONFIG, params={}, epochs=planned, stopped=why)
        forecast.began(slot, record, now)
        first = max(now, shape.starting) + shape.step * pace
        heapq.heappush(events, (first, slot, record, shape.step, max(shape.step, round(end)), pace))
        begun += 1

    for slot in range(shape.slots):
        begin(slot, 0.0)
    for slot in range(shape.slots):
        forecast.prepared(slot, shape.starting)
    while events:
        now, slot, record, epoch, end, pace = heapq.heappop(events)
        if epoch >= end:
            forecast.ended(slot, replace(record, state="complete", epochs_trained=epoch), now)
            ended += 1
            begin(slot, now)
        else:
            forecast.checkpointed(slot, epoch, now)
            step = shape.step * pace * luck.uniform(0.9, 1.1)
            heapq.heappush(events, (now + step, slot, record, epoch + shape.step, end, pace))
        if epoch >= end or asked.random() < 0.2:
            told.append(Told(now, ended, forecast.time_left(now)))
    return told


def errors(told: list[Told], since: int = 2) -> list[float]:
    """Errors of the forecast end, as shares of the whole, once so many trials have ended."""
    whole = told[-1].now
    return [abs(t.now + t.left.seconds - whole) / whole for t in told if t.left is not None and t.ended >= since]


def held(told: list[Told]) -> list[bool]:
    """Whether the range held what came, from the second finished trial on."""
    whole = told[-1].now
    known = [(t, t.left) for t in told[:-1] if t.left is not None and t.ended >= 2]
    return [left.low <= whole - t.now <= left.high for t, left in known]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_time_left_is_right_within_a_quarter_of_the_whole_in_most_studies(shape):
    studies = [play(shape, seed) for seed in range(4)]
    worst = sorted(max(errors(told)) for told in studies)
    assert worst[1] <= 0.3, "half of the studies never err by more"
    assert statistics.fmean(e <= 0.25 for told in studies for e in errors(told)) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("shape", (SHAPES | NEVER_TUNED_ON).values(), ids=SHAPES | NEVER_TUNED_ON)
def test_the_range_holds_what_comes_in_nine_of_ten(shape):
    studies = [play(shape, seed) for seed in range(60)]
    share = statistics.fmean(each for told in studies for each in held(told))
    worst = sorted(max(errors(told)) for told in studies)
    within = statistics.fmean(e <= 0.25 for told in studies for e in errors(told))
    ends = [[t.now + t.left.seconds for t in told if t.left is not None and t.ended >= 2] for told in studies]
    jumps = sorted(abs(b - a) / told[-1].now for told, e in zip(studies, ends, strict=True) for a, b in pairwise(e))
    print(f"held {share:.2f}, worst {worst[30]:.2f} {worst[54]:.2f}, within a quarter {within:.2f}, "
          f"jumps {jumps[len(jumps) // 2]:.3f} {jumps[-len(jumps) // 100]:.3f} {jumps[-1]:.2f}")  # fmt: skip
    assert share >= 0.85
    assert jumps[-len(jumps) // 100] <= 0.2, "99 of 100 events move the end by less"


def test_the_forecast_does_not_move_while_nothing_happens_and_what_is_expected_does():
    forecast = Forecast(6, 2, horizons=(20,), prunes=False, stops=False)
    for slot in range(2):
        forecast.began(slot, TrialRecord(number=slot, state="running", config=CONFIG, params={}, epochs=20), 0.0)
        forecast.prepared(slot, 0.0)
    ends = []
    for epoch in range(2, 20, 2):
        for slot in range(2):
            forecast.checkpointed(slot, epoch, float(epoch))
        for wait in (0.0, 0.5, 1.5):
            left = forecast.time_left(epoch + wait)
            assert left is not None
            assert left.low <= left.seconds <= left.high
            ends.append(epoch + wait + left.seconds)
    assert max(ends) - min(ends) <= 0.03 * 60


def test_a_study_of_one_trial_knows_it_from_its_first_checkpoint_on():
    told = play(Shape(trials=1, slots=1, pruned=0, stopped=0), 1)
    assert all(t.left is not None for t in told)
    assert max(errors(told, since=0)) <= 0.08


def test_it_counts_down_between_checkpoints_and_knows_nothing_before_the_first():
    forecast = Forecast(1, 1, stops=False)
    record = TrialRecord(number=0, state="running", config=CONFIG, params={}, epochs=10)
    forecast.began(0, record, 0.0)
    forecast.prepared(0, 20.0)
    assert forecast.time_left(21.0) is None
    forecast.checkpointed(0, 2, 30.0)  # five seconds an epoch: what came before it was ready does not count
    assert seconds_left(forecast, 30.0) == pytest.approx(40.0, rel=0.02)
    assert seconds_left(forecast, 37.0) == pytest.approx(33.0, rel=0.02)
    assert seconds_left(forecast, 1000.0) == 0


def test_a_trial_without_peers_cannot_be_pruned():
    for trials, certain in ((1, True), (9, False)):
        forecast = Forecast(trials, 1, stops=False)
        for number in range(trials - 1):
            forecast.ended(None, TrialRecord(number=number, state="complete", config=CONFIG, params={}, epochs=40,
                                             epochs_trained=40, timings={"train": 40.0}), 0.0)  # fmt: skip
        forecast.began(0, TrialRecord(number=trials - 1, state="running", config=CONFIG, params={}, epochs=40), 0.0)
        forecast.prepared(0, 0.0)
        for epoch in range(1, 11):
            forecast.checkpointed(0, epoch, float(epoch))
        left = forecast.time_left(10.0)
        assert left is not None
        assert (left.low > 25) is certain


def test_the_finish_is_counted():
    ends = []
    for finish in (0.0, 7.0):
        forecast = Forecast(1, 1, stops=False, finish=finish)
        forecast.began(0, TrialRecord(number=0, state="running", config=CONFIG, params={}, epochs=10), 0.0)
        forecast.prepared(0, 0.0)
        forecast.checkpointed(0, 5, 5.0)
        ends.append(seconds_left(forecast, 5.0))
    assert ends[1] - ends[0] == pytest.approx(7.0)


def seconds_left(forecast: Forecast, now: float) -> float:
    left = forecast.time_left(now)
    assert left is not None
    return left.seconds


def test_a_resumed_study_knows_its_pace_from_the_sitting_before():
    forecast = Forecast(3, 1, horizons=(10,), prunes=False, stops=False)
    done = TrialRecord(number=0, state="complete", config=CONFIG, params={}, epochs=10, epochs_trained=10,
                       timings={"train": 40.0, "sample": 10.0})  # fmt: skip
    forecast.ended(None, done, 0.0)
    forecast.began(0, replace(done, number=1, state="running", epochs_trained=4, timings={}), 0.0)
    assert seconds_left(forecast, 0.0) == pytest.approx(5 * 6 + 5 * 10, rel=0.1)


def test_of_an_earlier_sitting_it_knows_how_far_trials_were_planned():
    """The trial that runs is short; of those to come as many are long as there were before."""
    forecast = Forecast(26, 1, prunes=False, stops=False)
    for number in range(5):
        epochs = 10 if number == 4 else 40
        done = TrialRecord(number=number, state="complete", config=CONFIG, params={}, epochs=epochs,
                           epochs_trained=epochs, timings={"train": float(epochs)})  # fmt: skip
        forecast.ended(None, done, 0.0)
    forecast.began(0, TrialRecord(number=5, state="running", config=CONFIG, params={}, epochs=10), 0.0)
    assert seconds_left(forecast, 0.0) == pytest.approx(10 + 20 * (4 * 40 + 2 * 10) / 6, rel=0.15)


def test_no_trial_is_counted_that_would_begin_after_the_hours_are_spent():
    record = TrialRecord(number=0, state="running", config=CONFIG, params={}, epochs=10)
    for deadline, waiting in ((None, 9), (0.0, 0)):
        forecast = Forecast(10, 1, horizons=(10,), deadline=deadline, prunes=False, stops=False)
        forecast.began(0, record, 0.0)
        forecast.prepared(0, 0.0)
        forecast.checkpointed(0, 5, 5.0)
        assert seconds_left(forecast, 5.0) == pytest.approx(5.0 + waiting * 10.0, rel=0.05)


def test_what_a_trial_is_planned_for_follows_from_the_search_space():
    schedule = Entry("lr_scheduler", "lr_scheduler", values=("constant", "cosine"))
    epochs = Entry("epochs", "epochs", values=(10, 20), when=(("lr_scheduler", ("cosine",)),))
    assert set(planned_epochs(Space(), 32)) == {32}
    planned = planned_epochs(Space((schedule, epochs)), 45)
    assert set(planned) == {10, 20, 45}
    assert statistics.fmean(planned) == pytest.approx((45 + 15) / 2, rel=0.1)

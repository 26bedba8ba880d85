"""The time left: right within a quarter of the whole from the second finished trial on, and known for a single one.

Studies are played with a clock of their own: trials that differ in pace and horizon, some pruned, some stopped.
"""

import heapq
import random
from dataclasses import dataclass, replace

import pytest

from search.record.record import TrialRecord
from search.running.eta import Forecast, planned_epochs
from search.study.space import Entry, Space


@dataclass(frozen=True)
class Shape:
    """Of a study: `pruned` and `stopped` are shares of its trials, `starting` seconds until the workers are ready."""

    trials: int = 14
    slots: int = 2
    horizons: tuple[int, ...] = (16, 32, 32)
    pruned: float = 0.3
    stopped: float = 0.1
    starting: float = 15.0
    jitter: float = 0.15
    step: int = 2


def play(shape: Shape, seed: int) -> list[tuple[float, int, float | None]]:
    """(seconds, trials that have ended, seconds left as forecast) at every event."""
    luck = random.Random(seed)
    horizon = sum(shape.horizons) / len(shape.horizons)
    forecast, events, told = Forecast(shape.trials, shape.slots, horizon=horizon), [], []
    begun = ended = 0

    def begin(slot: int, now: float) -> None:
        nonlocal begun
        if begun == shape.trials:
            return
        planned, kind = luck.choice(shape.horizons), luck.random()
        end = planned
        if begun >= 3 and kind < shape.pruned:
            end = planned * luck.uniform(0.3, 0.7)
        elif kind > 1 - shape.stopped:
            end = planned * luck.uniform(0.4, 1.0)
        pace = luck.uniform(1 - shape.jitter, 1 + shape.jitter)
        record = TrialRecord(number=begun, state="running", config={}, params={}, epochs=planned)
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
            heapq.heappush(events, (now + shape.step * pace, slot, record, epoch + shape.step, end, pace))
        told.append((now, ended, forecast.seconds_left(now)))
    return told


def worst(told: list[tuple[float, int, float | None]], since: int = 2) -> float:
    """The largest error of the forecast end, as a share of the whole, once so many trials have ended."""
    whole = told[-1][0]
    return max(abs(now + left - whole) / whole for now, ended, left in told if ended >= since)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(trials=40, slots=4),
        Shape(trials=20, slots=1),
        Shape(pruned=0.0, stopped=0.0),
        Shape(horizons=(40,), pruned=0.0, stopped=0.3),
    ],
    ids=["like the demo", "four slots", "one slot", "nothing ends early", "one horizon, some stopped"],
)
def test_from_the_second_finished_trial_on_it_is_within_a_quarter(shape):
    errors = sorted(worst(play(shape, seed)) for seed in range(60))
    assert errors[30] <= 0.2
    assert errors[48] <= 0.25, "four studies of five"


def test_a_study_of_one_trial_knows_it_from_its_first_checkpoint_on():
    told = play(Shape(trials=1, slots=1, pruned=0, stopped=0), 1)
    assert all(left is not None for _, _, left in told)
    assert worst(told, since=0) <= 0.05


def test_it_counts_down_between_checkpoints_and_knows_nothing_before_the_first():
    forecast = Forecast(1, 1)
    record = TrialRecord(number=0, state="running", config={}, params={}, epochs=10)
    forecast.began(0, record, 0.0)
    forecast.prepared(0, 20.0)
    assert forecast.seconds_left(21.0) is None
    forecast.checkpointed(0, 2, 30.0)  # five seconds an epoch: what came before it was ready does not count
    assert forecast.seconds_left(30.0) == pytest.approx(40.0)
    assert forecast.seconds_left(37.0) == pytest.approx(33.0)


def test_a_resumed_study_knows_its_pace_from_the_sitting_before():
    forecast = Forecast(3, 1, horizon=10)
    done = TrialRecord(number=0, state="complete", config={}, params={}, epochs=10, epochs_trained=10,
                       timings={"train": 40.0, "sample": 10.0})  # fmt: skip
    forecast.ended(None, done, 0.0)
    forecast.began(0, replace(done, number=1, state="running", epochs_trained=4, timings={}), 0.0)
    assert forecast.seconds_left(0.0) == pytest.approx(5 * 6 + 5 * 10, rel=0.25)


def test_no_trial_is_counted_that_would_begin_after_the_hours_are_spent():
    record = TrialRecord(number=0, state="running", config={}, params={}, epochs=10)
    for deadline, waiting in ((None, 9), (0.0, 0)):
        forecast = Forecast(10, 1, horizon=10, deadline=deadline)
        forecast.began(0, record, 0.0)
        forecast.prepared(0, 0.0)
        forecast.checkpointed(0, 5, 5.0)
        assert forecast.seconds_left(5.0) == pytest.approx(5.0 + waiting * 8.0)


def test_what_a_trial_is_planned_for_follows_from_the_search_space():
    schedule = Entry("lr_scheduler", "lr_scheduler", values=("constant", "cosine"))
    epochs = Entry("epochs", "epochs", values=(10, 20), when=(("lr_scheduler", ("cosine",)),))
    assert planned_epochs(Space(), 32) == 32
    assert planned_epochs(Space((schedule, epochs)), 45) == pytest.approx((45 + 15) / 2, rel=0.1)

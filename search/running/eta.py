"""How long a study will still take, from when its trials began, reached their checkpoints and ended."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from search.record.record import TrialRecord
from search.study.space import Space

_DRAWS = 256
USUAL_SHARE, SHARE_WEIGHT = 0.8, 5.0  # of its horizon that a trial is trained for, and how many trials that counts as
HORIZON_WEIGHT = 12.0  # trials that the study file's own horizon counts as; all three chosen on simulated studies


@dataclass
class _Course:
    """A trial on a slot: clock seconds, and epochs of this sitting only."""

    began: float
    first_epoch: int
    horizon: int
    epoch: int
    at: float  # when that epoch was reached


class Forecast:
    """The time left of a study, in clock seconds.

    A trial that runs is expected to go as far as those that got this far; one that waits, as far as all did on the
    average, pruned and stopped ones included. Slots take the waiting ones in turn.

    Args:
        trials: how many there will be. slots: how many run at a time.
        horizon: epochs that a trial of this study is planned for, on the average; None: not known.
        deadline: clock second after which no trial is begun, or None.
    """

    def __init__(self, trials: int, slots: int, *, horizon: float | None = None, deadline: float | None = None) -> None:
        self.trials, self.slots, self.horizon, self.deadline = trials, slots, horizon, deadline
        self._ready: dict[int, float] = {}
        self._running: dict[int, _Course] = {}  # by slot
        self._horizons: dict[int, int] = {}  # by trial, ended or not
        self._shares: dict[int, float] = {}  # of the horizon, by trial that has ended
        self._busy, self._epochs = 0.0, 0  # of trials that ended in this sitting
        self._earlier, self._epochs_earlier = 0.0, 0  # of those before it

    def prepared(self, slot: int, now: float) -> None:
        """The slot's worker is ready; what it was given before begins now."""
        self._ready.setdefault(slot, now)
        if slot in self._running:
            course = self._running[slot]
            course.began = course.at = now

    def began(self, slot: int, record: TrialRecord, now: float) -> None:
        """A trial is on a slot, at the epoch that its record says."""
        epoch = record.epochs_trained
        self._horizons[record.number] = record.epochs
        self._running[slot] = _Course(now, epoch, record.epochs, epoch, now)

    def checkpointed(self, slot: int, epoch: int, now: float) -> None:
        """The trial on this slot has reached a checkpoint and is decided to go on."""
        course = self._running.get(slot)
        if course is not None:
            course.epoch, course.at = epoch, now

    def ended(self, slot: int | None, record: TrialRecord, now: float) -> None:
        """A trial has ended; `slot` is None for those of an earlier sitting."""
        self._horizons[record.number] = record.epochs
        self._shares[record.number] = record.epochs_trained / max(record.epochs, 1)
        course = None if slot is None else self._running.pop(slot, None)
        if course is not None:
            self._busy += now - course.began
            self._epochs += record.epochs_trained - course.first_epoch
        else:
            self._earlier += sum(record.timings.values())
            self._epochs_earlier += record.epochs_trained

    def seconds_left(self, now: float) -> float | None:
        """Clock seconds to the end of the last trial; None before the first checkpoint of all."""
        pace = self._seconds_per_epoch()
        if pace is None or not self._horizons:
            return None
        free = [self._left(course, pace, now) for course in self._running.values()]
        free += [0.0] * (self.slots - len(free))
        waiting = self.trials - len(self._shares) - len(self._running)
        each = pace * self._epochs_of_one()
        for _ in range(waiting):
            slot = free.index(min(free))
            if self.deadline is not None and now + free[slot] >= self.deadline:
                break
            free[slot] += each
        return max(free)

    def _seconds_per_epoch(self) -> float | None:
        courses = self._running.values()
        epochs = self._epochs + sum(course.epoch - course.first_epoch for course in courses)
        if epochs > 0:
            return (self._busy + sum(course.at - course.began for course in courses)) / epochs
        return self._earlier / self._epochs_earlier if self._epochs_earlier and self._earlier > 0 else None

    def _left(self, course: _Course, pace: float, now: float) -> float:
        share = course.epoch / max(course.horizon, 1)
        farther = [each for each in self._shares.values() if each > share]
        goal = _mean(farther, 1.0, 1.0)
        return max(0.0, pace * (goal - share) * course.horizon - (now - course.at))

    def _epochs_of_one(self) -> float:
        horizons = list(self._horizons.values())
        horizon = fmean(horizons) if self.horizon is None else _mean(horizons, self.horizon, HORIZON_WEIGHT)
        return horizon * _mean(list(self._shares.values()), USUAL_SHARE, SHARE_WEIGHT)


def planned_epochs(space: Space, otherwise: int) -> float:
    """Epochs that a trial of this search space is planned for, on the average of random draws.

    Args:
        otherwise: where the space does not choose them.
    """
    generator, total = random.Random(0), 0.0
    for _ in range(_DRAWS):
        chosen: dict[str, Any] = {}
        for entry in space.entries:
            if entry.active(chosen):
                chosen[entry.field] = generator.choice(entry.corners)
        total += chosen.get("epochs", otherwise)
    return total / _DRAWS


def _mean(values: Sequence[float], usual: float, weight: float) -> float:
    """The mean of some values, and of what is usual with the weight of so many of them."""
    return (sum(values) + weight * usual) / (len(values) + weight)

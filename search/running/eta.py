"""How long a study will still take, from when its trials began, reached their checkpoints and ended.

What is to come is not known: how far a trial gets before it is pruned, and how fast it trains. So the rest of the study
is played many times, each time with another guess of both that fits what was seen, and the time left is the median of
these plays, with the range of nine in ten.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from search.record.record import TrialRecord
from search.study.space import Space

_PLAYS, _MOST_STEPS = 240, 24_000  # of a study with many trials to come fewer are played
_MOST_WAITING = 600  # trials to come that are played one by one
_LOW, _HIGH = 0.03, 0.97
_WIDER = (
    1.3  # so that the range holds what comes in nine of ten simulated studies: the plays are surer than they should be
)
_EDGES = (0.25, 0.6, 1.0)  # shares of the horizon between which a trial ends early at one rate; never before the first
_PRUNED = ((1.2, 1.3), (0.7, 2.0))  # events and shares of a horizon that the usual rate is worth, in each stretch
_STOPPED = ((0.5, 3.0), (0.5, 2.0))
_PEERS = 2  # without so many others nothing is pruned (`search.tuning.pruner`)
_PLANNED_WEIGHT = 12.0  # trials that the search space's own horizons count as
_SPREAD, _SPREAD_WEIGHT = 0.2, 3.0  # of a trial's pace, as ln, and how many trials that counts as


@dataclass(frozen=True)
class TimeLeft:
    """Clock seconds to the end of a study: the middle of what is likely, and the range that holds it in nine of ten."""

    seconds: float
    low: float
    high: float


@dataclass
class _Course:
    """A trial on a slot: clock seconds, and epochs of this sitting only."""

    number: int
    began: float
    first_epoch: int
    horizon: int
    epoch: int
    at: float  # when that epoch was reached
    intervals: int = 0

    @property
    def share(self) -> float:
        return self.epoch / max(self.horizon, 1)

    @property
    def pace(self) -> float | None:
        """Seconds per epoch; None before its first checkpoint."""
        return (self.at - self.began) / (self.epoch - self.first_epoch) if self.epoch > self.first_epoch else None


class Forecast:
    """The time left of a study, in clock seconds.

    Args:
        trials: how many there will be. slots: how many run at a time.
        horizons: a sample of the epochs that trials of this study are planned for; empty: not known.
        deadline: clock second after which no trial is begun, or None.
        prunes, stops: whether trials may be pruned, and stopped at their onset.
        finish: seconds from the end of the last trial to the verdict.

    places: trials that share a worker; of its time a trial's record has only the trial's part.
    """

    def __init__(
        self,
        trials: int,
        slots: int,
        *,
        horizons: Sequence[int] = (),
        deadline: float | None = None,
        prunes: bool = True,
        stops: bool = True,
        finish: float = 0.0,
    ) -> None:
        self.trials, self.slots, self.horizons, self.deadline = trials, slots, tuple(horizons), deadline
        self.finish, self.places = finish, 1
        self._ready: set[int] = set()
        self._running: dict[int, _Course] = {}  # by slot
        self._seen: dict[int, int] = {}  # horizons by trial, ended or not
        self._shares: dict[int, float] = {}  # of the horizon, by trial that has ended
        self._paces: list[tuple[float, int]] = []  # (seconds per epoch, epochs) of trials that ended in this sitting
        self._earlier, self._epochs_earlier = 0.0, 0  # of those before it
        self._pruned, self._stopped = _Rates(_PRUNED, prunes), _Rates(_STOPPED, stops)
        self._played: tuple[float, np.ndarray] | None = None  # when, and each play's seconds from then on

    def prepared(self, slot: int, now: float) -> None:
        """The slot's worker is ready; what it was given before begins now."""
        if slot in self._ready:
            return
        self._ready.add(slot)
        if slot in self._running:
            course = self._running[slot]
            course.began = course.at = now

    def began(self, slot: int, record: TrialRecord, now: float) -> None:
        """A trial is on a slot, at the epoch that its record says."""
        epoch = record.epochs_trained
        self._seen[record.number] = record.epochs
        self._running[slot] = _Course(record.number, now, epoch, record.epochs, epoch, now)
        self._played = None

    def checkpointed(self, slot: int, epoch: int, now: float) -> None:
        """The trial on this slot has reached a checkpoint and is decided to go on."""
        course = self._running.get(slot)
        if course is None:
            return
        self._survived(course.number, course.share, epoch / max(course.horizon, 1))
        course.epoch, course.at, course.intervals = epoch, now, course.intervals + 1
        self._played = None

    def ended(self, slot: int | None, record: TrialRecord, now: float) -> None:
        """A trial has ended; `slot` is None for those of an earlier sitting."""
        self._seen[record.number] = record.epochs
        share = record.epochs_trained / max(record.epochs, 1)
        course = None if slot is None else self._running.pop(slot, None)
        self._survived(record.number, 0.0 if course is None else course.share, share)
        if share < 1:
            (self._pruned if record.stopped == "pruned" else self._stopped).happened(share)
        self._shares[record.number] = share
        if course is not None and record.epochs_trained > course.first_epoch:
            epochs = record.epochs_trained - course.first_epoch
            self._paces.append(((now - course.began) / epochs, epochs))
        elif course is None:
            self._earlier += sum(record.timings.values())
            self._epochs_earlier += record.epochs_trained
        self._played = None

    def time_left(self, now: float) -> TimeLeft | None:
        """Clock seconds to the end of the study; None before the first checkpoint of all."""
        if self._played is None:
            plays = self._plays(now)
            if plays is None:
                return None
            self._played = (now, plays)
        since, plays = self._played
        # a play in which the next checkpoint would have been there by now is not counted below nothing
        left = np.maximum(plays - (now - since), 0.0)
        low, middle, high = (float(q) for q in np.quantile(left, (_LOW, 0.5, _HIGH)))
        return TimeLeft(middle, max(0.0, middle - _WIDER * (middle - low)), middle + _WIDER * (high - middle))

    # --- what was seen

    def _survived(self, number: int, before: float, after: float) -> None:
        """A trial got from one share of its horizon to another; of pruning that tells only where it had peers."""
        if self._peers(number, after) >= _PEERS:
            self._pruned.survived(before, after)
        self._stopped.survived(before, after)

    def _peers(self, number: int, share: float) -> int:
        """Other trials that have ended or got as far; of many only those that have ended."""
        ended = len(self._shares) - (number in self._shares)
        if ended >= _PEERS:
            return ended
        return ended + sum(c.number != number and c.share >= share for c in self._running.values())

    def _pace(self) -> float | None:
        """Seconds per epoch, all trials together."""
        own = [(c.pace, c.epoch - c.first_epoch) for c in self._running.values() if c.pace is not None]
        both = [*self._paces, *own]
        epochs = sum(e for _, e in both)
        if epochs:
            return sum(pace * e for pace, e in both) / epochs
        return (
            self.places * self._earlier / self._epochs_earlier if self._epochs_earlier and self._earlier > 0 else None
        )

    def _spread(self) -> float:
        """Standard deviation between trials of the ln of their pace."""
        logs = np.log([max(pace, 1e-9) for pace, _ in self._paces])
        ss = float(((logs - logs.mean()) ** 2).sum()) if logs.size > 1 else 0.0
        return float(np.sqrt((ss + _SPREAD_WEIGHT * _SPREAD**2) / (max(logs.size - 1, 0) + _SPREAD_WEIGHT)))

    # --- what may come

    def _plays(self, now: float) -> np.ndarray | None:
        """[plays] seconds from now to the end of the study in each of them."""
        pace = self._pace()
        if pace is None or not self._seen:
            return None
        waiting = max(0, self.trials - len(self._shares) - len(self._running))
        plays = max(40, min(_PLAYS, _MOST_STEPS // max(waiting, 1)))
        luck = np.random.default_rng(0)  # the same at every call: only what was seen moves the forecast
        known = len(self._paces) + sum(course.intervals > 0 for course in self._running.values())
        spread = self._spread()
        mean = pace * np.exp(luck.normal(size=plays) * spread / np.sqrt(max(known, 1)))
        pruned, stopped = self._pruned.drawn(luck, plays), self._stopped.drawn(luck, plays)
        free = np.zeros((plays, self.slots))
        for slot, course in sorted(self._running.items()):
            own = _luck(course.number, plays)
            alone = self._peers(course.number, course.share) < _PEERS
            goal = _ends(stopped if alone else pruned + stopped, own.end, course.share)
            step = mean * np.exp(spread * own.pace - spread**2 / 2)
            if course.pace is not None:  # what it showed itself counts by its checkpoints
                trust = course.intervals / (course.intervals + 1.0)
                step = step ** (1 - trust) * course.pace**trust
            left = (goal - course.share) * course.horizon * step - (now - course.at)
            free[:, slot % self.slots] = np.maximum(left, 0.0)
        played = min(waiting, _MOST_WAITING)
        horizons, spent = self._horizons(), np.zeros(plays)
        for number in range(self.trials - played, self.trials):
            own = _luck(number, plays)
            slot = free.argmin(axis=1)
            begins = free[np.arange(plays), slot]
            takes = _ends(pruned + stopped, own.end, 0.0) * horizons(own.horizon)
            takes *= mean * np.exp(spread * own.pace - spread**2 / 2)
            if self.deadline is not None:
                takes = np.where(now + begins >= self.deadline, 0.0, takes)
            free[np.arange(plays), slot] = begins + takes
            spent += takes
        others = spent / _MOST_WAITING * (waiting - played) / self.slots  # as long as those that were played
        if self.deadline is not None:
            others = np.minimum(others, max(0.0, self.deadline - now))
        return free.max(axis=1) + others + self.finish

    def _horizons(self) -> Callable[[np.ndarray], np.ndarray]:
        """Epochs planned for, one for each number in [0, 1) that it is given: of the search space, and of the trials so
        far."""
        seen = np.sort(np.array(list(self._seen.values()), dtype=float))
        planned = np.sort(np.array(self.horizons, dtype=float))
        share = _PLANNED_WEIGHT / (_PLANNED_WEIGHT + seen.size)

        def of(luck: np.ndarray) -> np.ndarray:
            if not planned.size:
                return seen[(luck * seen.size).astype(int)]
            inside = np.clip(luck / share, 0, 1 - 1e-9), np.clip((luck - share) / (1 - share), 0, 1 - 1e-9)
            return np.where(
                luck < share,
                planned[(inside[0] * planned.size).astype(int)],
                seen[(inside[1] * seen.size).astype(int)],
            )

        return of


@dataclass(frozen=True)
class _Luck:
    """What is drawn for one trial, the same in every forecast: [plays] each."""

    end: np.ndarray  # exponential
    pace: np.ndarray  # normal
    horizon: np.ndarray  # uniform


@lru_cache(maxsize=4096)
def _luck(number: int, plays: int) -> _Luck:
    luck = np.random.default_rng([1, number])
    return _Luck(luck.exponential(size=plays), luck.normal(size=plays), luck.random(plays))


class _Rates:
    """How often trials end early for one reason, per share of their horizon, in each stretch between `_EDGES`."""

    def __init__(self, usual: Sequence[tuple[float, float]], possible: bool) -> None:
        self.events = np.array([events for events, _ in usual])
        self.shares = np.array([shares for _, shares in usual])
        self.possible = possible

    def survived(self, before: float, after: float) -> None:
        for stretch, (low, high) in enumerate(pairwise(_EDGES)):
            self.shares[stretch] += max(0.0, min(after, high) - max(before, low))

    def happened(self, share: float) -> None:
        self.events[min(int(np.searchsorted(_EDGES[1:], share)), len(self.events) - 1)] += 1
        self.possible = True

    def drawn(self, luck: np.random.Generator, plays: int) -> np.ndarray:
        """[plays, stretches] rates that fit what was seen."""
        # Wilson and Hilferty's gamma: smooth in what was seen, so that a forecast does not jump by another draw
        normal, shape = luck.normal(size=(plays, self.events.size)), self.events
        gamma = shape * np.maximum(0.0, 1 - 1 / (9 * shape) + normal / (3 * np.sqrt(shape))) ** 3
        return gamma / self.shares * self.possible


def _ends(rates: np.ndarray, luck: np.ndarray, share: float) -> np.ndarray:
    """[plays] shares of the horizon at which a trial ends that got to `share`, by exponential `luck`."""
    left, end = luck.copy(), np.full(luck.shape, np.nan)
    for stretch, (low, high) in enumerate(pairwise(_EDGES)):
        start = max(low, share)
        if start >= high:
            continue
        rate = rates[:, stretch]
        inside = np.isnan(end) & (left < rate * (high - start))
        end[inside] = start + left[inside] / rate[inside]
        left -= rate * (high - start)
    return np.where(np.isnan(end), max(1.0, share), end)


def planned_epochs(space: Space, otherwise: int, draws: int = 256) -> list[int]:
    """Epochs that trials of this search space are planned for, in so many random draws.

    Args:
        otherwise: where the space does not choose them.
    """
    generator, horizons = random.Random(0), []
    for _ in range(draws):
        chosen: dict[str, Any] = {}
        for entry in space.entries:
            if entry.active(chosen):
                chosen[entry.field] = generator.choice(entry.corners)
        horizons.append(int(chosen.get("epochs", otherwise)))
    return horizons

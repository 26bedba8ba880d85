"""What trials have reported, kept so that one of them is compared with all others at once, however many there are.

It says what `search.tuning.pruner` means by worse than its peers. Of each share of the learning rate at which trials
have been compared, the scores of the others up to there are kept in order; a new report moves one number in them.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isnan, pi, sin

from trainer.config.rules import FLAT_SCHEDULERS

_CLOSE = 1e-9  # shares that differ by less are one
_MOST_PLACES = 128  # shares at which the order is kept; one that has not been asked for lately is built again


class Curve:
    """What one trial has reported: its scores by epoch, without those that are no numbers.

    Args:
        horizon, schedule, cycles: of its learning rate.
    """

    def __init__(self, horizon: int, schedule: str, cycles: float, scores: Mapping[int, float], *, runs: bool) -> None:
        self.horizon, self.schedule, self.cycles, self.runs = horizon, schedule, cycles, runs
        self.scores: dict[int, float] = {}
        self.progress: list[float] = []
        self.best_until: list[float] = []
        self.least = float("inf")
        for epoch, score in sorted(scores.items()):
            self.add(epoch, score)

    def add(self, epoch: int, score: float) -> None:
        """One more report, of a later epoch."""
        if isnan(score):
            return
        self.scores[epoch] = score
        self.progress.append(spent(self.schedule, epoch / self.horizon, self.cycles))
        self.best_until.append(max(score, self.best_until[-1]) if self.best_until else score)
        self.least = min(score, self.least)

    @property
    def kind(self) -> str:
        """Trials of one kind of schedule are compared with each other first."""
        if self.schedule in FLAT_SCHEDULERS:
            return "flat"
        return "restarts" if self.schedule == "cosine_with_restarts" else "decaying"

    @property
    def best(self) -> float:
        """Its highest score."""
        return self.best_until[-1]

    def reached(self, progress: float) -> bool:
        """Whether it has come as far: one that has ended keeps its best."""
        return bool(self.scores) and (not self.runs or self.progress[-1] >= progress - _CLOSE)

    def best_at(self, progress: float) -> float:
        """Its highest score up to a share of its schedule."""
        until = bisect_right(self.progress, progress + _CLOSE)
        return self.best_until[until - 1] if until else self.least


class _Place:
    """The scores of all trials that have reached a share, by kind of schedule and of all, rising."""

    def __init__(self, progress: float) -> None:
        self.progress = progress
        self.of: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self.running: dict[int, float] = {}  # what is among them of a trial that runs

    def move(self, number: int, curve: Curve, *, counts: bool = True) -> None:
        """Take in what a trial has reported since."""
        new = curve.best_at(self.progress) if counts and curve.reached(self.progress) else None
        old = self.running.pop(number, None)
        if new is not None and curve.runs:
            self.running[number] = new
        if new == old:
            return
        for scores in (self.of[curve.kind], self.of[""]):
            if old is not None:
                del scores[bisect_left(scores, old)]
            if new is not None:
                insort(scores, new)


class Peers:
    """All trials of a study that may be compared.

    Args:
        warmup, min_peers, reports: as those of `search.tuning.pruner.PeerPruner`.
    """

    def __init__(self, *, warmup: float, min_peers: int, reports: int) -> None:
        self.warmup, self.min_peers, self.reports = warmup, min_peers, reports
        self._curves: dict[int, Curve] = {}
        self._running: dict[int, Curve] = {}
        self._best_ended = float("-inf")
        self._places: OrderedDict[float, _Place] = OrderedDict()

    def __contains__(self, number: int) -> bool:
        return number in self._curves

    def see(self, number: int, curve: Curve) -> None:
        """Take in a trial with all that it has reported, again where it was known."""
        before = self._running.pop(number, None)
        if before is None and number in self._curves:
            return  # it has ended: nothing of it changes any more
        if before is not None:
            for place in self._places.values():
                place.move(number, before, counts=False)
        self._curves[number] = curve
        if curve.runs:
            self._running[number] = curve
        elif curve.scores:
            self._best_ended = max(self._best_ended, curve.best)
        self._moved(number, curve)

    def reported(self, number: int, epoch: int, score: float) -> None:
        """A trial that is known has reported one more checkpoint."""
        curve = self._curves[number]
        if curve.scores and epoch <= next(reversed(curve.scores)):
            scores = {**curve.scores, epoch: score}
            self.see(number, Curve(curve.horizon, curve.schedule, curve.cycles, scores, runs=curve.runs))
            return
        curve.add(epoch, score)
        self._moved(number, curve)

    def ended(self, number: int, *, failed: bool) -> None:
        """A trial that is known has ended; one that failed is nobody's peer."""
        curve = self._running.pop(number, None)
        if curve is None:
            return
        if failed:
            for place in self._places.values():
                place.move(number, curve, counts=False)
            del self._curves[number]
            return
        curve.runs = False
        if curve.scores:
            self._best_ended = max(self._best_ended, curve.best)
        self._moved(number, curve)

    def behind(self, number: int) -> bool:
        """Whether a trial, at its last report, is worse than its peers and would not reach the best known score."""
        mine = self._curves[number]
        if len(mine.scores) < self.reports or mine.progress[-1] < self.warmup:
            return False
        place = self._place(mine.progress[-1])
        own = place.running.get(number)
        kin, others = place.of[mine.kind], place.of[""]
        enough = len(kin) - (own is not None) >= self.min_peers
        among = kin if enough else others
        if len(among) - (own is not None) < self.min_peers or mine.best >= _median_without(among, own):
            return False
        runs = (c.best for n, c in self._running.items() if n != number and c.reached(place.progress))
        return outlook(mine.scores, mine.horizon) < max(self._best_ended, *runs, float("-inf"))

    def _moved(self, number: int, curve: Curve) -> None:
        for place in self._places.values():
            place.move(number, curve)

    def _place(self, progress: float) -> _Place:
        if progress in self._places:
            self._places.move_to_end(progress)
            return self._places[progress]
        place = self._places[progress] = _Place(progress)
        ended: dict[str, list[float]] = defaultdict(list)
        for number, curve in self._curves.items():
            if curve.runs:
                place.move(number, curve)
            elif curve.scores:
                ended[curve.kind].append(curve.best_at(progress))
        ended[""] = [score for scores in ended.values() for score in scores]
        for kind, found in ended.items():
            place.of[kind] = array("d", sorted([*place.of[kind], *found]))
        if len(self._places) > _MOST_PLACES:
            self._places.popitem(last=False)
        return place


def _median_without(scores: "array[float]", own: float | None) -> float:
    """Median of rising scores, one of them left out."""
    out = len(scores) if own is None else bisect_left(scores, own)
    count = len(scores) - (own is not None)

    def at(place: int) -> float:
        return scores[place + (place >= out)]

    return at(count // 2) if count % 2 else (at(count // 2 - 1) + at(count // 2)) / 2


def outlook(scores: Mapping[int, float], horizon: int) -> float:
    """Score at the horizon if the trend of the last three checkpoints went on; never below the best so far.

    Learning curves flatten, so a straight line is the hopeful guess.
    """
    epochs: Sequence[int] = sorted(scores)[-3:]
    slopes = [(scores[b] - scores[a]) / (b - a) for a, b in pairwise(epochs)]
    rise = max(0.0, sum(slopes) / len(slopes)) if slopes else 0.0
    return max(max(scores.values()), scores[epochs[-1]] + rise * (horizon - epochs[-1]))


def spent(schedule: str, share: float, cycles: float = 1.0) -> float:
    """Σ lr up to a share of the horizon ÷ Σ lr of the whole, warm-up left aside; in [0, 1].

    Constant rates spend evenly (relative-step Adafactor nearly so), cosine by the integral of (1 + cos πx) / 2, linear
    and polynomial (power 1) by that of 1 - x.
    """
    if schedule == "cosine":
        return share + sin(pi * share) / pi
    if schedule == "cosine_with_restarts":
        done, part = divmod(share * cycles, 1.0)
        return min(1.0, (done + spent("cosine", part)) / cycles)
    if schedule in ("linear", "polynomial"):
        return share * (2 - share)
    return share

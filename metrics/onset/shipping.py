"""Which checkpoint to ship: the safe one, the one that is most alike, or one between the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from metrics.onset.curves import Kind, OnsetCurves
from metrics.onset.plateau import smoothed
from metrics.onset.turns import DEFAULT_SHIP, MADE_UP, Choice, Onset, Ship, Turn
from metrics.trajectory.trajectory import Trajectory

EQUAL = 0.05  # of its dip: so little more loss is as good. Chosen on CHOOSING concepts (docs/log.md)
SMOOTHED_FROM = 12  # checkpoints: with fewer, a mean with the neighbours blurs what it looks for (likewise)
NEARLY_ALL = 0.9  # of the held-out photos' dip: the subject is as alike as it gets without being memorised; not tuned
PAST_ONSET = 1.4  # times the onset: no further than this for more likeness; not tuned (`benchmarks.strict`)


class Shippable(NamedTuple):
    """The epoch to ship, which one it is (`ship` falls back to "safe" where there is nothing else), and why, where
    that is not plain; the safe and the most alike checkpoint."""

    best: int
    ship: Ship
    note: str
    safe: Choice | None
    alike: Choice | None


def shippable(
    trajectory: Trajectory, onset: Onset, losses: Mapping[Kind, OnsetCurves], ship: Ship = DEFAULT_SHIP
) -> Shippable:
    """The checkpoints that can be shipped, and the one that is.

    Safe: of those that have learned the subject and lie before the onset, the last whose losses in new contexts are
    within 5 % of the best (the score, where there are no losses). Alike: the last checkpoint before held-out photos get
    worse, that is, before the photos are memorised; where that is not seen, the last that knows them better than the
    base. Balanced: the first checkpoint from the safe one on that has 90 % of what held-out photos gain, at most at 1.4
    times the onset. Where nothing but moved subjects was measured, whose losses turn early: the last checkpoint up to
    1.4 times the onset.

    Args:
        onset: its turns and `learned`; what it says about shipping is not read.
    """
    epochs, quality = trajectory.epochs, _quality(trajectory, losses)
    best, note = _safe(epochs, quality, onset, by_loss=bool(losses))
    if onset.learned is None:
        return Shippable(best, "safe", note, None, None)
    safe = Choice(best, *_between(trajectory, onset, losses, best))
    alike = _alike(epochs, onset.memory, losses.get("memory"), best)
    if ship == "likeness" and alike is not None:
        return Shippable(alike.epoch, ship, "", safe, alike)
    if ship == "balanced" and ("memory" in losses or _made_up(losses)):
        further = _gained(losses["memory"], epochs, onset.epoch) if "memory" in losses else _past(epochs, onset.epoch)
        balanced = max(best, further)
        return Shippable(balanced, ship, note if balanced == best else "", safe, alike)
    return Shippable(best, "safe", note, safe, alike)


def _made_up(losses: Mapping[Kind, OnsetCurves]) -> bool:
    """Whether no photo was held out, and moved subjects alone say how new contexts fare."""
    return "context" in losses and {MADE_UP} <= set(losses["context"].channels) <= {MADE_UP, "fidelity"}


def _past(epochs: np.ndarray, onset: float | None) -> int:
    """The last checkpoint up to `PAST_ONSET` times the onset; 0 where there is none."""
    within = epochs[(epochs > 0) & (epochs <= PAST_ONSET * (onset or 0.0))]
    return int(within[-1]) if within.size else 0


def _safe(epochs: np.ndarray, quality: np.ndarray, onset: Onset, *, by_loss: bool) -> tuple[int, str]:
    """The best quality, learned and before the onset; where losses decide, the last of those that are as good."""
    trained = epochs > 0 if (epochs > 0).any() else np.ones(len(epochs), bool)
    if onset.learned is None:
        why = "no checkpoint is better than the base" if by_loss else "nothing was learned"
        return int(epochs[np.argmax(np.where(trained, quality, -np.inf))]), why
    learned = trained & (epochs >= onset.learned)
    before = learned & (epochs < _end(onset, by_loss=by_loss))
    if before.any():
        return int(epochs[_last_as_good(quality[None], before, EQUAL if by_loss else 0.0)[0]]), ""
    earlier = np.nonzero((epochs > 0) & (epochs < (onset.epoch or np.inf)))[0]
    if earlier.size:
        return int(
            epochs[earlier[-1]]
        ), "it is the last checkpoint before the onset, and the subject is learned only after it"
    return int(epochs[learned][0]), "it is the first checkpoint that shows the subject, and none lies before the onset"


def _end(onset: Onset, *, by_loss: bool) -> float:
    """Where safety ends: at the onset, and where images say so, at the first epoch at which it may lie."""
    end = onset.epoch if by_loss else onset.low
    return np.inf if end is None else end


def _last_as_good(quality: np.ndarray, allowed: np.ndarray, equal: float) -> np.ndarray:
    """[R] indices: in each row of `quality` [R, T] the last of the `allowed` [T] within a share of the best."""
    best = np.where(allowed, quality, -np.inf).max(axis=1)
    good = allowed & (quality >= (best - equal * np.maximum(best, 0.0))[:, None])
    return len(allowed) - 1 - good[:, ::-1].argmax(axis=1)


def _between(
    trajectory: Trajectory, onset: Onset, losses: Mapping[Kind, OnsetCurves], best: int
) -> tuple[int, int | None]:
    """The interval of the safe epoch: the same rule on the replicates of the curve that decides; alone without one, or
    where nothing lies before the onset."""
    read, epochs = next(iter(losses.values()), None), trajectory.epochs
    before = (epochs > 0) & (epochs >= (onset.learned or 0)) & (epochs < _end(onset, by_loss=True))
    if read is None or not before.any():
        return best, best
    quality = np.full((len(read.curves.replicates), len(trajectory)), np.nan)
    quality[:, read.curves.rows] = -read.curves.replicates
    found = epochs[_last_as_good(_smoothed(quality, epochs) - _spikes(trajectory, read), before, EQUAL)]
    low, high = np.quantile(found, [0.05, 0.95], method="nearest")
    return min(int(low), best), max(int(high), best)


def _alike(epochs: np.ndarray, memory: Turn, losses: OnsetCurves | None, safe: int) -> Choice | None:
    if memory.status == "unmeasured":
        return None
    trained = alike = epochs[epochs > 0]
    worse_later = False
    if memory.epoch is None and losses is not None:
        last = max(_knows_more_than_the_base(losses), trained[0])
        alike, worse_later = trained[trained <= last], bool(losses.measured.epochs[-1] > last)

    def last_before(end: float | None) -> int:
        before = alike if end is None else alike[alike < end]
        return max(safe, int(before[-1]) if before.size else int(trained[0]))

    high = last_before(memory.high) if memory.high is not None or worse_later else None
    low = last_before(memory.low if memory.epoch is not None else None)
    return Choice(last_before(memory.epoch), low, high)


def _knows_more_than_the_base(memory: OnsetCurves) -> int:
    """The last checkpoint at which held-out photos fare better than with the base; 0 without one."""
    curves = memory.measured
    curve = smoothed(curves.mean, curves.epochs, curves.jitter)
    return int(max(curves.epochs[curve < curve[0]], default=0))


def _gained(memory: OnsetCurves, epochs: np.ndarray, onset: float | None) -> int:
    """The first checkpoint that has `NEARLY_ALL` of what held-out photos gain; at most the last one up to `PAST_ONSET`
    times the onset, and 0 where that is before the first."""
    curves = memory.measured
    curve = smoothed(curves.mean, curves.epochs, curves.jitter)
    gained = (curve[0] - curve >= NEARLY_ALL * (curve[0] - curve.min())) & (curves.spikes <= 0)
    first = int(curves.epochs[np.argmax(gained)])
    return first if onset is None else min(first, _past(epochs, onset))


def _quality(trajectory: Trajectory, losses: Mapping[Kind, OnsetCurves]) -> np.ndarray:
    """[T] larger is better: the curve that places the onset turned over, new contexts before the set's own; the score
    where there are no losses."""
    read = next(iter(losses.values()), None)
    if read is None:
        return _smoothed(trajectory.own_scores, trajectory.epochs)
    quality = np.full(len(trajectory), np.nan)
    quality[read.curves.rows] = -read.curves.mean
    return _smoothed(quality, trajectory.epochs) - _spikes(trajectory, read)


def _spikes(trajectory: Trajectory, read: OnsetCurves) -> np.ndarray:
    """[T] how much worse a checkpoint is than the curve says that was laid through its neighbours; luck is not."""
    off = np.zeros(len(trajectory))
    off[read.curves.rows] = np.maximum(read.curves.spikes, 0.0)
    return off


def _smoothed(quality: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Of many checkpoints a mean over three (last axis); what is not known is never the best."""
    if not np.isfinite(quality).any():
        return np.zeros_like(quality)
    if (epochs > 0).sum() < SMOOTHED_FROM:
        return np.where(np.isfinite(quality), quality, -np.inf)
    padded = np.pad(quality, [(0, 0)] * (quality.ndim - 1) + [(1, 1)], constant_values=np.nan)
    window = np.stack([padded[..., :-2], padded[..., 1:-1], padded[..., 2:]])
    known = np.isfinite(window)
    mean = np.where(known, window, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(np.isfinite(quality), mean, -np.inf)

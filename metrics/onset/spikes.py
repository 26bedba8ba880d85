"""Spikes: single checkpoints that lie so far off their neighbours that no course of a training explains them."""

from __future__ import annotations

import numpy as np

from metrics.onset.plateau import FEW, log_axis
from metrics.onset.replicates import Curves, checkpoint_jitter, off_neighbours
from metrics.onset.valley import fit_valley

SPIKE = 6.0  # jitters off its neighbours: chosen on planted curves and on CHOOSING concepts (docs/log.md)
ROUNDS = 5  # of clipping what lies off the valley, by when it stands still
LEAST = 0.002  # ln units: less is no spike, however quiet the other checkpoints are


def without_spikes(curves: Curves) -> Curves:
    """The curves with each spike laid on the line between its neighbours, and how far it lay off it in `spikes`.

    A loss that falls and then rises is never above both one of the two checkpoints before it and one of the two behind
    it, nor, near its bottom, below the lines that these draw. What is so by more than 6 jitters is a spike. The first
    and the last checkpoint can be none: what comes before and behind them is not known.

    Args:
        curves: of one channel; fewer than six trained checkpoints stay as they are.
    """
    epochs, mean = curves.epochs, curves.mean.copy()
    if (epochs > 0).sum() < FEW:
        return curves
    axis = log_axis(epochs)
    limit = max(SPIKE * usual_luck(mean, epochs), LEAST)
    kept, trained = np.ones(len(mean), bool), epochs > 0  # a run may well begin worse than the base
    for _ in range(len(mean) // 4):
        rows = np.flatnonzero(kept & trained)
        above, below = _beyond(mean[rows], axis[rows])
        off = np.maximum(above, below)
        worst = int(off.argmax())
        if off[worst] <= limit:
            break
        kept[rows[worst]] = False
    if kept.all():
        return curves
    level = np.interp(axis, axis[kept], mean[kept])
    spikes = np.where(kept, 0.0, mean - level)
    mean = mean - spikes
    return curves._replace(
        mean=mean,
        replicates=curves.replicates - spikes,
        jitter=checkpoint_jitter(mean[kept], epochs[kept]),
        spikes=curves.spikes + spikes,
    )


def usual_luck(mean: np.ndarray, epochs: np.ndarray) -> float:
    """Standard deviation of one checkpoint's luck, though up to a third of them are spikes.

    The larger of two readings: how far the checkpoints lie off a valley that spikes do not move, and how far they lie
    off the lines through their neighbours, of which a spike bends three (so the best third of these decides).

    Args:
        mean: [K] curve. epochs: [K] increasing, at least six of them trained.
    """
    y = mean[epochs > 0]
    middle = np.median(np.lib.stride_tricks.sliding_window_view(y, 3), axis=1)
    fit = fit_valley(np.concatenate([y[:1], middle, y[-1:]]))[0][0]
    for _ in range(ROUNDS):
        spread = float(np.median(np.abs(y - fit)))
        fit = fit_valley(np.clip(y, fit - 3 * spread, fit + 3 * spread))[0][0]
    off = off_neighbours(mean, epochs)
    return max(float(np.median(np.abs(y - fit))) / 0.6745, float(np.quantile(np.abs(off), 1 / 3)) / 0.4307)


def _beyond(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[K] how far each lies above, and below, all that a valley through its two neighbours on either side allows."""
    above, below = np.zeros(len(y)), np.zeros(len(y))
    for row in range(1, len(y) - 1):
        left, right = slice(max(row - 2, 0), row), slice(row + 1, row + 3)
        above[row] = y[row] - max(y[left].min(), y[right].min())
        if row < 2 or row > len(y) - 3:
            continue
        from_left = y[row - 1] + (y[row - 1] - y[row - 2]) / (x[row - 1] - x[row - 2]) * (x[row] - x[row - 1])
        from_right = y[row + 1] + (y[row + 1] - y[row + 2]) / (x[row + 1] - x[row + 2]) * (x[row] - x[row + 1])
        below[row] = min(y[left].min(), y[right].min(), from_left, from_right) - y[row]
    return above, below

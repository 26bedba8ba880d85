"""Where one channel turns: the end of a loss's plateau, and the first lasting change of a behaviour."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metrics.onset.valley import fit_valley, isotonic

RISE, SHARE = 0.002, 0.15  # a plateau ends where the loss has risen by max(0.2 %, 15 % of its depth)
STEADY = 0.04  # ln units: a rise that counts where it stays below 15 % of a depth that is huge
WIDTHS = (0.12, 0.18, 0.27, 0.4)  # octaves: the narrowest smoother that makes jitter small against the rise
SMALL = 0.2  # of the rise
FEW = 6  # trained checkpoints below which paired standard errors decide, not a fit: neighbours lie too far off
NULL_CURVES, NULL_SHARE = 300, 0.95  # falling curves under the same jitter, and how many of them a turn has to beat
LEVEL_WIDTH = 2.0  # times that: the smoother of the level at the bottom


class PlateauEnd(NamedTuple):
    """Per curve: the log2 epoch at which its plateau ends (inf: it does not), its depth, where its bottom lies, how far
    above the threshold it ends, the threshold, and the fitted valley [R, K] (ln units)."""

    log_epoch: np.ndarray
    depth: np.ndarray
    bottom: np.ndarray
    excess: np.ndarray
    threshold: np.ndarray
    fit: np.ndarray


class Dip(NamedTuple):
    """A fitted curve and its plateau, to be drawn.

    Attributes:
        epochs, line: [P] many points of the curve (ln units), straight in log epoch between checkpoints.
        level, threshold: of the bottom, and what ends the plateau.
        since, until: the epochs between which the curve lies below the threshold; `until` is None where it stays there.
    """

    epochs: np.ndarray
    line: np.ndarray
    level: float
    threshold: float
    since: float
    until: float | None


def replicate_spread(end: PlateauEnd, epochs: np.ndarray) -> float:
    """Standard deviation of where all curves but the first end their plateaus, in octaves; those that do not end it
    count as if they did at the last checkpoint.

    Args:
        end: of a curve and its replicates. epochs: [K].
    """
    return float(np.minimum(end.log_epoch[1:], log_axis(epochs)[-1]).std())


def log_axis(epochs: np.ndarray) -> np.ndarray:
    """log2 epochs; epoch 0 takes a place one octave before the first trained checkpoint.

    >>> import numpy as np
    >>> log_axis(np.array([0, 4, 8, 16])).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    axis = np.log2(np.maximum(epochs, 1e-9).astype(np.float64))
    if epochs[0] == 0 and len(epochs) > 1:
        axis[0] = axis[1] - 1.0
    return axis


def least_rise(depth: np.ndarray | float, most: float = np.inf) -> np.ndarray:
    """How far a loss of this depth has to rise to leave its plateau, in ln units.

    >>> float(least_rise(0.4).round(3)), float(least_rise(0.4, STEADY)), float(least_rise(0.001))
    (0.06, 0.04, 0.002)
    """
    return np.maximum(RISE, np.minimum(SHARE * np.asarray(depth), most))


def plateau_end(curves: np.ndarray, epochs: np.ndarray, jitter: float = 0.0, most: float = np.inf) -> PlateauEnd:
    """The plateau's end of every curve: smoothed, fitted by a valley, crossed with bottom level + rise.

    The level at the bottom comes from a wider smoother than the fit: the lowest of many jittery checkpoints lies
    below the true bottom, and a threshold hung from it is crossed too early.

    Args:
        curves: [R, K] ln ratios to the base; the first one decides how much is smoothed. epochs: [K] increasing.
        jitter: standard deviation of one checkpoint.
        most: ln units that are a rise, however deep the loss fell before.
    """
    axis = log_axis(epochs)
    narrow, wide = _matrices(curves[0], epochs, jitter)
    valley = fit_valley(curves @ narrow.T)
    flat = curves @ wide.T
    levels = np.take_along_axis(flat, valley.bottom[:, None], axis=1)[:, 0]
    levels = np.maximum(levels, np.take_along_axis(valley.fit, valley.bottom[:, None], axis=1)[:, 0])
    depth = curves[:, 0] - levels
    threshold = levels + least_rise(depth, most)
    rows, index = np.arange(len(curves)), np.arange(len(epochs))
    over = (valley.fit > threshold[:, None]) & (index > valley.bottom[:, None])
    crosses = over.any(axis=1)
    after = np.where(crosses, over.argmax(axis=1), 1)
    low, high = valley.fit[rows, after - 1], valley.fit[rows, after]
    share = np.clip((threshold - low) / np.maximum(high - low, 1e-12), 0, 1)
    crossing = axis[after - 1] + share * (axis[after] - axis[after - 1])
    ends = np.where(crosses, crossing, np.inf)
    return PlateauEnd(ends, depth, valley.bottom, valley.fit[:, -1] - threshold, threshold, valley.fit)


def fitted_dip(curve: np.ndarray, epochs: np.ndarray, jitter: float, most: float = np.inf) -> Dip:
    """What an onset is read from: the valley that `plateau_end` fits to a curve; with few checkpoints their own line.

    Args:
        curve: [K] ln ratios to the base. epochs: [K] increasing. jitter: standard deviation of one checkpoint.
        most: ln units that are a rise, however deep the loss fell before.
    """
    axis = log_axis(epochs)
    if (epochs > 0).sum() < FEW:
        line, bottom = curve, int(curve.argmin())
        level = float(curve[bottom])
        threshold = level + float(least_rise(curve[0] - level, STEADY))
    else:
        end = plateau_end(curve[None], epochs, jitter, most)
        line, bottom, threshold = end.fit[0], int(end.bottom[0]), float(end.threshold[0])
        level = float(curve[0] - end.depth[0])
    many = np.union1d(np.linspace(axis[0], axis[-1], 400), axis)
    drawn = np.interp(many, axis, line)
    lowest = int(np.searchsorted(many, axis[bottom]))
    over = drawn > threshold
    before, after = np.nonzero(over[:lowest])[0], np.nonzero(over[lowest:])[0]
    since = many[0] if not before.size else _crossing(many, drawn, threshold, int(before[-1]) + 1)
    until = None if not after.size else _crossing(many, drawn, threshold, max(lowest + int(after[0]), 1))

    def epoch(place: np.ndarray) -> np.ndarray:
        early = np.interp(place, axis, epochs)  # epoch 0 has a place on the axis, but no logarithm
        return np.where(place < axis[int(epochs[0] == 0)], early, 2.0**place)

    end_of = None if until is None else float(epoch(np.array(until)))
    return Dip(epoch(many), drawn, level, threshold, float(epoch(np.array(since))), end_of)


def _crossing(places: np.ndarray, values: np.ndarray, threshold: float, after: int) -> float:
    """Where a line meets the threshold between the points `after` - 1 and `after`."""
    low, high = values[after - 1], values[after]
    share = 1.0 if low == high else float(np.clip((threshold - low) / (high - low), 0, 1))
    return float(places[after - 1] + share * (places[after] - places[after - 1]))


def surely_rises(curve: np.ndarray, epochs: np.ndarray, jitter: float) -> bool:
    """Whether a curve that falls and rises again explains the trained checkpoints better than one that only falls, by
    more than jitter alone would make it seem: the lowest of many noisy checkpoints always has higher ones behind it.

    The squared residuals that the rise spares, as a share of what is left, against those of `NULL_CURVES` falling fits
    with normal noise of the checkpoints' own jitter.

    Args:
        curve: [K]. epochs: [K] increasing. jitter: standard deviation of one checkpoint.
    """
    trained = curve[epochs > 0][None]
    falling = -isotonic(-trained)
    noise = np.random.default_rng(5).normal(size=(NULL_CURVES, trained.shape[1]))
    null = _spared(falling + max(jitter, 1e-9) * noise)
    return bool(_spared(trained)[0] > np.quantile(null, NULL_SHARE))


def _spared(curves: np.ndarray) -> np.ndarray:
    left = fit_valley(curves).error
    return (((curves + isotonic(-curves)) ** 2).sum(axis=1) - left) / (left + 1e-12)


def smoothed(curve: np.ndarray, epochs: np.ndarray, jitter: float) -> np.ndarray:
    """[K] the curve as `plateau_end` smooths it before it fits a valley.

    Args:
        curve: [K]. epochs: [K] increasing. jitter: standard deviation of one checkpoint.
    """
    return _matrices(curve, epochs, jitter)[0] @ curve


def _width(curve: np.ndarray, axis: np.ndarray, anchored: bool, jitter: float) -> float:
    for width in WIDTHS:
        matrix = smoother(axis, width, anchored)
        smooth = matrix @ curve
        bottom = int(smooth.argmin())
        rise = max(RISE, SHARE * float(curve[0] - smooth[bottom]))
        if jitter * float(np.linalg.norm(matrix[bottom])) <= SMALL * rise:
            return width
    return WIDTHS[-1]


def _matrices(curve: np.ndarray, epochs: np.ndarray, jitter: float) -> tuple[np.ndarray, np.ndarray]:
    """[K, K] the smoother that `jitter` asks for, and that of the level at the bottom; neither below six trained
    checkpoints."""
    if (epochs > 0).sum() < FEW:
        return np.eye(len(epochs)), np.eye(len(epochs))
    axis, anchored = log_axis(epochs), bool(epochs[0] == 0)
    width = _width(curve, axis, anchored, jitter)
    return smoother(axis, width, anchored), smoother(axis, LEVEL_WIDTH * width, anchored)


def smoother(axis: np.ndarray, width: float, anchored: bool) -> np.ndarray:
    """[K, K] local linear regression with a Gaussian kernel of `width` octaves; the base's point stays as it is.

    Source: Fan 1992, local linear smoothers have no bias of first order at the ends.
    """
    matrix = np.zeros((len(axis), len(axis)))
    first = int(anchored)
    matrix[:first, :first] = 1.0
    x = axis[first:]
    off = x[None, :] - x[:, None]
    kernel = np.exp(-0.5 * (off / width) ** 2)
    s0, s1, s2 = kernel.sum(axis=1), (kernel * off).sum(axis=1), (kernel * off**2).sum(axis=1)
    # A ridge turns the line into a mean where there is no neighbour to draw a line through.
    ridge = 1e-3 * width**2 * s0
    weights = kernel * ((s2 + ridge)[:, None] - s1[:, None] * off)
    matrix[first:, first:] = weights / weights.sum(axis=1, keepdims=True)
    return matrix

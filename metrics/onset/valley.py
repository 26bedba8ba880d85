"""Least-squares fits that only fall, only rise, or fall and then rise: pool adjacent violators, many curves at once.

Sources: Ayer et al. 1955 (pool adjacent violators); Stout 2008, "Unimodal regression via prefix isotonic
regression" (the errors of all prefixes come out of one pass).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Valley(NamedTuple):
    """Curves that fall and then rise, fitted by least squares.

    Attributes:
        fit: [R, T] fitted values.
        bottom: [R] last index of the falling part, where the fit is lowest.
        error: [R] sum of squared residuals.
    """

    fit: np.ndarray
    bottom: np.ndarray
    error: np.ndarray


def isotonic(curves: np.ndarray) -> np.ndarray:
    """The closest curves that never fall.

    Args:
        curves: [R, T] float.

    Returns:
        [R, T] float64.

    >>> import numpy as np
    >>> isotonic(np.array([1.0, 3.0, 2.0, 4.0])).tolist()
    [[1.0, 2.5, 2.5, 4.0]]
    """
    curves = np.atleast_2d(np.asarray(curves, np.float64))
    return _pool(curves, np.full(len(curves), curves.shape[1]))[0]


def fit_valley(curves: np.ndarray) -> Valley:
    """The closest curves that fall to a bottom and rise from there; either part may be missing.

    Args:
        curves: [R, T] float, T ≥ 1.

    >>> import numpy as np
    >>> fit, bottom, error = fit_valley(np.array([3.0, 1.0, 2.0, 1.5, 4.0]))
    >>> fit.tolist(), bottom.tolist(), error.tolist()
    ([[3.0, 1.0, 1.75, 1.75, 4.0]], [1], [0.125])
    """
    curves = np.atleast_2d(np.asarray(curves, np.float64))
    count = curves.shape[1]
    no_barrier = np.full(len(curves), count)
    falling = _pool(-curves, no_barrier)[1]  # [R, T] error of the first t + 1 points
    rising = _pool(-curves[:, ::-1], no_barrier)[1][:, ::-1]  # error of the points from t on
    after = np.concatenate([rising[:, 1:], np.zeros((len(curves), 1))], axis=1)
    total = falling + after
    # Ties, as on a plateau, go to the latest: a curve that only falls has its bottom at the end.
    tolerance = 1e-12 * (1 + total.min(axis=1, keepdims=True))
    bottom = count - 1 - np.argmax((total <= total.min(axis=1, keepdims=True) + tolerance)[:, ::-1], axis=1)
    left = np.arange(count)[None, :] <= bottom[:, None]
    signed = np.where(left, -curves, curves)
    fit = _pool(signed, bottom + 1)[0]
    return Valley(np.where(left, -fit, fit), bottom, np.take_along_axis(total, bottom[:, None], axis=1)[:, 0])


def _pool(curves: np.ndarray, barrier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rising isotonic fit of every row, and the error of each of its prefixes.

    A block that begins at `barrier[r]` is never merged with the one before it: with it a row is two fits.
    """
    num_curves, count = curves.shape
    rows = np.arange(num_curves)
    mean = np.zeros((num_curves, count + 1))
    mean[:, 0] = -np.inf  # sentinel: nothing is below it, so the first block stays
    weight = np.ones((num_curves, count + 1))
    start = np.zeros((num_curves, count + 1), np.int64)
    top = np.zeros(num_curves, np.int64)
    error = np.zeros(num_curves)
    prefix_error = np.empty_like(curves)
    begins = np.zeros((num_curves, count), bool)
    for t in range(count):
        top += 1
        mean[rows, top], weight[rows, top], start[rows, top] = curves[:, t], 1.0, t
        begins[:, t] = True
        active = rows
        while True:
            last = top[active]
            here, before = mean[active, last], mean[active, last - 1]
            first = start[active, last]
            active_mask = (before > here) & (first != barrier[active])
            active = active[active_mask]
            if not active.size:
                break
            last, here, before = last[active_mask], here[active_mask], before[active_mask]
            heavy, light = weight[active, last - 1], weight[active, last]
            both = heavy + light
            error[active] += heavy * light / both * (before - here) ** 2
            mean[active, last - 1] = before + (here - before) * (light / both)
            weight[active, last - 1] = both
            begins[active, start[active, last]] = False
            top[active] -= 1
        prefix_error[:, t] = error
    block = np.cumsum(begins, axis=1)
    return np.take_along_axis(mean, block, axis=1), prefix_error

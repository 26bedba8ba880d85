"""Least-squares fits that only fall, only rise, or fall and then rise: pool adjacent violators, many curves at once.

Sources: Ayer et al. 1955 (pool adjacent violators); Stout 2008, "Unimodal regression via prefix isotonic
regression" (the errors of all prefixes come out of one pass).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_FEW = 48  # curves up to which a row after the other, in plain floats, is faster than numpy


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
    both_ways = np.concatenate([-curves, -curves[:, ::-1]])  # in one pass: most of its cost is numpy's calls
    falling, rising = np.split(_pool(both_ways, np.full(len(both_ways), count))[1], 2)  # errors of the first t + 1
    rising = rising[:, ::-1]  # [R, T] error of the points from t on
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
    return _pool_by_row(curves, barrier) if len(curves) <= _FEW else _pool_by_column(curves, barrier)


def _pool_by_row(curves: np.ndarray, barrier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See `_pool`: one row after the other. The same to the bit as `_pool_by_column`."""
    fits, prefix_errors = [], []
    for row, stop in zip(curves.tolist(), barrier.tolist(), strict=True):
        means, weights, error, errors = [-math.inf], [0], 0.0, []  # sentinel: the first block stays
        for t, here in enumerate(row):
            light, before = 1, means[-1]
            while before > here and t + 1 - light != stop:
                means.pop()
                heavy = weights.pop()
                both, apart = heavy + light, before - here
                error += heavy * light / both * (apart * apart)
                here = before + (here - before) * (light / both)
                light, before = both, means[-1]
            means.append(here)
            weights.append(light)
            errors.append(error)
        fits.append([mean for mean, weight in zip(means, weights, strict=True) for _ in range(weight)])
        prefix_errors.append(errors)
    return np.array(fits, np.float64), np.array(prefix_errors, np.float64)


def _pool_by_column(curves: np.ndarray, barrier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See `_pool`: all rows at once."""
    num_curves, count = curves.shape
    # each row has a stack of blocks, whose last one ends at t: it begins at t + 1 - its weight
    mean, weight = np.zeros((2, num_curves * (count + 1)))
    top = np.arange(num_curves) * (count + 1)
    mean[top] = -np.inf  # sentinel: nothing is below it, so the first block stays
    error = np.zeros(num_curves)
    prefix_error = np.empty((count, num_curves))
    begins = np.ones((num_curves, count), bool)
    begun = begins.reshape(-1)
    for t, here in enumerate(np.ascontiguousarray(curves.T)):
        before = mean.take(top)
        top += 1
        mean[top] = here
        weight[top] = 1.0
        active = ((before > here) & (barrier != t)).nonzero()[0]
        if active.size:
            last, here, before, light = top.take(active), here.take(active), before.take(active), np.ones(active.size)
        while active.size:
            begun[active * count + t + 1 - light.astype(np.int64)] = False
            last -= 1
            top[active] = last
            heavy = weight.take(last)
            both = heavy + light
            error[active] += heavy * light / both * (before - here) ** 2
            here = before + (here - before) * (light / both)
            mean[last], weight[last] = here, both
            before, light = mean.take(last - 1), both
            merged = ((before > here) & (barrier.take(active) != t + 1 - light)).nonzero()[0]
            active, last, here = active.take(merged), last.take(merged), here.take(merged)
            before, light = before.take(merged), light.take(merged)
        prefix_error[t] = error
    block = np.cumsum(begins, axis=1)
    return np.take_along_axis(mean.reshape(num_curves, -1), block, axis=1), prefix_error.T

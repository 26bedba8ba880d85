"""Spread of a mean over items, and null distributions from half-splits of a set."""

from functools import lru_cache

import numpy as np

from metrics.trajectory.readings import Reading

RESAMPLES = 1000


def reading_of_items(items: np.ndarray, *, groups: np.ndarray | None = None, level: float = 0.9) -> Reading:
    """Mean of the items with its percentile bootstrap interval.

    Args:
        items: `[n]` or `[n, ...]`; trailing axes are averaged first, since they are repeats inside an item.
        groups: `[n]` labels of items that are not independent of each other (the seeds of one prompt, the composites
            of one photo): whole groups are resampled. None: each item by itself.
        level: probability inside the interval.

    Returns:
        `Reading(value, low, high)`; with a single group the interval is the value itself.

    >>> import numpy as np
    >>> reading_of_items(np.array([2.0, 2.0, 2.0]))
    Reading(value=2.0, low=2.0, high=2.0)
    """
    flat = np.asarray(items, np.float64).reshape(len(items), -1).mean(axis=1)
    sums, counts = flat, np.ones(len(flat))
    if groups is not None:
        _, inverse = np.unique(groups, return_inverse=True)
        sums, counts = np.bincount(inverse, flat), np.bincount(inverse).astype(float)
    weights = resampling_weights(len(sums))
    means = (weights @ sums) / (weights @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Reading(float(flat.mean()), float(low), float(high))


@lru_cache(maxsize=64)
def resampling_weights(num_items: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each item is drawn in each bootstrap resample: `[resamples, num_items]`, the same on every call.

    >>> weights = resampling_weights(4)
    >>> weights.shape, set(weights.sum(axis=1).tolist())
    ((1000, 4), {4.0})
    """
    generator = np.random.default_rng([num_items, resamples])
    return generator.multinomial(num_items, np.full(num_items, 1 / num_items), size=resamples).astype(np.float64)


@lru_cache(maxsize=64)
def half_splits(num_items: int, splits: int = 200) -> np.ndarray:
    """Random halves of a set, the same on every call: boolean `[splits, num_items]`, `num_items // 2` true a row.

    >>> halves = half_splits(6)
    >>> halves.shape, set(halves.sum(axis=1).tolist())
    ((200, 6), {3})
    """
    generator = np.random.default_rng([num_items, splits, 7])
    order = generator.random((splits, num_items)).argsort(axis=1)
    return order < num_items // 2


def pseudo_values(value: float, leave_one_out: np.ndarray) -> np.ndarray:
    """Jackknife pseudo-values `[n]` of a statistic, shifted so that their mean is the statistic itself.

    They turn a statistic of a whole set into per-image numbers that can be paired between checkpoints (Tukey 1958).

    Args:
        value: the statistic on all n images.
        leave_one_out: `[n]`, the statistic without image i.

    >>> import numpy as np
    >>> pseudo_values(2.0, np.array([2.5, 2.0, 1.5])).tolist()  # of the mean of 1, 2, 3
    [1.0, 2.0, 3.0]
    """
    return value - (len(leave_one_out) - 1) * (leave_one_out - leave_one_out.mean())

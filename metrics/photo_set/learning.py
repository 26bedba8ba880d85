"""How each photo is learned over the epochs, and which photos draw new drawings towards them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FAST = 4.0
"""Robust standard deviations below the others' loss ratio: learned much faster. SLOW likewise above it."""
SLOW = 4.0
_FLOOR = 0.02  # of the spread of ln ratios: sets whose photos are learned alike
_FALLEN = 0.03  # ln: by so much the losses have to have fallen before any photo stands out
LEVEL = 0.05
_LEAST_DRAWINGS = 3


@dataclass(frozen=True)
class Learning:
    """Of each photo, at the last checkpoint.

    Attributes:
        ratio: ln(loss / the base's loss), mean over noise levels and draws; low, high: its 95 % interval over draws.
        beyond: robust standard deviations above the set's median.
    """

    ratio: np.ndarray
    low: np.ndarray
    high: np.ndarray
    beyond: np.ndarray

    @property
    def memorised_first(self) -> np.ndarray:
        """Photos whose loss has fallen much more than the others': boolean `[N]`."""
        return self._learned & (self.beyond < -FAST)

    @property
    def never_fitted(self) -> np.ndarray:
        """Photos whose loss has not fallen while the others' has: boolean `[N]`."""
        return self._learned & (self.beyond > SLOW) & (self.high > 0)

    @property
    def _learned(self) -> bool:
        return float(np.median(self.ratio)) < -_FALLEN


def learning(losses: np.ndarray, base: np.ndarray) -> Learning:
    """How far each photo was learned.

    Args:
        losses, base: `[N, levels, draws]`, the same noise in both.

    >>> import numpy as np
    >>> base = np.ones((8, 2, 4))
    >>> fallen = base * 0.8
    >>> fallen[3], fallen[5] = 0.3, 1.01
    >>> found = learning(fallen, base)
    >>> found.memorised_first.nonzero()[0].tolist(), found.never_fitted.nonzero()[0].tolist()
    ([3], [5])
    """
    ratios = np.log(losses / base).mean(axis=1)
    ratio, spread = ratios.mean(axis=1), ratios.std(axis=1, ddof=1) if ratios.shape[1] > 1 else 0 * ratios.mean(axis=1)
    reach = 2 * spread / ratios.shape[1] ** 0.5
    middle = np.median(ratio)
    beyond = (ratio - middle) / max(1.4826 * float(np.median(np.abs(ratio - middle))), _FLOOR)
    return Learning(ratio, ratio - reach, ratio + reach, beyond)


def pulls(drawn: np.ndarray, base: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Which photos are nearest to far more new drawings than chance, and than the base's drawings, give: boolean `[N]`.

    Binomial tests of the counts, corrected over photos (Benjamini and Hochberg 1995). Some photos are near to
    everything: a photo's chance is what the base's drawings say of it, at least that of any other.

    Args:
        drawn, base: unit rows `[n, D]`, the same prompts and seeds, asking for what the photos do not show.
        photos: unit rows `[N, D]`.
    """
    from scipy.stats import binomtest, false_discovery_control

    count = len(photos)
    nearest, before = (np.bincount((rows @ photos.T).argmax(axis=1), minlength=count) for rows in (drawn, base))
    usual = np.maximum((before + 1) / (len(base) + count), 1 / count)
    chances = [
        binomtest(int(hits), len(drawn), float(p), alternative="greater").pvalue
        for hits, p in zip(nearest, usual, strict=True)
    ]
    return (false_discovery_control(chances) <= LEVEL) & (nearest >= _LEAST_DRAWINGS)


def farthest(rows: np.ndarray, *, times: float = 3.0) -> np.ndarray:
    """Photos that make up far more of a set's spread than their share, the largest first: row numbers.

    Args:
        rows: `[N, D]`, such as mean colours. times: of the mean share 1/N.

    >>> import numpy as np
    >>> farthest(np.array([[0.0], [0.1], [0.2], [0.1], [0.0], [5.0]])).tolist()
    [5]
    """
    apart = ((rows - np.median(rows, axis=0)) ** 2).sum(axis=1)
    share = apart / max(float(apart.sum()), 1e-12)
    order = np.argsort(-share)
    return order[share[order] > times / len(rows)]

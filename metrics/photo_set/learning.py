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
    """Of each photo, over the checkpoints: `[E, N]` each.

    Attributes:
        ratio: ln(loss / the base's loss), mean over noise levels and draws; low, high: its 95 % interval over draws.
        beyond: robust standard deviations above the median of the set at that checkpoint.
    """

    ratio: np.ndarray
    low: np.ndarray
    high: np.ndarray
    beyond: np.ndarray

    @property
    def memorised_first(self) -> np.ndarray:
        """Photos whose loss fell much more than the others' at two checkpoints that follow each other, even if the
        others have caught up since: boolean `[N]`. Of one checkpoint, at that one."""
        ahead = self._learned[:, None] & (self.beyond < -FAST)
        return np.any(ahead[1:] & ahead[:-1], axis=0) if len(ahead) > 1 else ahead[0]

    @property
    def never_fitted(self) -> np.ndarray:
        """Photos whose loss has surely fallen at no checkpoint, while the others' has at the last: boolean `[N]`."""
        behind = bool(self._learned[-1]) & (self.beyond[-1] > SLOW)
        return np.asarray(behind & np.all(self.high > 0, axis=0))

    @property
    def reached(self) -> np.ndarray:
        """The first checkpoint at which a photo's loss has fallen as far as the set's median at the last: row numbers
        `[N]`, E where it never does."""
        there = self.ratio <= np.median(self.ratio[-1])
        return np.where(there.any(axis=0), there.argmax(axis=0), len(there))

    @property
    def _learned(self) -> np.ndarray:
        return np.median(self.ratio, axis=1) < -_FALLEN


def learning(losses: np.ndarray, base: np.ndarray) -> Learning:
    """How far each photo was learned at each checkpoint.

    Args:
        losses: `[E, N, levels, draws]`, checkpoints in their order. base: `[N, levels, draws]`, under the same noise.

    >>> import numpy as np
    >>> base = np.ones((8, 2, 4))
    >>> early, late = base * 0.9, base * 0.4
    >>> early[3], early[5], late[5] = 0.4, 1.01, 1.02
    >>> found = learning(np.array([early, early, late]), base)
    >>> found.memorised_first.nonzero()[0].tolist(), found.never_fitted.nonzero()[0].tolist()
    ([3], [5])
    >>> found.reached.tolist()
    [2, 2, 2, 0, 2, 3, 2, 2]
    """
    ratios = np.log(losses / base).mean(axis=2)
    draws = ratios.shape[2]
    ratio = ratios.mean(axis=2)
    spread = ratios.std(axis=2, ddof=1) if draws > 1 else np.zeros_like(ratio)
    reach = 2 * spread / draws**0.5
    middle = np.median(ratio, axis=1, keepdims=True)
    usual = 1.4826 * np.median(np.abs(ratio - middle), axis=1, keepdims=True)
    return Learning(ratio, ratio - reach, ratio + reach, (ratio - middle) / np.maximum(usual, _FLOOR))


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

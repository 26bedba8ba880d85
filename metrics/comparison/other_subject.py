"""Whether samples show another subject than the photos: two groups of features that lie apart, whatever the encoder."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metrics.trajectory.readings import Reading

APART = 0.4
"""From here on it is another subject. Real ones lie at 0.45 and more, samples of a LoRA that has learned below 0.2
(docs/log.md)."""
FARTHER = 0.15
"""By so much, in the same units, samples have to be less like the photos than photos are: copies that are all one are
not."""
CHANCE = 0.05
_SHUFFLES = 199


class Apartness(NamedTuple):
    """How far two groups lie apart: `reading` (0: as one group, 1: as far as photos of one group differ from each other
    on top of that), how much farther samples are from photos than photos from each other, and the share of random
    divisions of all images into two such groups that lie as far apart."""

    reading: Reading
    farther: float
    chance: float

    @property
    def other(self) -> bool:
        return self.reading.value > APART and self.farther > FARTHER and self.chance <= CHANCE


def apartness(samples: np.ndarray, photos: np.ndarray) -> Apartness:
    """The mean cosine within the groups less that between them, in units of what is left to 1 within them.

    Encoders call all photos alike to some degree of their own; a constant part of all cosines, or another scale of what
    they lack to 1, changes nothing. Shuffled groups are a permutation test of the energy distance (Székely and Rizzo
    2004).

    Args:
        samples: unit rows `[M, D]`, at least 3. photos: unit rows `[N, D]`, at least 3.

    >>> rows = np.eye(4)[[0, 0, 0, 1, 1, 1]] + 0.1 * np.random.default_rng(0).normal(size=(6, 4))
    >>> rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    >>> apartness(rows[:3], rows[3:]).reading.value > APART, apartness(rows[::2], rows[1::2]).other
    (True, False)
    """
    rows = np.concatenate([samples, photos]).astype(np.float64)
    cosines, count = rows @ rows.T, len(samples)
    mine = np.arange(len(rows)) < count
    value = _apart(cosines, mine)
    generator = np.random.default_rng(0)
    shuffled = [_apart(cosines, generator.permutation(mine)) for _ in range(_SHUFFLES)]
    chance = (1 + sum(each >= value - 1e-9 for each in shuffled)) / (1 + _SHUFFLES)
    left_out = [np.delete(np.arange(len(rows)), row) for row in range(count)] if count > 3 else []
    each = np.array([_apart(cosines[np.ix_(kept, kept)], mine[kept]) for kept in left_out])
    spread = 1.645 * float(np.sqrt((count - 1) / count * ((each - each.mean()) ** 2).sum())) if len(each) else 0.0
    alike = _within(cosines[count:, count:])
    farther = (alike - float(cosines[:count, count:].mean())) / max(1 - alike, 1e-6)
    return Apartness(Reading(value, value - spread, value + spread), farther, chance)


def _apart(cosines: np.ndarray, mine: np.ndarray) -> float:
    photos = _within(cosines[np.ix_(~mine, ~mine)])
    samples = min(_within(cosines[np.ix_(mine, mine)]), (1 + photos) / 2)  # all alike is not apart
    within = (samples + photos) / 2
    return float((within - cosines[np.ix_(mine, ~mine)].mean()) / max(1 - within, 1e-6))


def _within(cosines: np.ndarray) -> float:
    """Mean cosine of pairs of different images."""
    count = len(cosines)
    return float((cosines.sum() - np.trace(cosines)) / (count * (count - 1)))

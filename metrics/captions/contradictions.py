"""Captions that contradict their image beside the others': whole captions by rank, single tags by two views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TEXT, IMAGE = 0.8, 0.6
"""How far a photo lies on the way from those that say its tag (0) to those that say the other one (1): from here on it
belongs to the others. Chosen on the choosing sets of `benchmarks.data_check`."""
APART = 4.0
"""Robust standard deviations between those that say one tag and those that say the other: with less the encoder cannot
tell the two apart here, and nothing is said."""
TOLD = 0.25
"""Mean rank of captions for their own images, as a share of all captions (0.5 is chance): with more the encoder does
not know what these captions say."""


@dataclass(frozen=True)
class Ranks:
    """Rank of each photo's own caption among all captions for it, 1 the best.

    Attributes:
        ranks: `[N]`, ties by half.
        count: how many different captions there are.
    """

    ranks: np.ndarray
    count: int

    @property
    def chance(self) -> float:
        """The mean rank of captions that have nothing to do with their images."""
        return (self.count + 1) / 2

    @property
    def shares(self) -> np.ndarray:
        """The ranks from 0 (best) to 1; 0.5 is chance."""
        return (self.ranks - 1) / max(self.count - 1, 1)

    @property
    def told(self) -> bool:
        """Whether the encoder tells these captions apart at all."""
        return self.count > 2 and float(self.shares.mean()) <= TOLD

    @property
    def worse_than_chance(self) -> np.ndarray:
        """Photos whose own caption is no better than the middle one, where captions are told apart: boolean `[N]`."""
        return (self.shares >= 0.5) & self.told


def caption_ranks(images: np.ndarray, texts: np.ndarray, own: Sequence[int]) -> Ranks:
    """How well each caption fits its own image beside all others.

    Captions that fit any image well would rank high everywhere: from each caption's similarities the mean over the
    photos of other captions is taken off first.

    Args:
        images: unit rows `[N, D]` of the photos.
        texts: unit rows `[C, D]` of the different captions.
        own: `[N]`, each photo's caption.

    >>> import numpy as np
    >>> found = caption_ranks(np.eye(3), np.eye(3)[[0, 2, 1]], [0, 1, 2])
    >>> found.ranks.tolist(), found.chance
    ([1.0, 3.0, 3.0], 2.0)
    """
    rows = np.asarray(own)
    similar = images.astype(np.float64) @ texts.astype(np.float64).T
    others = rows[:, None] != np.arange(len(texts))
    usual = np.where(others, similar, 0).sum(axis=0) / np.maximum(others.sum(axis=0), 1)
    fit = similar - usual
    mine = fit[np.arange(len(rows)), rows][:, None]
    above, equal = (fit > mine + 1e-9).sum(axis=1), (np.abs(fit - mine) <= 1e-9).sum(axis=1)
    return Ranks(above + (equal + 1) / 2, len(texts))


@dataclass(frozen=True)
class Contradiction:
    """A photo whose caption says one tag of a group and whose image shows another one.

    Attributes:
        photo: its row.
        said, shown: places in the group; `said` is -1 where the caption says none of them.
        text, image: how far it lies on the way from `said` to `shown`, by captions and by likeness to the other photos;
            NaN where that view cannot be had.
    """

    photo: int
    said: int
    shown: int
    text: float
    image: float


def contradictions(fits: np.ndarray, features: np.ndarray, said: np.ndarray) -> list[Contradiction]:
    """Photos that belong to those that say another tag of the group, in both views.

    Args:
        fits: `[N, K]`, cosine of each image to its caption with each tag of the group in its place.
        features: unit rows `[N, D]`.
        said: `[N]`, place of the tag that each caption says; -1 for none.
    """
    alike = _likeness(features, said, fits.shape[1])
    found = []
    for photo in np.flatnonzero(said >= 0).tolist():
        ways = [_both(fits, alike, said, photo, other) for other in range(fits.shape[1]) if other != said[photo]]
        likely = [way for way in ways if way.text >= TEXT and not way.image < IMAGE]
        if likely:
            found.append(max(likely, key=lambda way: way.text))
    return found


def missing(fits: np.ndarray, said: np.ndarray) -> list[Contradiction]:
    """Photos whose captions say no tag of the group, with the one that their image shows.

    `text` is how surely: the share of the photos that do say a tag whose image, asked in the same way, shows that tag.
    """
    says = np.flatnonzero(said >= 0)
    sure = float((_calibrated(fits, said)[says].argmax(axis=1) == said[says]).mean()) if len(says) else float("nan")
    shown = _calibrated(fits, said).argmax(axis=1)
    return [Contradiction(int(p), -1, int(shown[p]), sure, float("nan")) for p in np.flatnonzero(said < 0)]


def _both(fits: np.ndarray, alike: np.ndarray, said: np.ndarray, photo: int, other: int) -> Contradiction:
    own = int(said[photo])
    image = _way(alike[:, other] - alike[:, own], said, photo, own, other, least=0.0)
    return Contradiction(photo, own, other, _way(fits[:, other] - fits[:, own], said, photo, own, other), image)


def _way(margins: np.ndarray, said: np.ndarray, photo: int, own: int, other: int, least: float = APART) -> float:
    """How far a photo's margin lies on the way from the photos that say `own` (0) to those that say `other` (1).

    Where no other photo says one of the two, its middle is taken as far on the other side of 0. NaN where the two lie
    less than `least` robust standard deviations apart, or nobody else says either.
    """
    rest = np.arange(len(said)) != photo
    groups = [margins[rest & (said == tag) & np.isfinite(margins)] for tag in (own, other)]
    if not np.isfinite(margins[photo]) or not (len(groups[0]) or len(groups[1])):
        return float("nan")
    middles = [float(np.median(group)) if len(group) else float("nan") for group in groups]
    start, end = (-middles[1] if np.isnan(middles[0]) else middles[0]), middles[1]
    end = -start if np.isnan(end) else end
    noise = np.concatenate([group - np.median(group) for group in groups if len(group)])
    spread = 1.4826 * float(np.median(np.abs(noise)))
    if end - start <= least * spread or end <= start:
        return float("nan")
    return (float(margins[photo]) - start) / (end - start)


def _likeness(features: np.ndarray, said: np.ndarray, count: int) -> np.ndarray:
    """Minus the distance of each photo to the mean of the other photos that say each tag: `[N, K]`, NaN without one."""
    rows = features.astype(np.float64)
    found = np.full((len(rows), count), np.nan)
    for photo in range(len(rows)):
        for tag in range(count):
            others = np.flatnonzero((said == tag) & (np.arange(len(rows)) != photo))
            if len(others):
                found[photo, tag] = -np.linalg.norm(rows[photo] - rows[others].mean(axis=0))
    return found


def _calibrated(fits: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Fits less the mean that each tag has with photos that say another one."""
    others = (said[:, None] != np.arange(fits.shape[1])) & (said >= 0)[:, None]
    return fits - np.where(others, fits, 0).sum(axis=0) / np.maximum(others.sum(axis=0), 1)

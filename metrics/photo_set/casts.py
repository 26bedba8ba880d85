"""Photos under a cast of their own: a filter, or a wrong white balance, that moves every colour one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.channels.colour import sample_pixels, srgb_to_lab
from metrics.photo_set.unlike import residuals

SHIFT = 28.0
BEYOND = 8.0
EVEN_THERE = 5.0
"""In CIELAB units; nineteen of twenty tinted photos are moved by more than SHIFT. Chosen on the choosing subjects of
`benchmarks.data_check` (docs/log.md)."""
_SEEN = (25.0, 98.0)  # L*: what is darker or lighter shows no cast
_FEWEST = 50  # pixels
_ELSEWHERE = 0.02  # share of the pixels that may lie elsewhere
_LEAST = 4  # photos
_GAMMA = 2.2


@dataclass(frozen=True)
class Cast:
    """Of each photo `[N]`, in CIELAB units along the way that its mean colour lies from the others'.

    Attributes:
        shift: how far that is; where captions have tags, at most what these do not explain.
        least: how far all but the last fiftieth of its pixels lie that way from grey.
        beyond: how much farther than those of any other photo.
    """

    shift: np.ndarray
    least: np.ndarray
    beyond: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Which photos have a cast: boolean `[N]`. A red wall is none: what stands before it is not red."""
        return (self.shift > SHIFT) & (self.least > EVEN_THERE) & (self.beyond > BEYOND)


def casts(images: Sequence[np.ndarray], says: np.ndarray) -> Cast:
    """The cast of each of N uint8 RGB images `[H, W, 3]`, sizes may differ; none where there are fewer than four.

    Args:
        says: boolean `[N, T]`, which tags each caption says; T may be 0. A sunset that captions name is no cast.
    """
    shift, least, beyond = np.zeros(len(images)), np.zeros(len(images)), np.zeros(len(images))
    if len(images) < _LEAST:
        return Cast(shift, least, beyond)
    pixels = sample_pixels(images)
    colours = [_chroma(lab) for lab in srgb_to_lab(pixels).reshape(len(pixels), -1, 3)]
    means = np.stack([colour.mean(axis=0) for colour in colours])
    for row in range(len(images)):
        others = np.arange(len(images)) != row
        away = means[row] - np.median(means[others], axis=0)
        shift[row] = np.linalg.norm(away)
        reached = np.array([np.quantile(colour @ (away / max(shift[row], 1e-9)), _ELSEWHERE) for colour in colours])
        least[row], beyond[row] = reached[row], reached[row] - reached[others].max()
    if says.any():
        shift = np.minimum(shift, np.linalg.norm(residuals(means, says), axis=1))
    return Cast(shift, least, beyond)


def without_cast(image: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """The image with its channels scaled, in linear light, to the others' mean hue (von Kries): uint8 `[H, W, 3]`."""
    own, *means = (_linear(each).mean(axis=(0, 1)) for each in (image, *others))
    usual = np.median(means, axis=0)
    gains = (usual / max(usual.mean(), 1e-6)) / np.maximum(own / max(own.mean(), 1e-6), 1e-3)
    return np.asarray(np.rint(np.clip(_linear(image) * gains, 0, 1) ** (1 / _GAMMA) * 255).astype(np.uint8))


def _linear(image: np.ndarray) -> np.ndarray:
    return np.asarray((image.astype(np.float64) / 255) ** _GAMMA)


def _chroma(lab: np.ndarray) -> np.ndarray:
    """a* and b* `[pixels, 2]` of the pixels that are neither black nor white; of all, where these are few."""
    seen = (lab[:, 0] > _SEEN[0]) & (lab[:, 0] < _SEEN[1])
    return np.asarray(lab[seen if seen.sum() > _FEWEST else slice(None), 1:], np.float64)

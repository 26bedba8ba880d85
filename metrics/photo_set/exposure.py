"""Whether photos have lost their lights or lie in the dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.channels.colour import srgb_to_lab

LOST = 0.25
"""Share of an image whose lights are lost, above the set's median, from which on it is overexposed."""
LIGHTER = 4.0
"""L* by which its middle exceeds the set's: colours that are lost in one channel are a cast, and no light."""
DARK = 31.0
"""L* that only a fiftieth of an underexposed image exceeds."""
WHITE = 0.02
"""Share of an image that is all white, above the set's median: snow at noon loses its blue alone."""
_FULL = 252  # levels: a channel that is lost
_ALIKE = 2  # photos as dark or as light as this one make it a kind of photo, not a slip
_NEAR = 4.0  # L*


@dataclass(frozen=True)
class Light:
    """Arrays with one number per image.

    Attributes:
        lost: share of pixels with a channel at its upper end, less the median of the set.
        white: the same for pixels that are all white.
        highlights: L* that a fiftieth of the pixels exceeds; median: L* that half of them exceed.
    """

    lost: np.ndarray
    white: np.ndarray
    highlights: np.ndarray
    median: np.ndarray


def light(images: Sequence[np.ndarray]) -> Light:
    """How light uint8 RGB images `[H, W, 3]` are."""
    lost, white, highlights, median = [], [], [], []
    for image in images:
        full = image >= _FULL
        lost.append(full.any(axis=2).mean())
        white.append(full.all(axis=2).mean())
        lightness = srgb_to_lab(image.reshape(-1, 3)[:: max(1, image.size // 200_000)])[:, 0]
        highlights.append(np.quantile(lightness, 0.98))
        median.append(np.median(lightness))
    return Light(*(np.array(values, np.float64) for values in (lost, white, highlights, median)))


def overexposed(found: Light) -> np.ndarray:
    """Which photos have lost their lights: boolean `[N]`.

    Much more of them has a channel at its end than of the other photos, some of it in all three, they are lighter than
    these, and no two others are like that: white backgrounds of a whole set are no fault.

    >>> import numpy as np
    >>> lost = np.array([0.0, 0.01, 0.02, 0.6])
    >>> overexposed(Light(lost, lost, 90 + 10 * lost, 50 + 40 * lost)).tolist()
    [False, False, False, True]
    """
    far = (found.lost - np.median(found.lost) > LOST) & (found.median - np.median(found.median) > LIGHTER)
    far &= found.white - np.median(found.white) > WHITE
    return far & (_company(found.lost, LOST / 2) < _ALIKE)


def underexposed(found: Light) -> np.ndarray:
    """Which photos lie in the dark: boolean `[N]`; not where two others are as dark, as photos of a night are.

    >>> import numpy as np
    >>> dark = np.array([80.0, 85.0, 90.0, 20.0])
    >>> underexposed(Light(0 * dark, 0 * dark, dark, dark / 2)).tolist()
    [False, False, False, True]
    """
    return (found.highlights < DARK) & (_company(found.highlights, _NEAR) < _ALIKE)


def _company(values: np.ndarray, near: float) -> np.ndarray:
    """How many others are within `near` of each."""
    return (np.abs(values[:, None] - values) < near).sum(axis=1) - 1

"""Which photos are the same photo twice: saved anew, resized, mirrored, brighter or darker, or cropped.

By pixels, not by an encoder's features: photos of one shoot are alike to an encoder, but only copies lie on top of each
other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metrics.comparison.copies import mirror_images

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE, _LARGE = 32, 128  # pixels compared; and of what crops are cut from
_BLOCKS = 8  # places along a side: a subject that has moved shows in one of them
_STEPS = (0.02, 0.01, 0.005)
_FINE = (*_STEPS, 0.0025, 0.00125, 0.0006)
_LEAST = 0.7  # of the other's side

Box = tuple[float, float, float, float]
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Likeness:
    """How alike copies are.

    Attributes:
        alike: least correlation of grey levels.
        worst: largest difference in a place, in standard deviations of the photo.
        likely: correlation from which on a pair is aligned more closely; slight: below which a first step has to make
            it larger by `gain`; near: what it has to come to with the first step's size.
        smooth: standard deviation, in places of the grid, by which differences are smoothed before the worst is sought:
            photos that were scaled differ in their finest grain.
        scales, places: of the crops that alignment starts from, as shares of the sides and of what is left of them.
        steps: of alignment, as shares of the sides.
    """

    alike: float
    worst: float
    likely: float
    scales: tuple[float, ...]
    places: tuple[float, ...]
    steps: tuple[float, ...] = _STEPS
    slight: float = 0.0
    gain: float = 0.0
    near: float = 0.0
    smooth: float = 0.0

    @property
    def crops(self) -> tuple[Box, ...]:
        """Where alignment starts: the whole image and its crops."""
        return (
            _WHOLE,
            *(
                ((1 - scale) * x, (1 - scale) * y, (1 - scale) * x + scale, (1 - scale) * y + scale)
                for scale in self.scales
                for x in self.places
                for y in self.places
            ),
        )


SAVED_ANEW = Likeness(0.985, 0.5, 0.85, (0.95, 0.9, 0.85, 0.8), (0.0, 0.5, 1.0))
"""The same picture to the eye."""
CROPPED = Likeness(
    alike=0.985,
    worst=0.06,
    likely=0.7,
    scales=(0.95, 0.9, 0.85, 0.8, 0.75),
    places=(0.0, 0.25, 0.5, 0.75, 1.0),
    steps=_FINE,
    slight=0.85,
    gain=0.02,
    near=0.9,
    smooth=1.2,
)
"""Cropped anywhere, too: starts that lie closer together find it, and finer steps lay it on its original so well that
photos taken alike stay apart (docs/log.md, "Copies")."""
_BRIGHTENED = 0.33  # worst place, as in `Likeness`: copies stay below it, other renders of one place begin at 0.37
_CLIPPED = (6, 248)  # levels beyond them may have been more before they were clipped


def twins(images: Sequence[np.ndarray], likeness: Likeness = SAVED_ANEW, asked: np.ndarray | None = None) -> np.ndarray:
    """Which images are copies of which: symmetric boolean `[N, N]`, false on the diagonal.

    A copy is laid on its original, as it is or mirrored, either of the two cropped by up to a fifth: then grey levels
    correlate by 0.985 or more, and nowhere do they differ by half of the photo's spread. Ours; between different photos
    of one shoot the correlation stays below 0.9 (`tests/metrics/comparison/test_twins.py` plants both).

    Args:
        images: uint8 `[H, W, 3]`, all cut to one shape.
        asked: symmetric boolean `[N, N]`: the pairs that are looked at; None takes all.

    >>> import numpy as np
    >>> photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    >>> twins([photo, 255 - photo, photo[:, ::-1]]).tolist()
    [[False, False, True], [False, False, False], [True, False, False]]
    """
    plain = [_prepared(image) for image in images]
    flipped = [_prepared(image) for image in mirror_images(images)]
    whole = np.array([_levels(image, _WHOLE) for image in plain]).reshape(len(plain), _SIDE * _SIDE)
    found, starts = np.zeros((len(plain), len(plain)), bool), likeness.crops
    asked = ~np.eye(len(plain), dtype=bool) if asked is None else asked
    for row, image in enumerate(plain):
        for other in (image, flipped[row]):
            crops = np.array([_levels(other, box) for box in starts])
            alike = whole @ crops.T  # [N, crops]
            for column in np.flatnonzero((alike.max(axis=1) >= likeness.likely) & asked[row]):
                if not found[row, column]:
                    start = starts[int(alike[column].argmax())]
                    found[row, column] = found[column, row] = _same(whole[column], other, start, likeness)
    return found


def brightened(images: Sequence[np.ndarray]) -> np.ndarray:
    """Which images are brighter or darker copies of which, mirrored or not: symmetric boolean `[N, N]`, false on the
    diagonal.

    Each channel of the one is a multiple of the other's and a constant, clipped: what is left of the grey levels is
    then nowhere more than a third of the photo's spread. Ours; chosen on renders of one place and photos of one shoot.

    Args:
        images: uint8 `[H, W, 3]`, all cut to one shape.

    >>> import numpy as np
    >>> photo = np.random.default_rng(0).integers(0, 200, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    >>> brightened([photo, 255 - photo, photo[:, ::-1] // 2 + 40]).tolist()
    [[False, False, True], [False, False, False], [True, False, False]]
    """
    plain = [_colours(image) for image in images]
    flipped = [colours[:, ::-1] for colours in plain]
    levels = np.array([_levels(_prepared(image), _WHOLE) for image in images]).reshape(len(images), _SIDE * _SIDE)
    mirrored = levels.reshape(-1, _SIDE, _SIDE)[:, :, ::-1].reshape(len(levels), -1)
    found = np.zeros((len(plain), len(plain)), bool)
    for others, alike in ((plain, levels @ levels.T), (flipped, levels @ mirrored.T)):
        for row, column in zip(*np.nonzero(np.triu(alike >= SAVED_ANEW.likely, 1)), strict=True):
            one, other = plain[row], others[column]
            if min(_left_over(one, other), _left_over(other, one)) < _BRIGHTENED:
                found[row, column] = found[column, row] = True
    return found


def laid_on(samples: Sequence[np.ndarray], photos: Sequence[np.ndarray]) -> np.ndarray:
    """Which samples are which photos, by pixels: boolean `[n, N]`. See `twins` (`CROPPED`) and `brightened`.

    Args:
        samples, photos: uint8 `[H, W, 3]` of any shapes; what a photo has beyond the shape of a sample is cut off.
    """
    from PIL import Image, ImageOps

    found = np.zeros((len(samples), len(photos)), bool)
    for shape in sorted({image.shape[:2] for image in samples}):
        rows = [row for row, image in enumerate(samples) if image.shape[:2] == shape]
        shrink = min(1.0, 2 * _LARGE / max(shape))
        size = max(1, round(shape[1] * shrink)), max(1, round(shape[0] * shrink))
        images = [*(samples[row] for row in rows), *photos]
        cut = [np.asarray(ImageOps.fit(Image.fromarray(image), size, Image.Resampling.BOX)) for image in images]
        sample = np.arange(len(cut)) < len(rows)
        found[rows] = (twins(cut, CROPPED, sample[:, None] != sample) | brightened(cut))[: len(rows), len(rows) :]
    return found


def _colours(image: np.ndarray) -> np.ndarray:
    """The image, at most `_LARGE` pixels a side: float `[h, w, 3]`."""
    from PIL import Image

    return np.asarray(_small(Image.fromarray(image)), np.float64)


def _left_over(darker: np.ndarray, brighter: np.ndarray) -> float:
    """The worst place of `brighter`, in standard deviations of its grey levels, when `darker` is brightened to it."""
    from PIL import Image

    left = np.zeros(brighter.shape[:2])
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        before, after = darker[..., channel], brighter[..., channel]
        whole = (after > _CLIPPED[0]) & (after < _CLIPPED[1])
        if not whole.any():
            continue
        centre, spread = before[whole].mean(), before[whole].var()
        slope = ((before[whole] - centre) * after[whole]).mean() / spread if spread > 1.0 else 1.0
        left += weight * (after - np.clip(slope * (before - centre) + after[whole].mean(), 0, 255))
    grey = brighter @ np.array((0.299, 0.587, 0.114))
    apart, levels = (
        np.asarray(Image.fromarray(values.astype(np.float32)).resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
        for values in (left, grey)
    )
    return _worst(apart) / max(float(levels.std()), 1e-6)


def _worst(apart: np.ndarray) -> float:
    """The largest root mean square over the blocks of differences `[_SIDE, _SIDE]`."""
    blocks = apart.reshape(_BLOCKS, _SIDE // _BLOCKS, _BLOCKS, _SIDE // _BLOCKS)
    return float(np.sqrt((blocks**2).mean(axis=(1, 3))).max())


def _small(picture: Image) -> Image:
    from PIL import Image

    if max(picture.size) <= _LARGE:
        return picture
    shrink = _LARGE / max(picture.size)
    width, height = (max(1, round(side * shrink)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)


def _prepared(image: np.ndarray) -> Image:
    from PIL import Image

    grey = Image.fromarray(image).convert("L")
    if max(grey.size) > _LARGE:
        grey = grey.resize((_LARGE, _LARGE), Image.Resampling.BOX, reducing_gap=2.0)
    return grey


def _levels(image: Image, box: Box) -> np.ndarray:
    """Grey levels of a part of an image, `[_SIDE²]` with mean 0 and norm 1; zeros where there is nothing to see."""
    from PIL import Image

    width, height = image.size
    part = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, box=part)
    levels = np.frombuffer(small.tobytes(), np.uint8).astype(np.float64)
    levels -= np.add.reduce(levels) / levels.size  # a mean and a norm, without numpy's looks at what they are given
    norm = math.sqrt(levels.dot(levels))
    return levels / norm if norm > 1e-9 else levels


def _same(whole: np.ndarray, other: Image, box: Box, likeness: Likeness) -> bool:
    """Whether a part of `other`, about `box`, shows what `whole` does."""
    levels = _levels(other, box)
    best = start = float(whole @ levels)
    for step in likeness.steps:
        fine = step < _STEPS[-1]
        needed = likeness.alike if fine else likeness.near
        if best < needed and step != likeness.steps[0]:
            return False
        better = True
        while better:
            better = False
            for tried in _near(box, step, _TOGETHER if fine else _APART):
                there = _levels(other, tried)
                if (found := float(whole @ there)) > best + (1e-7 if fine else 1e-6):
                    box, levels, best, better = tried, there, found, True
            if start < likeness.slight and best < start + likeness.gain:
                return False
    if best < likeness.alike:
        return False
    return _worst(_smoothed((_SIDE * (whole - levels)).reshape(_SIDE, _SIDE), likeness.smooth)) < likeness.worst


def _smoothed(apart: np.ndarray, by: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(apart, by)) if by else apart


_APART = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))
_TOGETHER = tuple(move for move in itertools.product((-1, 0, 1), (-1, 0, 1), (-1, 0, 1)) if any(move))
"""Moves along x and y, and by scale: one at a time, or any at once, since a crop that is too large is moved, too."""


def _near(box: Box, step: float, moves: Sequence[tuple[int, int, int]]) -> Iterator[Box]:
    """A box moved and scaled a little, inside the image: cutting photos to one size never stretches them."""
    left, top, right, bottom = box
    for x, y, grow in moves:
        side = min(max(right - left + step * grow, _LEAST), 1.0)
        middle = ((left + right) / 2 + step * x, (top + bottom) / 2 + step * y)
        corner = [min(max(centre - side / 2, 0.0), 1.0 - side) for centre in middle]
        yield corner[0], corner[1], corner[0] + side, corner[1] + side

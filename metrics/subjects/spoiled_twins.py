"""Pictures that are nearly right: subjects of the photos, moved like others, but melted or with a part missing."""

from collections.abc import Sequence

import numpy as np

from metrics.subjects.composites import make_composites

MELTED_SIZE = 192
"""Longer side, in pixels, of what is melted: nothing fine is left of it, so nothing is lost."""
WARP, WARP_SCALE, SOFTNESS = 0.2, 0.1, 0.05
"""How far and how smoothly a melted subject is bent, and how much it is blurred, as shares of the photo's height."""
LEFT = (0.4, 0.65)
"""Range of the share of a cut subject that is left of it."""


def make_spoiled_twins(
    photos: Sequence[np.ndarray], masks: Sequence[np.ndarray], backgrounds: np.ndarray, *, count: int = 64, seed: int
) -> np.ndarray:
    """Moved subjects that are not the subject any more: uint8 `[count, H, W, 3]`, of the backgrounds' size.

    The first half are melted into blobs of the same colours, as a LoRA draws them that has just begun to learn; of the
    others a straight cut takes a part away.

    Args:
        photos: uint8 `[H, W, 3]`, sizes may differ.
        masks: float `[H, W]` in [0, 1], one per photo, at least one of them not empty.
        backgrounds: uint8 `[B, h, w, 3]`, as for `make_composites`.
        count: even, at least 2.
        seed: of what is spoiled and how, and of places and sizes.
    """
    generator = np.random.default_rng(seed)
    usable = np.flatnonzero([mask.max() > 0.5 for mask in masks])
    parts = []
    for number, spoil in enumerate((_melted, _cut)):
        rows = generator.permutation(usable)[: count // 2]
        spoiled = [spoil(photos[row], masks[row].astype(np.float64), generator) for row in rows]
        pixels, outlines = zip(*spoiled, strict=True)
        parts.append(make_composites(pixels, outlines, backgrounds, count=count // 2, seed=seed + number).images)
    return np.concatenate(parts)


def _melted(photo: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    from scipy.ndimage import gaussian_filter, map_coordinates

    photo, mask = _small(photo, mask)
    height, width = mask.shape
    bends = []
    for _ in range(2):
        bend = gaussian_filter(generator.normal(size=(height, width)), WARP_SCALE * height)
        bends.append(WARP * height * bend / (np.abs(bend).max() + 1e-9))
    places = np.mgrid[:height, :width] + np.stack(bends)
    bent = map_coordinates(mask, places, order=1)
    layers = [
        map_coordinates(photo[..., channel].astype(np.float64), places, order=1, mode="nearest") for channel in range(3)
    ]
    softness = SOFTNESS * height
    soft = gaussian_filter(bent, softness)
    colours = [gaussian_filter(layer * bent, softness) / np.maximum(soft, 1e-3) for layer in layers]
    outline = np.clip(1.3 * soft, 0, 1)
    if outline.max() <= 0.5:  # bent out of the frame, or too small to be left
        return photo, mask
    return np.clip(np.stack(colours, axis=-1), 0, 255).round().astype(np.uint8), outline


def _cut(photo: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    angle = generator.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    along = rows * np.sin(angle) + columns * np.cos(angle)
    return photo, mask * (along < np.quantile(along[mask > 0.5], generator.uniform(*LEFT)))


def _small(photo: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    height, width = mask.shape
    shrink = min(1.0, MELTED_SIZE / max(height, width))
    size = max(8, round(shrink * width)), max(8, round(shrink * height))
    soft = Image.fromarray((255 * mask).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BOX)), np.asarray(soft) / 255

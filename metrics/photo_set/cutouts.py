"""Subjects cut out of their photos and put before grey, so that only they are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metrics.subjects.saliency import common_saliency

_GREY = 128


def subject_cutouts(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The subject of each photo as a square before grey, uint8 `[S, S, 3]`; the whole photo where none stands out.

    Args:
        images: uint8 `[H, W, 3]`, sizes may differ.
    """
    from PIL import Image

    found = []
    for image, saliency in zip(images, common_saliency(images).maps, strict=True):
        height, width = image.shape[:2]
        large = Image.fromarray((saliency * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
        inside = np.asarray(large) > 127
        if not inside.any():
            found.append(image)
            continue
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        part = np.where(inside[..., None], image, np.uint8(_GREY))[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        side = max(part.shape[:2])
        square = np.full((side, side, 3), _GREY, np.uint8)
        top, left = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
        square[top : top + part.shape[0], left : left + part.shape[1]] = part
        found.append(square)
    return found

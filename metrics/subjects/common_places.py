"""Where photos of one subject show what all of them show, by an encoder's features of places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LIKEST = 2  # places of another photo that count
_MOST, _FEWEST = 12, 4  # other photos that are asked, evenly taken
_WORK = 12 * 576  # places of other photos, for which fewer are asked where each has many


def common_places(stages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps of several photos that are higher where their common subject is: `[h, w]` each, of the finest stage.

    A place counts for how much more it is like some place of another photo than like any place at that one's border:
    what photos share, and not with their backgrounds (co-segmentation by deep features, as in Amir et al. 2022 with
    DINO's; the border as background after Zhu et al. 2014). The median over other photos; stages are added up.

    Args:
        stages: `[N, h, w, D]` each, from `metrics.checkpoint.encoders.Encoder.places`; N at least 2.
    """
    finest = max(stage.shape[1:3] for stage in stages)
    maps = [_resized(_normal(values), finest) for stage in stages for values in _of_stage(stage)]
    count = len(stages[0])
    return [np.sum(maps[row::count], axis=0) for row in range(count)]


def _of_stage(stage: np.ndarray) -> list[np.ndarray]:
    count, height, width, size = stage.shape
    rows = stage.reshape(count, height * width, size).astype(np.float32)
    rows = rows - rows.mean(axis=(0, 1))
    rows /= np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-6)
    border = np.ones((height, width), bool)
    border[1:-1, 1:-1] = False
    edge = border.ravel()
    maps = []
    for own in range(count):
        asked = np.delete(np.arange(count), own)[_evenly(count - 1, height * width)]
        alike = [rows[own] @ rows[other].T for other in asked]
        more = [_likest(each) - _likest(each[:, edge]) for each in alike]
        maps.append(np.median(more, axis=0).reshape(height, width))
    return maps


def _evenly(others: int, places: int) -> np.ndarray:
    """Which of the other photos, of so many places each, are asked."""
    most = min(others, max(_FEWEST, min(_MOST, _WORK // places)))
    return np.linspace(0, others - 1, most).round().astype(int)


def _likest(alike: np.ndarray) -> np.ndarray:
    most = min(_LIKEST, alike.shape[1])
    return np.asarray(np.partition(alike, -most, axis=1)[:, -most:].mean(axis=1))


def _normal(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, [0.02, 0.98])
    return np.asarray((values - low) / max(float(high - low), 1e-9)).clip(-0.2, 1.2)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC))

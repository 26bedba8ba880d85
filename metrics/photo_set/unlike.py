"""Photos that are unlike all others of their set: another subject, or other colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics.channels.colour import sliced_wasserstein

SUBJECT = 2.05
COLOUR = (2.93, 1.6)
"""Robust standard deviations, of colours and of features; chosen on the choosing sets of `benchmarks.data_check`."""
APART = 0.28
"""By so much less alike the others a photo of another subject is than they are to each other, in units of what
unrelated photos lack to 1: nineteen of twenty exceed it, photos of one subject reach 0.15 (docs/log.md)."""
ALONE = 0.35
"""The same of the nearest of the others, in units of what these lack to 1: two such photos are a kind of photo."""
_FLOOR = 0.1  # of the spread of ln distances: sets that happen to be evenly spaced
_RIDGE = 1.0  # photos: how much a tag needs before it explains anything
_FEW = 3.0  # photos
_LEAST = 4  # photos, below which nothing is called unlike


@dataclass(frozen=True)
class Unlikeness:
    """Robust standard deviations `[N]` above the set's median, each by a view of its own.

    Attributes:
        features: of the whole photo, less what its caption explains.
        subject: of the subject alone, cut out.
        colours: of the whole photo, to the nearest two.
        layout: of edges and where they run, less what the caption explains.
        apart, alone: how much less alike the others it is than they are to each other; the same of the nearest of them
            (`aloof`).
    """

    features: np.ndarray
    subject: np.ndarray
    colours: np.ndarray
    layout: np.ndarray
    apart: np.ndarray
    alone: np.ndarray


def unlikeness(
    features: np.ndarray,
    subject: np.ndarray,
    colour_cdfs: np.ndarray,
    layouts: np.ndarray,
    says: np.ndarray,
    unrelated: float,
) -> Unlikeness:
    """How unlike the others each photo is.

    Args:
        features: unit rows `[N, D]` of the photos.
        subject: unit rows `[N, D]` of the subjects cut out of them.
        colour_cdfs: `[N, projections, edges]` from `metrics.channels.colour.colour_cdfs`.
        layouts: unit rows `[N, 128]` from `metrics.channels.composition.layout_vectors`.
        says: boolean `[N, T]`, which tags each caption says; T may be 0.
        unrelated: mean cosine of photos that have nothing in common (`metrics.checkpoint.unrelated`).
    """
    apart, alone = aloof(features, says, unrelated)
    colours = np.stack([sliced_wasserstein(row[None], colour_cdfs) for row in colour_cdfs.astype(np.float64)])
    return Unlikeness(
        features=_outlying(_unexplained(features, says) if says.any() else nearest(_cosine_distances(features), 1)),
        subject=_outlying(_unexplained(subject, np.zeros((len(subject), 0), bool))),
        colours=_outlying(nearest(colours, 2)),
        layout=_outlying(_unexplained(layouts, says)),
        apart=apart,
        alone=alone,
    )


def other_subject(found: Unlikeness) -> np.ndarray:
    """Which photos show something else: boolean `[N]`, where photo and cut-out subject agree."""
    return np.minimum(found.features, found.subject) > SUBJECT * _few(len(found.features))


def unrelated_photo(apart: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Which photos have hardly more in common with the others than unrelated ones have: boolean `[N]` (see `aloof`)."""
    return (apart > APART) & (alone > ALONE)


def other_colours(found: Unlikeness) -> np.ndarray:
    """Which photos have colours of their own that their captions do not explain: boolean `[N]`."""
    few = _few(len(found.features))
    return (found.colours > COLOUR[0] * few) & (found.features > COLOUR[1] * few)


def aloof(features: np.ndarray, says: np.ndarray, unrelated: float) -> tuple[np.ndarray, np.ndarray]:
    """How much less alike the others each photo is than they are to each other: two arrays `[N]`.

    The first is the mean cosine among the others less that to them, in units of what unrelated photos lack to 1, so
    that encoders that call everything alike can be compared. The second takes the nearest of the others, for each of
    them as well, in units of what these lack to 1. Both are 0 in the mean where a photo is one of them. Ours.

    Args:
        features: unit rows `[N, D]`.
        says: boolean `[N, T]`, which tags each caption says; T may be 0. Where there are tags, the photos without what
            captions explain of them have to agree.
        unrelated: mean cosine of photos that have nothing in common.

    >>> import numpy as np
    >>> rows = np.array([[0.8, 0.6, 0], [0.8, 0, 0.6], [1, 0, 0], [0.96, 0.28, 0], [0, -0.6, 0.8]])
    >>> apart, alone = aloof(rows, np.zeros((5, 0), bool), unrelated=0.2)
    >>> int(apart.argmax()), bool(apart[4] > 0.9 and alone[4] > 2)
    (4, True)
    """
    if len(features) < _LEAST:
        return np.zeros(len(features)), np.zeros(len(features))
    apart, alone = _aloof(features.astype(np.float64), unrelated)
    if says.any():  # a caption that is wrong explains its photo away from the others
        told = _aloof(_less_captions(features, says), unrelated)
        apart, alone = np.minimum(apart, told[0]), np.minimum(alone, told[1])
    return apart, alone


def _aloof(rows: np.ndarray, unrelated: float) -> tuple[np.ndarray, np.ndarray]:
    cosines, count = rows @ rows.T, len(rows)
    apart, alone = np.zeros(count), np.zeros(count)
    for row in range(count):
        others = np.arange(count) != row
        among = cosines[np.ix_(others, others)]
        pairs = ~np.eye(count - 1, dtype=bool)
        apart[row] = (among[pairs].mean() - cosines[row, others].mean()) / max(1 - unrelated, 1e-6)
        usual = np.where(pairs, among, -np.inf).max(axis=1).mean()
        alone[row] = (usual - cosines[row, others].max()) / max(1 - usual, 1e-6)
    return apart, alone


def nearest(distances: np.ndarray, count: int) -> np.ndarray:
    """Mean distance to the nearest `count` others: `[N]`.

    >>> import numpy as np
    >>> nearest(np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 3.0], [4.0, 3.0, 0.0]]), 1).tolist()
    [1.0, 1.0, 3.0]
    """
    apart = distances.astype(np.float64).copy()
    np.fill_diagonal(apart, np.inf)
    return np.sort(apart, axis=1)[:, : min(count, len(apart) - 1)].mean(axis=1)


def _unexplained(rows: np.ndarray, says: np.ndarray) -> np.ndarray:
    """How far each row lies from what the others' captions and rows make of its caption: `[N]`."""
    return np.asarray(np.linalg.norm(residuals(rows, says), axis=1))


def residuals(rows: np.ndarray, says: np.ndarray) -> np.ndarray:
    """Each row less what the others' captions and rows make of its caption: `[N, D]`.

    Ridge regression of the rows on the tags, each row left out in turn (in closed form): photos of a place that the
    captions name are not unlike the others for that.
    """
    rows = rows.astype(np.float64)
    design = np.concatenate([np.ones((len(rows), 1)), says.astype(np.float64)], axis=1)
    penalty = np.diag([1e-6, *[_RIDGE] * says.shape[1]])
    hat = design @ np.linalg.solve(design.T @ design + penalty, design.T)
    return np.asarray((rows - hat @ rows) / np.maximum(1 - np.diag(hat), 1e-6)[:, None])


def _less_captions(rows: np.ndarray, says: np.ndarray) -> np.ndarray:
    """Unit rows `[N, D]` without what the others' captions explain of them."""
    rest = rows.astype(np.float64).mean(axis=0) + residuals(rows, says)
    return np.asarray(rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9))


def _cosine_distances(rows: np.ndarray) -> np.ndarray:
    return np.maximum(1 - rows.astype(np.float64) @ rows.astype(np.float64).T, 0.0)


def _outlying(values: np.ndarray) -> np.ndarray:
    """Robust standard deviations of the logarithms above their median."""
    logarithms = np.log(np.maximum(values, 1e-9))
    middle = np.median(logarithms)
    return (logarithms - middle) / max(1.4826 * float(np.median(np.abs(logarithms - middle))), _FLOOR)


def _few(count: int) -> float:
    """By how much limits are raised in small sets, where a median and its spread say little."""
    return np.inf if count < _LEAST else 1 + _FEW / count

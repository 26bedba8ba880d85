"""Photos that are unlike all others of their set in two ways at once: another subject, or other colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics.channels.colour import sliced_wasserstein

SUBJECT = 2.05
COLOUR = (2.93, 1.6)
"""Robust standard deviations, of colours and of features; chosen on the choosing sets of `benchmarks.data_check`."""
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
    """

    features: np.ndarray
    subject: np.ndarray
    colours: np.ndarray
    layout: np.ndarray


def unlikeness(
    features: np.ndarray, subject: np.ndarray, colour_cdfs: np.ndarray, layouts: np.ndarray, says: np.ndarray
) -> Unlikeness:
    """How unlike the others each photo is.

    Args:
        features: unit rows `[N, D]` of the photos.
        subject: unit rows `[N, D]` of the subjects cut out of them.
        colour_cdfs: `[N, projections, edges]` from `metrics.channels.colour.colour_cdfs`.
        layouts: unit rows `[N, 128]` from `metrics.channels.composition.layout_vectors`.
        says: boolean `[N, T]`, which tags each caption says; T may be 0.
    """
    colours = np.stack([sliced_wasserstein(row[None], colour_cdfs) for row in colour_cdfs.astype(np.float64)])
    return Unlikeness(
        features=_outlying(_unexplained(features, says) if says.any() else nearest(_cosine_distances(features), 1)),
        subject=_outlying(_unexplained(subject, np.zeros((len(subject), 0), bool))),
        colours=_outlying(nearest(colours, 2)),
        layout=_outlying(_unexplained(layouts, says)),
    )


def other_subject(found: Unlikeness) -> np.ndarray:
    """Which photos show something else: boolean `[N]`, where photo and cut-out subject agree."""
    return np.minimum(found.features, found.subject) > SUBJECT * _few(len(found.features))


def other_colours(found: Unlikeness) -> np.ndarray:
    """Which photos have colours of their own that their captions do not explain: boolean `[N]`."""
    few = _few(len(found.features))
    return (found.colours > COLOUR[0] * few) & (found.features > COLOUR[1] * few)


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
    """How far each row lies from what the others' captions and rows make of its caption: `[N]`.

    Ridge regression of the rows on the tags, each row left out in turn (in closed form): photos of a place that the
    captions name are not unlike the others for that.
    """
    rows = rows.astype(np.float64)
    design = np.concatenate([np.ones((len(rows), 1)), says.astype(np.float64)], axis=1)
    penalty = np.diag([1e-6, *[_RIDGE] * says.shape[1]])
    hat = design @ np.linalg.solve(design.T @ design + penalty, design.T)
    left_out = (rows - hat @ rows) / np.maximum(1 - np.diag(hat), 1e-6)[:, None]
    return np.linalg.norm(left_out, axis=1)


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

"""Photos that are one photo again, and how many different ones a set comes to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metrics.channels.diversity import vendi_score
from metrics.comparison.twins import CROPPED, brightened, twins


def repeated(images: Sequence[np.ndarray]) -> list[list[int]]:
    """Rows of photos that are one photo: saved anew, mirrored, cropped or brightened; each family in rising order.

    By pixels alone: to an encoder, photos of one shoot are alike, and so are renders of one place.

    Args:
        images: uint8 `[H, W, 3]`, all cut to one shape.

    >>> import numpy as np
    >>> photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    >>> repeated([photo, 255 - photo, photo[:, ::-1]])
    [[0, 2]]
    """
    from scipy.sparse.csgraph import connected_components

    copies = twins(images, CROPPED) | brightened(images)
    number, owner = connected_components(copies, directed=False)
    families = [np.flatnonzero(owner == family).tolist() for family in range(number)]
    return [family for family in families if len(family) > 1]


def effective_number(features: np.ndarray, families: Sequence[Sequence[int]] = ()) -> float:
    """How many different photos a set comes to: from 1 to N, a Vendi score (Friedman and Dieng 2023).

    The kernel is a Gaussian whose width makes the median pair count as different (0.05), since encoders find all photos
    of one subject alike (ours); photos that are one photo count as one.

    Args:
        features: unit rows `[N, D]`.
        families: from `repeated`.

    >>> import numpy as np
    >>> effective_number(np.eye(4)) > 3.9, round(effective_number(np.eye(4)[[0, 0, 1, 1]]), 1)
    (True, 2.0)
    """
    rows = features.astype(np.float64)
    squared = np.maximum(2 - 2 * rows @ rows.T, 0.0)
    apart = squared[np.triu_indices(len(rows), 1)]
    apart = apart[apart > 1e-9]
    if not len(apart):
        return 1.0
    kernel = np.exp(np.log(0.05) * squared / np.median(apart))
    owner = np.arange(len(rows))
    for family in families:
        owner[list(family)] = family[0]
    kernel[owner[:, None] == owner] = 1.0
    values, vectors = np.linalg.eigh(kernel)
    return vendi_score(vectors * np.sqrt(np.maximum(values, 0)))

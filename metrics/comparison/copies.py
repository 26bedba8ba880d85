"""Which samples of a folder copy which photo, as they are or mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.channels.copying import clear_copies, leave_one_out_nearest

COPY_LEVEL = 0.01  # of sets of honest samples: so few may seem to hold a copy


@dataclass(frozen=True)
class Pair:
    """A sample and its nearest photo.

    Attributes:
        beyond: share of photos that have no photo as near as that.
        copied: nearer than chance allows (`metrics.channels.copying.clear_copies`), or the same picture.
        mirrored: whether it is the sample's mirror image that comes so near.
        same_picture: by its pixels; it may be saved anew, mirrored, cropped or brightened.
    """

    sample: str
    photo: str
    similarity: float
    beyond: float
    copied: bool
    mirrored: bool = False
    same_picture: bool = False


def mirror_images(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each image with left and right exchanged.

    >>> import numpy as np
    >>> mirror_images([np.arange(6, dtype=np.uint8).reshape(1, 2, 3)])[0].tolist()
    [[[3, 4, 5], [0, 1, 2]]]
    """
    return [np.ascontiguousarray(image[:, ::-1]) for image in images]


def pairs_of(
    samples: Sequence[str],
    photos: Sequence[str],
    seen: tuple[np.ndarray, np.ndarray],
    known: np.ndarray,
    kept: np.ndarray,
    laid: np.ndarray,
) -> list[Pair]:
    """Each sample's nearest photo, repeats of photos included; of its mirror image, where only that is a copy.

    Args:
        seen: `[n, D]` of the samples, and of their mirror images. known: `[N, D]` of all photos.
        kept: `[N]` boolean, those that repeat no other: how near they are to each other says what chance does.
        laid: `[n, N]` boolean, which samples are which photos by their pixels (`metrics.comparison.twins.laid_on`).
    """
    levels = leave_one_out_nearest(known[kept])
    plain, mirrored = (  # looked at twice, at half the level
        clear_copies(rows, known[kept], repeats=known[~kept], level=COPY_LEVEL / 2) for rows in seen
    )
    flipped = mirrored & ~plain
    rows = np.where(flipped[:, None], seen[1], seen[0]).astype(np.float64)
    cosines = rows @ known.astype(np.float64).T
    same = np.asarray(laid.any(axis=1))
    nearest = np.where(same[:, None] & ~laid, -np.inf, cosines).argmax(axis=1)
    similarity = cosines[np.arange(len(cosines)), nearest]
    pairs = [
        Pair(
            samples[row],
            photos[nearest[row]],
            float(similarity[row]),
            float((levels < similarity[row] - 1e-6).mean()),
            bool(plain[row] | mirrored[row] | same[row]),
            bool(flipped[row]),
            bool(same[row]),
        )
        for row in range(len(samples))
    ]
    return sorted(pairs, key=lambda pair: (not pair.copied, -pair.similarity))

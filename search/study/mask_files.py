"""The user's own masks of a study's photos: which file is whose, and whether they are the same as before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from metrics.errors import MetricsError
from metrics.subjects.mask_files import find_mask_files, mask_size
from trainer.data.dataset import Photo


def mask_digests(folder: str | Path, photos: Sequence[Photo]) -> list[str | None]:
    """SHA-256 of the mask that each photo has in a folder, once it is known to have its photo's shape; None without.

    Raises:
        MetricsError: no such folder, no or several photos of a mask's name, not an image, another shape.
    """
    digests: list[str | None] = []
    for photo, path in zip(photos, mask_files(folder, photos), strict=True):
        if path is None:
            digests.append(None)
            continue
        width, height = mask_size(path)
        if abs(width * photo.height - height * photo.width) > max(photo.width, photo.height, 0.01 * width * height):
            raise MetricsError(
                f"masks: {str(path)!r} is {width}×{height}, its photo {photo.width}×{photo.height}: "
                "a mask shows all of its photo, in any size"
            )
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return digests


def masks_digest(photos: Sequence[Photo], digests: Sequence[str | None]) -> str:
    """SHA-256 of all masks together, each with its photo: what the files are called does not count."""
    lines = [f"{photo.digest} {digest}\n" for photo, digest in zip(photos, digests, strict=True) if digest]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def mask_files(folder: str | Path, photos: Sequence[Photo]) -> list[Path | None]:
    """The file in a folder of masks that belongs to each photo; None without.

    Raises:
        MetricsError: no such folder, no or several photos of a mask's name.
    """
    return find_mask_files(folder, [f"{photo.path.parent.name}/{photo.path.name}" for photo in photos])

"""The user's masks from a folder, by name, as kohya's masked loss reads them: white is the subject."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from metrics.errors import MetricsError, mistake
from metrics.files import shown
from metrics.images.image_files import ALL_SUFFIXES, UnreadableImage, opened, upright

if TYPE_CHECKING:
    from PIL.Image import Image

LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif")
HIDES = 0.02  # share of a file that its alpha channel hides, from which on that is the mask
DARKEST = 8  # of 255: what is nowhere brighter says that there is no subject


def find_mask_files(folder: str | Path, names: Sequence[str]) -> list[Path | None]:
    """The mask of each photo, or None: the file of the same name, whatever its ending, in a folder of the same name
    ("10_sks dog/001.png") or in `folder` itself.

    Args:
        names: of the photos, relative to the training set.

    Raises:
        MetricsError: no such folder, no photo has a mask in it, or one file would be the mask of several photos.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise mistake("masks", str(folder), "a folder that exists")
    files: dict[PurePath, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ALL_SUFFIXES and path.is_file():
            files.setdefault(path.relative_to(folder).with_suffix(""), path)
    stems = [PurePath(name).with_suffix("") for name in names]
    found = [files.get(stem) or files.get(PurePath(stem.name)) for stem in stems]
    taken = [path for path in found if path is not None]
    if not taken:
        raise mistake("masks", str(folder), f"masks named like the photos, such as {stems[0].name}.png")
    shared = next((path for path in taken if taken.count(path) > 1), None)
    if shared is not None:
        like = [name for name, path in zip(names, found, strict=True) if path == shared]
        raise MetricsError(
            f"masks: {str(shared)!r} is named like several photos, {' and '.join(like[:2])}: rename one of each pair, "
            "or put masks into folders named as the photos' are"
        )
    return found


def mask_size(path: Path) -> tuple[int, int]:
    """Width and height as the photo would be seen, EXIF applied; reads no pixels.

    Raises:
        MetricsError: not an image.
    """
    with _opened(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        return (image.height, image.width) if turned else (image.width, image.height)


def read_mask(path: Path) -> np.ndarray:
    """float32 `[H, W]` in [0, 1], EXIF applied: the alpha channel where there is one that hides more than 2 % (a
    cut-out), else how bright the file is, relative to its brightest place.

    Raises:
        MetricsError: not an image, or a damaged one.
    """
    with _opened(path) as file:
        image = upright(file)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            alpha = np.asarray(image.convert("RGBA").getchannel("A"), np.float32)
            if (alpha < 128).mean() > HIDES:
                return alpha / 255
        deep = image.mode[0] in "IF"  # Pillow's conversion to 8 bits would clip them
        bright = np.asarray(image if deep else image.convert("L"), np.float32)
    top = float(bright.max())
    says_one = top == 1 and path.suffix.lower() in LOSSLESS  # masks of 0 and 1
    return bright / (top if deep or says_one or top >= DARKEST else 255) if top else bright


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image]:
    try:
        with opened(path) as image:
            yield image
    except UnreadableImage as error:
        raise MetricsError(f"masks: {shown(path)!r} cannot be read as an image ({error.reason})") from error

"""Which files of a folder are images, and their pixels: of whatever kind and size, in as little memory as they need."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.errors import MetricsError
from metrics.files import shown

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST_SIDE = 768  # larger images are reduced on reading: no channel sees more
SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_AVIF, _HEIF = (".avif", ".avifs"), (".heic", ".heif", ".hif")
ALL_SUFFIXES = (*SUFFIXES, *_AVIF, *_HEIF)
"""Also those that are read where a package for them is installed."""
_OTHER = (".jxl", ".jp2", ".psd", ".svg", ".tga", ".arw", ".cr2", ".cr3", ".nef", ".dng", ".raf", ".orf", ".rw2")
_HEIF_START = re.compile(rb"....ftyp(?:heic|heix|hevc|mif1|msf1)", re.DOTALL)
_SAVE = "save them as PNG or JPEG"
_SHELF = re.compile(r"[1-9]\d*_.+", re.DOTALL)  # kohya's `20_sks dog`; with 0 repeats a folder is left out
_MOST_PIXELS = 500_000_000  # 2 GB while decoded
_ORDINARY_PIXELS = 50_000_000  # larger images are reduced by a whole factor before all else
_REDUCIBLE = ("RGB", "RGBA", "L", "LA", "CMYK", "I", "F")


def images_below(root: Path, *, photos: bool) -> tuple[list[Path], list[str]]:
    """The images of a folder and its subfolders, linked ones too, sorted; and a line for each kind of thing that could
    have been meant as one and is left out. What is hidden is passed over.

    Args:
        photos: read as the trainer reads photos: where there are folders such as `20_sks dog`, those alone.

    Raises:
        MetricsError: there is no such folder.
    """
    if not os.path.isdir(root):
        raise MetricsError(f"{shown(root)}: {'not a folder' if os.path.exists(root) else 'no such folder'}")
    top = root / "img" if photos and not _shelves(root) and _shelves(root / "img") else root
    shelves = _shelves(top) if photos else []
    folders = shelves or list(_folders(top))
    images: list[Path] = []
    left: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()):
            suffix = path.suffix.lower()
            if path.name.startswith(".") or os.path.isdir(path):
                continue
            if os.path.islink(path) and not os.path.exists(path):
                left.setdefault("links to nothing", []).append(_named(path, root))
            elif why := _why_not_read(suffix):
                left.setdefault(f"{suffix} files, which are not read: {why}", []).append(_named(path, root))
            elif _is_read(suffix) and os.path.isfile(path):
                images.append(path)
    lines = [f"{shown(root)}: {len(names)} {why} ({names[0]})" for why, names in left.items()]
    if shelves:
        beside = {each.name for each in top.iterdir() if os.path.isdir(each) and each not in shelves} - {"reg"}
        beside = {name for name in beside if not name.startswith(".") and _has_images(top / name)}
        lines += [f"{shown(root)}: {shown(name)} is no '<repeats>_<trigger> <class>' folder" for name in sorted(beside)]
    if not images:
        reasons = "; ".join(lines) or f"looked for {', '.join(each for each in (*SUFFIXES, *_AVIF) if _is_read(each))}"
        raise MetricsError(f"{shown(root)}: no images here ({reasons})")
    return sorted(images), lines


class UnreadableImage(MetricsError):
    """`reason` says why, without the file's name."""

    def __init__(self, text: str, reason: str):
        super().__init__(text)
        self.reason = reason


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image]:
    """An image whose pixels are not read yet; HEIC where pillow-heif is installed.

    Raises:
        UnreadableImage: it cannot be read, here or while the block reads it; the file is named.
    """
    from PIL import Image, UnidentifiedImageError

    guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # Pillow's own warns from 89 million pixels on
    try:
        with path.open("rb") as file:
            heif = _HEIF_START.match(file.read(16)) is not None  # phones write it under .jpg, too
        if heif and not _register_heif():
            reason = "a HEIC image: pip install pillow-heif, or save it as PNG or JPEG"
            raise UnreadableImage(f"{shown(path)}: {reason}", reason)
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            if image.width * image.height > _MOST_PIXELS:
                reason = f"{image.width}×{image.height} pixels are too many"
                raise UnreadableImage(f"{shown(path)}: {reason}", reason)
            yield image
    except UnidentifiedImageError as error:
        reason = "not an image that can be read, or damaged"
        raise UnreadableImage(f"{shown(path)}: {reason}", reason) from error
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError, MemoryError, struct.error) as error:
        reason = getattr(error, "strerror", None) or shown(" ".join(str(error).split())) or type(error).__name__
        raise UnreadableImage(f"{shown(path)}: this image cannot be read: {reason}", reason) from error
    finally:
        Image.MAX_IMAGE_PIXELS = guard


def read_pixels(image: Image, boxes: Sequence[tuple[int, int, int, int]] = ()) -> list[np.ndarray]:
    """uint8 [H,W,3] of an opened image: EXIF orientation applied, alpha laid on white, reduced to `LONGEST_SIDE`.

    Args:
        boxes: (left, top, right, bottom) of the parts to read, one array each; without any, the whole image.

    >>> from PIL.Image import new
    >>> read_pixels(new("RGBA", (2, 1), (255, 0, 0, 0)))[0].tolist()
    [[[255, 255, 255], [255, 255, 255]]]
    """
    if boxes:
        return [_pixels(_rgb(image.crop(box))) for box in boxes]
    image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # a JPEG decodes to a half, a quarter or an eighth at once
    return [_pixels(_rgb(upright(image)))]


def upright(image: Image) -> Image:
    """EXIF orientation applied; an image of more than 50 million pixels is reduced by a whole factor as well."""
    from PIL import Image as PIL
    from PIL import ImageOps

    if image.width * image.height <= _ORDINARY_PIXELS:
        return ImageOps.exif_transpose(image)
    turns = {
        2: PIL.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Transpose.ROTATE_180,
        4: PIL.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Transpose.TRANSPOSE,
        6: PIL.Transpose.ROTATE_270,
        7: PIL.Transpose.TRANSVERSE,
        8: PIL.Transpose.ROTATE_90,
    }
    turn = turns.get(image.getexif().get(0x0112, 1))
    if image.mode.startswith("I;16"):
        image = image.convert("I")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in _REDUCIBLE:
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    image = image.reduce(max(1, max(image.size) // (2 * LONGEST_SIDE)))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image) -> Image:
    from PIL import Image as PIL

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = PIL.alpha_composite(PIL.new("RGBA", image.size, "white"), image)
    if image.mode[0] in "IF":  # 16 and 32 bits, or shares of one
        values = np.asarray(image, np.float64)
        deep = image.mode.startswith("I;16") or values.max() > 255
        full = 65280 if deep else 255 if image.mode != "F" or values.max() > 1 else 1
        image = PIL.fromarray((values / full * 255).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def _pixels(image: Image) -> np.ndarray:
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(image)


def _is_read(suffix: str) -> bool:
    return suffix in SUFFIXES or (suffix in _AVIF and _reads_avif()) or (suffix in _HEIF and _register_heif())


def _why_not_read(suffix: str) -> str:
    """What to do about a kind of image that is not read; "" for all others."""
    if suffix in _HEIF and not _register_heif():
        return f"pip install pillow-heif, or {_SAVE}"
    if suffix in _AVIF and not _reads_avif():
        return f"install Pillow 11.3 or newer, or {_SAVE}"
    return _SAVE if suffix in _OTHER else ""


def _reads_avif() -> bool:
    from PIL import features

    return "avif" in features.modules and bool(features.check("avif"))


def _register_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _shelves(folder: Path) -> list[Path]:
    if not os.path.isdir(folder):
        return []
    return sorted(path for path in folder.iterdir() if os.path.isdir(path) and _SHELF.fullmatch(path.name))


def _folders(root: Path) -> Iterator[Path]:
    """`root` and the folders below it, linked ones once; not those that are hidden or hold masks."""
    seen = set()
    for entry, names, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(entry)
        if real in seen or (os.path.islink(entry) and os.path.realpath(root).startswith(real + os.sep)):
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith(".") and name.lower() not in ("mask", "masks"))
        yield Path(entry)


def _has_images(folder: Path) -> bool:
    return any(_is_read(path.suffix.lower()) for path in folder.iterdir() if not path.name.startswith("."))


def _named(path: Path, root: Path) -> str:
    return shown(path.relative_to(root).as_posix())

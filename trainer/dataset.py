"""Training folders in kohya's layout: which photos there are, their captions and repeats, and their pixels.

    photos/20_sks dog/a.png, a.txt      20 repeats, trigger "sks", class "dog"
    photos/reg/1_dog/…                  regularisation images (or a folder of their own, `reg_data`)

No torch here; Pillow is imported when a folder is read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import DataError

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
_OTHER_SUFFIXES = (".heic", ".heif", ".jxl", ".psd", ".arw", ".cr2", ".nef", ".dng")
_OF_KOHYA = ("log", "model")  # what its GUI puts beside img/
_ORIENTATION = 0x0112
_SHELF = re.compile(r"(\d+)_(.+)")


@dataclass(frozen=True)
class Photo:
    """One image of a training folder.

    `repeats` is the folder's number, `trigger` and `class_word` come from its name; `digest` is the SHA-256 of the
    image file; `width` and `height` are in pixels after EXIF rotation.
    """

    path: Path
    caption: str
    repeats: int
    trigger: str | None
    class_word: str | None
    is_reg: bool
    digest: str
    width: int
    height: int

    @property
    def content(self) -> str:
        """All that a dataset's digest knows of it: what its file is called does not count."""
        return f"{self.digest} {self.repeats} {self.is_reg} {self.caption}"


@dataclass(frozen=True)
class Dataset:
    """The photos of a folder in a fixed order: training images first, each group sorted by path."""

    root: Path
    photos: tuple[Photo, ...]
    warnings: tuple[str, ...] = ()

    @property
    def num_photos(self) -> int:
        """Training photos, without regularisation images and repeats."""
        return sum(not photo.is_reg for photo in self.photos)

    @property
    def digest(self) -> str:
        """SHA-256 over images, captions, repeats and roles: the same content gives the same digest anywhere."""
        total = hashlib.sha256()
        for photo in sorted(self.photos, key=lambda photo: (photo.is_reg, photo.digest, photo.caption)):
            total.update(f"{photo.content}\n".encode())
        return total.hexdigest()

    def subset(self, indices: Iterable[int]) -> Dataset:
        """The photos at `indices`, in the order given."""
        return replace(self, photos=tuple(self.photos[index] for index in indices))


def scan_dataset(
    root: str | Path,
    *,
    reg_data: str | Path | None = None,
    trigger: str | None = None,
    class_word: str | None = None,
) -> Dataset:
    """Read a training folder in kohya's layout.

    `root` holds `<repeats>_<trigger> <class>/` folders (or an `img/` folder that does); `root/reg` or `reg_data` holds
    `<repeats>_<class>/` folders of regularisation images. A folder of bare images counts as one repeat. `trigger` and
    `class_word` go before what the folders' names say.

    Raises:
        DataError: a folder is missing or empty, an image cannot be read, a caption is not UTF-8; each by name.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    warnings: list[str] = []
    top = root / "img" if not _shelves(root) and _shelves(root / "img") else root
    photos = _read_shelves(top, False, trigger, class_word, warnings)
    if not photos:
        raise DataError(f"{root}: no images here: expected folders such as '20_sks dog' with .png, .jpg, .webp…")
    reg_root = Path(reg_data) if reg_data is not None else root / "reg"
    if reg_data is not None and not reg_root.is_dir():
        raise DataError(f"{reg_root}: no such folder (reg_data)")
    if reg_root.is_dir():
        reg = _read_shelves(reg_root, True, None, class_word, warnings)
        if reg_data is not None and not reg:
            raise DataError(f"{reg_root}: no regularisation images here: expected folders such as '1_dog'")
        photos += reg
    warnings += _passed_over(root, top, reg_root, photos)
    return Dataset(root=root, photos=tuple(photos), warnings=tuple(warnings))


def load_pixels(photo: Photo, size: tuple[int, int] | None = None) -> np.ndarray:
    """RGB pixels, uint8 [H,W,3]: EXIF applied, alpha laid over white, CMYK, grey, palette and 16 bit converted.

    With `size` (width, height) the image is scaled to cover it and cropped around the middle, as kohya does for its
    buckets: area averaging downwards, Lanczos upwards.

    Raises:
        DataError: the file cannot be read.
    """
    import numpy as np
    from PIL import Image

    image = _open(photo.path)
    deep = image.mode[0] in "IF"  # Pillow's conversion to RGBA would clip them
    if not deep and (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    pixels = np.array(_to_rgb(image))
    return pixels if size is None else resize_and_crop(pixels, size)


def load_mask(photo: Photo, size: tuple[int, int] | None = None) -> np.ndarray | None:
    """The alpha channel, float32 [H,W] in [0,1], cut like `load_pixels`; None where it is absent or hides nothing."""
    import numpy as np

    image = _open(photo.path)
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return None
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    if alpha.min() == 255:
        return None
    if size is not None:
        alpha = resize_and_crop(np.repeat(alpha[..., None], 3, axis=2), size)[..., 0]
    return alpha.astype(np.float32) / 255


def resize_and_crop(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H,W,3] → uint8 [height,width,3]: scaled to cover `size` (width, height), cropped around the middle.

    Rounding follows sd-scripts' BucketManager.select_bucket and trim_and_resize_if_required.
    """
    import numpy as np
    from PIL import Image

    height, width = pixels.shape[:2]
    if width / height > size[0] / size[1]:
        scale = size[1] / height
    else:
        scale = size[0] / width
    covered = (int(width * scale + 0.5), int(height * scale + 0.5))
    if covered != (width, height):
        if covered[0] < width and covered[1] < height:
            pixels = _shrink(_shrink(pixels, covered[1], axis=0), covered[0], axis=1)
            pixels = np.rint(pixels).clip(0, 255).astype(np.uint8)
        else:
            pixels = np.array(Image.fromarray(pixels).resize(covered, Image.Resampling.LANCZOS))
    left, top = (covered[0] - size[0]) // 2, (covered[1] - size[1]) // 2
    return np.ascontiguousarray(pixels[top : top + size[1], left : left + size[0]])


def _shelves(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and _SHELF.fullmatch(path.name))


def _read_shelves(
    folder: Path, is_reg: bool, trigger: str | None, class_word: str | None, warnings: list[str]
) -> list[Photo]:
    shelves: list[tuple[Path, int, str]] = []
    for path in _shelves(folder):
        found = _SHELF.fullmatch(path.name)
        assert found is not None
        shelves.append((path, int(found.group(1)), found.group(2)))
    if not shelves:
        found = _SHELF.fullmatch(folder.name)
        shelves = [(folder, int(found.group(1)), found.group(2)) if found else (folder, 1, "")]
        if not found and _images(folder):
            warnings.append(f"{folder}: images lie in no '<repeats>_<trigger> <class>' folder: taken once each")
    photos = []
    for shelf, repeats, words in shelves:
        images = _images(shelf)
        if repeats == 0:
            warnings.append(f"{shelf}: 0 repeats: left out, as kohya does")
            continue
        if not images and len(shelves) > 1:
            warnings.append(f"{shelf}: no images here")
        first, _, rest = words.partition(" ")
        names = (None, words or None) if is_reg else (first or None, rest or None)
        names = (None if is_reg else trigger or names[0], class_word or names[1])
        photos += [_read_photo(path, repeats, names, is_reg, warnings) for path in images]
    return photos


def _passed_over(root: Path, top: Path, reg_root: Path, photos: list[Photo]) -> list[str]:
    """Images that kohya's layout does not reach, and files of kinds that are not read: one line for each folder."""
    used, found = {photo.path.parent for photo in photos}, []
    for path in sorted(Path(entry) for entry, _, _ in os.walk(root) if os.access(entry, os.R_OK)):
        parts = path.relative_to(root).parts
        ours = any(part.startswith(".") or "mask" in part.lower() for part in parts) or (
            parts and parts[0] in _OF_KOHYA
        )
        if ours or (path.parent == top and _SHELF.fullmatch(path.name) and path not in used):
            continue
        if path not in used and reg_root not in (path, *path.parents) and (images := _images(path)):
            found.append(f"{path}: {len(images)} images are left out: not in a '<repeats>_<trigger> <class>' folder")
        other = [file for file in path.iterdir() if file.suffix.lower() in _OTHER_SUFFIXES]
        if other:
            kind = other[0].suffix
            found.append(f"{path}: {len(other)} files are left out: {kind} is not read, save it as PNG or JPEG")
    return found


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _read_photo(
    path: Path, repeats: int, names: tuple[str | None, str | None], is_reg: bool, warnings: list[str]
) -> Photo:
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    image = _open(path, draft=True)
    if getattr(image, "n_frames", 1) > 1:
        warnings.append(f"{path}: {image.n_frames} frames: only the first is used")
    width, height = image.size if not hasattr(image, "full_size") else image.full_size
    caption = _read_caption(path, warnings)
    if caption is None:
        caption = " ".join(word for word in names if word)
        if not is_reg:
            warnings.append(f"{path}: no caption ({path.stem}.txt): taken as {caption!r}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Photo(path, caption, repeats, names[0], names[1], is_reg, digest, width, height)


def _read_caption(path: Path, warnings: list[str]) -> str | None:
    """The first line with words in `.txt`, else `.caption`, as kohya reads it; None when there is no such file."""
    for suffix in (".txt", ".caption"):
        file = path.with_suffix(suffix)
        if not file.is_file():
            continue
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 text (byte {error.start}): save the caption as UTF-8") from error
        if len(lines) > 1:
            warnings.append(f"{file}: {len(lines)} lines: only the first is the caption, as kohya reads it")
        if not lines:
            warnings.append(f"{file}: empty: the photo is trained without a caption")
        return lines[0] if lines else ""
    return None


def _open(path: Path, *, draft: bool = False):
    """The decoded first frame, upright. With `draft` a JPEG is decoded coarsely and its true size kept aside."""
    import struct

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(path)
        frames, full = getattr(image, "n_frames", 1), image.size
        if draft:
            image.draft("RGB", (256, 256))
        image.load()
        turned = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
        upright = ImageOps.exif_transpose(image)
        full = (full[1], full[0]) if turned else full
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image that can be read, or damaged") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: too large an image ({error})") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise DataError(f"{path}: damaged image ({error})") from error
    if draft:
        upright.full_size = full  # type: ignore[attr-defined]
        upright.n_frames = frames  # type: ignore[attr-defined]
    return upright


def _to_rgb(image):
    """Any mode → RGB with 8 bits; 16-bit grey keeps its high byte, floats are read as [0,1] or [0,255]."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        if image.mode == "F":
            values = values * 255 if values.max() <= 1.0 else values
        elif values.max() > 255 or image.mode.startswith("I;16"):
            values = values / 257
        return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _shrink(pixels: np.ndarray, length: int, *, axis: int) -> np.ndarray:
    """Area average along one axis: each new pixel is the mean of the stretch that it covers (OpenCV's INTER_AREA)."""
    import numpy as np

    old = pixels.shape[axis]
    sums = np.cumsum(pixels, axis=axis, dtype=np.float64)
    sums = np.concatenate([np.zeros_like(sums.take([0], axis=axis)), sums], axis=axis)
    edges = np.linspace(0, old, length + 1)
    below = np.minimum(edges.astype(np.int64), old - 1)
    shape = [1] * pixels.ndim
    shape[axis] = -1
    part = (edges - below).reshape(shape)
    at_edges = sums.take(below, axis=axis) * (1 - part) + sums.take(below + 1, axis=axis) * part
    return np.diff(at_edges, axis=axis) * (length / old)

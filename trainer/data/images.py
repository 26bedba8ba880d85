"""Image files to pixels: upright, 8-bit RGB, alpha over white, cut to a bucket; as many bytes at once as needed.

No torch here; Pillow is imported when an image is opened.
"""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import DataError
from trainer.files import shown

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
IMAGE_START = re.compile(  # of PNG, JPEG, GIF, WebP, TIFF, HEIC, AVIF
    rb"\x89PNG\r\n|\xff\xd8\xff|GIF8|RIFF....WEBP|II\*\0|MM\0\*|....ftyp(?:heic|heix|mif1|msf1|avif)", re.DOTALL
)
MOST_PIXELS = 500_000_000  # 2 GB while decoded; the largest phone photos have 200 million
_ORDINARY_PIXELS = 50_000_000  # larger photos are reduced by whole factors before anything else is done with them
_SPARE = 4  # such a reduced photo is at least this many times as large as what it is cut to
_BLOCK = 2**21  # numbers in float64 at once while areas are averaged
_HEIF_START = re.compile(rb"....ftyp(?:heic|heix|hevc|mif1|msf1)", re.DOTALL)
_ORIENTATION = 0x0112
_REDUCIBLE = ("RGB", "RGBA", "L", "LA", "CMYK", "I", "F")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class ImageFacts:
    """What one look at an image file tells: `width` and `height` in pixels after EXIF rotation, `frames`, what Pillow
    complained of while it read it, and whether all of it is transparent."""

    width: int
    height: int
    frames: int
    complaints: tuple[str, ...]
    invisible: bool = False


def look_at(path: Path) -> ImageFacts:
    """Decodes an image once (a JPEG coarsely), to know its size and that it is whole.

    Raises:
        DataError: the file cannot be read, or is larger than `MOST_PIXELS`.
    """
    with warnings.catch_warnings(record=True) as caught, _readable(path):
        warnings.simplefilter("always")
        with opened(path) as image:
            frames, (width, height) = getattr(image, "n_frames", 1), image.size
            image.draft("RGB", (256, 256))
            image.load()
            invisible = _is_invisible(image)
            if image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):
                width, height = height, width
    # what is laid over white needs no advice about transparency
    told = dict.fromkeys(" ".join(str(w.message).split()) for w in caught if "ransparency" not in str(w.message))
    return ImageFacts(width, height, frames, tuple(told), invisible)


def read_pixels(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """RGB pixels, uint8 [H,W,3]: EXIF applied, alpha laid over white, CMYK, grey, palette and 16 bit converted.

    With `size` (width, height) the image is scaled to cover it and cropped around the middle, as kohya does for its
    buckets: area averaging downwards, Lanczos upwards.

    Raises:
        DataError: the file cannot be read.
    """
    import numpy as np
    from PIL import Image

    image = _upright(path, size)
    deep = image.mode[0] in "IF"  # Pillow's conversion to RGBA would clip them
    if not deep and (image.mode in _WITH_ALPHA or "transparency" in image.info):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    pixels = np.array(_to_rgb(image))
    return pixels if size is None else resize_and_crop(pixels, size)


def read_alpha(path: Path, size: tuple[int, int] | None = None) -> np.ndarray | None:
    """The alpha channel, float32 [H,W] in [0,1], cut like `read_pixels`; None where it is absent or hides nothing.

    Raises:
        DataError: the file cannot be read.
    """
    import numpy as np

    image = _upright(path, size)
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
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
            pixels = _shrink_both(pixels, covered)
        else:
            pixels = np.array(Image.fromarray(pixels).resize(covered, Image.Resampling.LANCZOS))
    left, top = (covered[0] - size[0]) // 2, (covered[1] - size[1]) // 2
    return np.ascontiguousarray(pixels[top : top + size[1], left : left + size[0]])


def reads_avif() -> bool:
    """Whether this Pillow reads AVIF."""
    from PIL import features

    return "avif" in features.modules and bool(features.check("avif"))


def register_heif() -> bool:
    """Has Pillow read HEIC from here on; whether it can (pillow-heif is installed)."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image]:
    """An image whose pixels are not read yet, HEIC where pillow-heif is installed; not larger than `MOST_PIXELS`."""
    from PIL import Image

    with path.open("rb") as file:
        heif = _HEIF_START.match(file.read(16)) is not None  # phones write it under .jpg, too
    if heif and not register_heif():
        raise DataError(f"{shown(path)}: a HEIC image: pip install pillow-heif, or save it as PNG or JPEG")
    guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # Pillow's own warns from 89 million pixels on
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                most = MOST_PIXELS // 1_000_000
                raise DataError(f"{shown(path)}: {width}×{height} pixels are too many: at most {most} million are read")
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = guard


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What Pillow raises becomes one line that names the file."""
    from PIL import Image, UnidentifiedImageError

    name = shown(path)
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image that can be read, or damaged") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: too large an image ({error})") from error
    except MemoryError as error:
        raise DataError(f"{name}: too large an image for this machine's memory") from error
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{name}: damaged image ({reason})") from error


def _is_invisible(image: Image) -> bool:
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return False
    alpha = image if image.mode in ("RGBA", "LA", "RGBa", "La") else image.convert("RGBA")
    return alpha.getchannel("a" if alpha.mode in ("RGBa", "La") else "A").getextrema()[1] == 0


def _upright(path: Path, size: tuple[int, int] | None) -> Image:
    """The decoded first frame, EXIF applied. What is far larger than `size` (width, height) is reduced on the way."""
    from PIL import ImageOps

    with warnings.catch_warnings(), _readable(path):
        warnings.simplefilter("ignore")  # `look_at` has told them
        with opened(path) as image:
            factor = 1
            if size is not None and image.width * image.height > _ORDINARY_PIXELS:
                enough = _SPARE * max(size)
                image.draft("RGB", (enough, enough))  # a JPEG decodes to a half, a quarter or an eighth at once
                factor = max(1, min(image.width, image.height) // enough)
            ImageOps.exif_transpose(image, in_place=True)
            return image.reduce(factor) if factor > 1 and image.mode in _REDUCIBLE else image


def _to_rgb(image: Image) -> Image:
    """Any mode → RGB with 8 bits; 16-bit grey keeps its high byte, floats are read as [0,1] or [0,255]."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        top, grey = values.max(), np.empty(values.shape, np.uint8)
        for row, line in enumerate(values):  # a line at a time: in float64 it is eight times as large
            exact = line.astype(np.float64)
            if image.mode == "F":
                exact = exact * 255 if top <= 1.0 else exact
            elif top > 255 or image.mode.startswith("I;16"):
                exact = exact / 257
            grey[row] = np.rint(exact).clip(0, 255)
        return Image.fromarray(grey).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _shrink_both(pixels: np.ndarray, covered: tuple[int, int]) -> np.ndarray:
    """uint8 [H,W,3] → uint8 averaged down to `covered` (width, height), in blocks: sums in float64 are eight times as
    large as the photo. Columns, then rows, do not depend on each other, so blocks change no bit."""
    import numpy as np

    height, width = pixels.shape[:2]
    rows = np.empty((covered[1], width, pixels.shape[2]), np.float64)
    step = max(1, _BLOCK // (height * pixels.shape[2]))
    for start in range(0, width, step):
        block = slice(start, start + step)
        rows[:, block] = _shrink(np.ascontiguousarray(pixels[:, block]), covered[1], axis=0)
    done = np.empty((covered[1], covered[0], pixels.shape[2]), np.uint8)
    step = max(1, _BLOCK // (width * pixels.shape[2]))
    for start in range(0, covered[1], step):
        block = slice(start, start + step)
        done[block] = np.rint(_shrink(rows[block], covered[0], axis=1)).clip(0, 255).astype(np.uint8)
    return done


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

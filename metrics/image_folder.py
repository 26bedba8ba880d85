"""Reads a folder of images with the captions beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metrics.errors import MetricsError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
LONGEST_SIDE = 768  # larger images are reduced on reading: no channel sees more
OTHER_SUFFIXES = {".gif", ".heic", ".heif", ".avif", ".jxl", ".psd", ".svg"}  # named when they are passed over


@dataclass(frozen=True)
class ImageFolder:
    """Images of one folder and its subfolders, in the order of their names.

    Attributes:
        names: relative paths.
        images: uint8 `[H, W, 3]`.
        captions: text of the `.txt` beside each image, "" without one.
        skipped: relative paths of images in formats that are not read.
    """

    root: Path
    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


def read_folder(root: str | Path) -> ImageFolder:
    """Read all images of a folder (EXIF orientation applied, alpha laid on white, reduced to `LONGEST_SIDE`).

    Raises:
        MetricsError: no such folder, no image in it, or an image that cannot be read, by name.
    """
    from PIL import Image, ImageOps

    root = Path(root)
    if not root.is_dir():
        raise MetricsError(f"no such folder: {root}")
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    paths = [path for path in files if path.suffix.lower() in SUFFIXES]
    skipped = [path for path in files if path.suffix.lower() in OTHER_SUFFIXES]
    if not paths:
        raise MetricsError(f"no images in {root} (looked for {', '.join(sorted(SUFFIXES))})")
    images, captions = [], []
    for path in paths:
        try:
            with Image.open(path) as file:
                file.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
                picture = ImageOps.exif_transpose(file)
                if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                    picture = picture.convert("RGBA")
                    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
                if picture.mode[0] in "IF":  # 16 and 32 bits, or shares of one
                    values = np.asarray(picture, np.float64)
                    deep = picture.mode.startswith("I;16") or values.max() > 255
                    full = 65280 if deep else 255 if picture.mode != "F" or values.max() > 1 else 1
                    picture = Image.fromarray((values / full * 255).clip(0, 255).astype(np.uint8))
                picture = picture.convert("RGB")
                picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MetricsError(f"cannot read image {path}: {error}") from error
        images.append(np.asarray(picture))
        text = path.with_suffix(".txt")
        captions.append(text.read_text(encoding="utf-8", errors="replace").strip() if text.is_file() else "")
    names, passed_over = ([path.relative_to(root).as_posix() for path in each] for each in (paths, skipped))
    return ImageFolder(root, tuple(names), tuple(images), tuple(captions), tuple(passed_over))

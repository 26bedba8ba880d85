"""Training folders in kohya's layout: which photos there are, their captions and repeats, and their pixels.

    photos/20_sks dog/a.png, a.txt      20 repeats, trigger "sks", class "dog"
    photos/reg/1_dog/…                  regularisation images (or a folder of their own, `reg_data`)

No torch here; Pillow is imported when a folder is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.captions import read_caption
from trainer.data.images import look_at, read_alpha, read_pixels
from trainer.data.unread_files import SHELF, count, images_in, passed_over
from trainer.errors import DataError, refuse_data
from trainer.files import shown

if TYPE_CHECKING:
    import numpy as np

_SMALLEST = 4  # pixels on the shorter side: what is smaller was never a photo
_REASONS = 3  # why no photo can be used: so many are told


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
    `class_word` go before what the folders' names say. What lies there and is not used is in `warnings`.

    Raises:
        DataError: a folder is missing or has no photo to use (and why), an image or a caption cannot be read; by name.
    """
    root = Path(root)
    if not os.path.isdir(root):
        raise DataError(f"{shown(root)}: {'not a folder' if os.path.exists(root) else 'no such folder'}")
    reg_root = Path(reg_data) if reg_data is not None else root / "reg"
    if reg_data is not None and not os.path.isdir(reg_root):
        raise DataError(f"{shown(reg_root)}: no such folder (reg_data)")
    warnings: list[str] = []
    top = root / "img" if not _shelves(root) and _shelves(root / "img") else root
    photos = _read_shelves(top, False, trigger, class_word, warnings)
    reg = _read_shelves(reg_root, True, None, class_word, warnings) if os.path.isdir(reg_root) else []
    used = {photo.path for photo in (*photos, *reg)}
    shelves = {path for folder in (top, reg_root) for path in _shelves(folder) or [folder]}
    inside = [root] if reg_root.is_relative_to(root) else [root, reg_root]
    left_out = [line for folder in inside for line in passed_over(folder, shelves, used)]
    warnings += left_out
    if not photos:
        raise DataError(_none_here(root, "images", "20_sks dog", warnings))
    if reg_data is not None and not reg:
        raise DataError(_none_here(reg_root, "regularisation images", "1_dog", warnings))
    return Dataset(root=root, photos=tuple(photos + reg), warnings=tuple(warnings))


def load_pixels(photo: Photo, size: tuple[int, int] | None = None) -> np.ndarray:
    """RGB pixels of a photo, uint8 [H,W,3], cut to `size` (width, height): `trainer.data.images.read_pixels`.

    Raises:
        DataError: the file cannot be read.
    """
    return read_pixels(photo.path, size)


def load_mask(photo: Photo, size: tuple[int, int] | None = None) -> np.ndarray | None:
    """The alpha channel, float32 [H,W] in [0,1], cut like `load_pixels`; None where it is absent or hides nothing."""
    return read_alpha(photo.path, size)


def _shelves(folder: Path) -> list[Path]:
    # here and below os.path: pathlib's is_dir raises at links that may not be followed, or to a name that is too long
    if not os.path.isdir(folder):
        return []
    return sorted(path for path in folder.iterdir() if os.path.isdir(path) and SHELF.fullmatch(path.name))


def _read_shelves(
    folder: Path, is_reg: bool, trigger: str | None, class_word: str | None, warnings: list[str]
) -> list[Photo]:
    shelves = [(path, SHELF.fullmatch(path.name)) for path in _shelves(folder)]
    if not shelves:
        shelves = [(folder, SHELF.fullmatch(folder.name))]
        if shelves[0][1] is None and images_in(folder):
            warnings.append(f"{shown(folder)}: images lie in no '<repeats>_<trigger> <class>' folder: taken once each")
    photos, damaged = list[Photo](), list[DataError]()
    for shelf, found in shelves:
        repeats, words = (int(found.group(1)), found.group(2)) if found else (1, "")
        images = images_in(shelf)
        if repeats == 0:
            warnings.append(f"{shown(shelf)}: 0 repeats: its {count(len(images), 'image')} left out, as kohya does")
            continue
        if not images and len(shelves) > 1:
            warnings.append(f"{shown(shelf)}: no images here")
        if shown(words) != words:
            raise DataError(f"{shown(shelf)}: the folder's name gives the trigger and is not UTF-8 text: rename it")
        first, _, rest = words.partition(" ")
        names = (None, words or None) if is_reg else (first or None, rest or None)
        names = (None if is_reg else trigger or names[0], class_word or names[1])
        bare: list[Path] = []
        for path in images:
            try:
                photo = _read_photo(path, repeats, names, is_reg, warnings, bare)
            except DataError as error:
                damaged.append(error)
            else:
                photos += [] if photo is None else [photo]
        if bare and not is_reg:
            warnings.append(_without_captions(shelf, bare, _words(names)))
    refuse_data(damaged)
    return photos


def _words(names: tuple[str | None, str | None]) -> str:
    """Trigger and class word, in place of a caption."""
    return " ".join(word for word in names if word)


def _without_captions(shelf: Path, bare: list[Path], taken: str) -> str:
    """One line for all photos of a folder that have no caption: often that is every one."""
    first, file = bare[0], f"{shown(bare[0].stem)}.txt"
    if len(bare) == 1:
        return f"{shown(first)}: no caption ({file}): taken as {taken!r}"
    return (
        f"{shown(shelf)}: {len(bare)} photos have no caption, such as {shown(first.name)} ({file}): taken as {taken!r}"
    )


def _none_here(folder: Path, what: str, example: str, reasons: list[str]) -> str:
    """One line that says why there is nothing to train on."""
    if not reasons:
        return f"{shown(folder)}: no {what} here: expected folders such as '{example}' with .png, .jpg, .webp…"
    more = f"; and {len(reasons) - _REASONS} more" if len(reasons) > _REASONS else ""
    return f"{shown(folder)}: no {what} to use here: {'; '.join(reasons[:_REASONS])}{more}"


def _read_photo(
    path: Path,
    repeats: int,
    names: tuple[str | None, str | None],
    is_reg: bool,
    warnings: list[str],
    bare: list[Path],
) -> Photo | None:
    """A photo with its caption; one that has none is added to `bare`, and one that shows nothing is None."""
    name = shown(path)
    if path.stat().st_size == 0:
        raise DataError(f"{name}: the file is empty")
    facts = look_at(path)
    if facts.invisible or min(facts.width, facts.height) < _SMALLEST:
        why = "all of it is transparent" if facts.invisible else f"{facts.width}×{facts.height} pixels show nothing"
        warnings.append(f"{name}: left out: {why}")
        return None
    if facts.frames > 1:
        warnings.append(f"{name}: {facts.frames} frames: only the first is used")
    warnings += [f"{name}: {complaint}" for complaint in facts.complaints]
    caption = read_caption(path, warnings)
    if caption is None:
        caption = _words(names)
        bare.append(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Photo(path, caption, repeats, names[0], names[1], is_reg, digest, facts.width, facts.height)

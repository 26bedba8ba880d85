"""Which files of a training folder are photos, and a word on each that could have been meant as one and is left out."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from trainer.data import captions
from trainer.data.images import HEIF_SUFFIXES, IMAGE_START, reads_avif, register_heif
from trainer.errors import DataError
from trainer.files import shown

SHELF = re.compile(r"(\d+)_(.+)", re.DOTALL)
"""A folder of kohya's layout: `20_sks dog`."""

_READ = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_AVIF = (".avif", ".avifs")
_NOT_READ = "is not read: save it as PNG or JPEG"
_RAW = "is a raw photo and not read: develop it to PNG or JPEG"
_VIDEO = "is a video and not read: save frames of it as PNG or JPEG"
_OTHER = {
    **dict.fromkeys(_AVIF, "is read from Pillow 11.3 on: install a newer one, or save it as PNG or JPEG"),
    **dict.fromkeys(HEIF_SUFFIXES, "is not read: pip install pillow-heif, or save it as PNG or JPEG"),
    **dict.fromkeys((".jxl", ".jp2", ".j2k", ".jpx", ".psd", ".psb", ".xcf", ".kra", ".clip", ".tga"), _NOT_READ),
    **dict.fromkeys((".svg", ".ico", ".dds", ".exr", ".hdr", ".qoi", ".pdf", ".eps", ".ai", ".ppm", ".pgm"), _NOT_READ),
    **dict.fromkeys((".arw", ".cr2", ".cr3", ".nef", ".nrw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"), _RAW),
    **dict.fromkeys((".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".3gp"), _VIDEO),
    **dict.fromkeys((".zip", ".rar", ".7z", ".tar", ".gz", ".tgz"), "is an archive: unpack it"),
}
_COMPANIONS = (*captions.SUFFIXES, ".json", ".npz", ".safetensors", ".csv", ".md", ".toml", ".yaml", ".yml", ".log")
_OF_KOHYA = ("log", "model")  # what its GUI puts beside img/


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, sorted: files, or links to some, with an ending that is read."""
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{shown(folder)}: the folder cannot be read ({error.strerror})") from None
    return [path for path in files if _is_read(path.suffix.lower()) and os.path.isfile(path)]


def passed_over(root: Path, shelves: Collection[Path], used: Collection[Path]) -> list[str]:
    """One line for each kind of file in each folder under `root` that could have been meant as a photo.

    Args:
        shelves: folders whose images were taken, or left out with a word already.
        used: the photos that were taken.
    """
    lines: list[str] = []
    for folder in _folders(root, lines):
        parts = folder.relative_to(root).parts
        if any(part.startswith(".") or "mask" in part.lower() for part in parts):
            continue
        if parts and parts[0] in _OF_KOHYA:
            continue
        images = images_in(folder)
        if images and folder not in shelves:
            why = _why_not_here(folder, root, shelves)
            lines.append(f"{shown(folder)}: {count(len(images), 'image')} left out: {why}")
        lines += _other_files(folder, folder in shelves, {path.stem for path in used if path.parent == folder})
    return lines


def count(number: int, what: str) -> str:
    """`1 image is`, `3 images are`."""
    return f"1 {what} is" if number == 1 else f"{number} {what}s are"


def _is_read(suffix: str) -> bool:
    return suffix in _READ or (suffix in _AVIF and reads_avif()) or (suffix in HEIF_SUFFIXES and register_heif())


def _folders(root: Path, lines: list[str]) -> Iterator[Path]:
    """`root` and all folders in it, sorted; of one that is linked there, itself only: it may hold all of a disk."""

    def unreadable(error: OSError) -> None:
        lines.append(f"{shown(error.filename)}: the folder cannot be read ({error.strerror})")

    found = []
    for entry, names, _ in os.walk(root, onerror=unreadable):
        found.append(Path(entry))
        links = [Path(entry, name) for name in names if os.path.islink(os.path.join(entry, name))]
        found += [
            link for link in links if os.access(link, os.R_OK) and not root.resolve().is_relative_to(link.resolve())
        ]
    return iter(sorted(found))


def _why_not_here(folder: Path, root: Path, shelves: Collection[Path]) -> str:
    parents = [parent for parent in folder.parents if parent in shelves]
    if parents and parents[0] != root:
        return f"they lie too deep: move them into '{shown(parents[0].name)}'"
    if folder.relative_to(root).parts[:1] == ("reg",) and folder != root:
        return "regularisation images are taken from reg_data"
    if SHELF.fullmatch(folder.name):
        return f"the folder lies too deep: data would have to be '{shown(folder.parent)}'"
    return "not in a '<repeats>_<trigger> <class>' folder"


def _other_files(folder: Path, is_shelf: bool, photos: Collection[str]) -> list[str]:
    """A line for each kind of thing that is no photo, with the name of the first; `photos`: their names' stems."""
    kinds: dict[str, list[str]] = {}
    lone, stems = [], set(photos)
    for path in sorted(folder.iterdir()):
        suffix, name = path.suffix.lower(), shown(path.name)
        if path.name.startswith("._") or os.path.isdir(path):  # what macOS keeps beside each file of a stick
            continue
        if os.path.islink(path) and not os.path.exists(path):
            kinds.setdefault("is a link to nothing", []).append(name)
        elif suffix in captions.SUFFIXES:
            if path.suffix != suffix and path.stem in photos and not os.path.exists(path.with_suffix(suffix)):
                kinds.setdefault(f"is no caption: its ending has to be {suffix}, in small letters", []).append(name)
            lone.append(path)
            continue
        elif path.name.startswith("."):
            if suffix in _READ:
                kinds.setdefault("is hidden", []).append(name)
        elif suffix in _OTHER and not _is_read(suffix):
            kinds.setdefault(_OTHER[suffix], []).append(path.suffix)
        elif _is_read(suffix) and not os.path.isfile(path):
            kinds.setdefault("is not a file", []).append(name)
        elif is_shelf and suffix not in (*_COMPANIONS, *_OTHER) and not _is_read(suffix) and _starts_as_image(path):
            kinds.setdefault("is an image without an image's ending: rename it", []).append(name)
        else:
            continue
        stems.add(path.stem)
    lines = [f"{shown(folder)}: {count(len(v), 'file')} left out: {v[0]} {reason}" for reason, v in kinds.items()]
    lone = [path for path in lone if path.stem not in stems]
    if is_shelf and photos and lone:
        lines.append(f"{shown(folder)}: {count(len(lone), 'caption')} of no photo: {shown(lone[0].name)}")
    return lines


def _starts_as_image(path: Path) -> bool:
    try:
        if not os.path.isfile(path):  # a pipe would wait for its writer
            return False
        with path.open("rb") as file:
            return IMAGE_START.match(file.read(16)) is not None
    except OSError:
        return False

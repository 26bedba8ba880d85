"""Reads a folder of photos, or of samples with the prompts beside or inside them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metrics.errors import MetricsError, mistake
from metrics.files import shown
from metrics.images.image_files import images_below, opened, read_pixels
from metrics.images.sample_notes import Drawn, Figure, Sheet, note_of


@dataclass(frozen=True)
class ImageFolder:
    """Images of one folder and its subfolders, in the order of their names.

    Attributes:
        names: relative paths, in characters that can be printed and written.
        images: uint8 `[H, W, 3]`.
        captions: the text beside each image, or the prompt inside it, "" without one.
        keys: equal for two images that were drawn alike but for the LoRA; "" where that is not known.
        notes: a line for each thing that was left out.
        epochs: those that the images say they are of.
    """

    root: Path
    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    epochs: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def pairs(self, other: ImageFolder) -> list[tuple[int, int]]:
        """(row here, row there) of images of the same name, or else drawn from the same prompt and seed."""
        named = {name: row for row, name in enumerate(other.names)}
        keyed = {key: row for row, key in enumerate(other.keys) if key}
        rows = [(row, named.get(name, -1)) for row, name in enumerate(self.names)]
        if not any(there >= 0 for _, there in rows):
            rows = [(row, keyed.get(key, -1)) for row, key in enumerate(self.keys)]
        return [(here, there) for here, there in rows if there >= 0]


@dataclass(frozen=True)
class _Found:
    """An image in a file: `part` counts those of a sheet, -1 is the whole file."""

    path: Path
    drawn: Drawn
    sheet: Sheet | None = None
    part: int = -1


def read_folder(root: str | Path) -> ImageFolder:
    """Read the photos of a folder as the trainer reads them (EXIF orientation applied, alpha laid on white, reduced).

    Raises:
        MetricsError: no such folder, no image in it, or an image that cannot be read, by name.
    """
    root = Path(root)
    paths, left = images_below(root, photos=True)
    return _loaded(root, [_Found(path, Drawn()) for path in paths], left)


def read_samples(
    root: str | Path, epoch: int | None = None, *, last: bool = True
) -> tuple[ImageFolder, ImageFolder | None]:
    """Read the samples of a folder and, where it holds those of several epochs, the base's as well.

    Sheets of several images are cut; strips that show once more what lies beside them are passed over, and so are
    contact sheets and plots.

    Args:
        epoch: which, where the images say of which epoch they are; None takes the last of them, or the first.
        last: whether it is the last.

    Returns:
        The samples of one epoch; and those of epoch 0, drawn without the LoRA, where there are at least three and they
        were not asked for.

    Raises:
        MetricsError: no such folder, no image in it, none of that epoch, or an image that cannot be read, by name.
    """
    root = Path(root)
    paths, left = images_below(root, photos=False)
    found, figures, unknown = _look(paths)
    if figures:
        names = shown(figures[0].relative_to(root).as_posix())
        several = "1 contact sheet or plot is" if len(figures) == 1 else f"{len(figures)} contact sheets or plots are"
        left.append(f"{shown(root)}: {several} left out, no samples ({names})")
    if unknown:
        names = shown(unknown[0].relative_to(root).as_posix())
        left.append(f"{shown(root)}: {len(unknown)} sheets of several images, of an earlier version ({names})")
    if not found:
        raise MetricsError(f"{left[-1]}: an image for each sample is needed")
    epochs = sorted({each.drawn.epoch for each in found if each.drawn.epoch is not None})
    if epoch is None and len(epochs) < 2:
        return _loaded(root, found, left, epochs), None
    wanted = epoch if epoch is not None else epochs[-1 if last else 0]
    if wanted not in epochs:
        known = ", ".join(map(str, epochs)) or "none is said by the images"
        raise mistake("--epoch", wanted, f"an epoch of the images in {shown(root)} ({known})")
    of = {each: [image for image in found if image.drawn.epoch == each] for each in {0, wanted}}
    if epoch is None:
        listed = ", ".join(map(str, epochs[:-1])) + f" and {epochs[-1]}"
        left.append(
            f"{shown(root)}: samples of epochs {listed}: those of {wanted} are judged (--epoch N takes another)"
        )
    without = len(found) - sum(image.drawn.epoch is not None for image in found)
    if without:
        left.append(f"{shown(root)}: {without} images that do not say of which epoch they are")
    base = of[0] if wanted != 0 and len(of[0]) >= 3 else []
    return _loaded(root, of[wanted], left, epochs), _loaded(root, base, []) if base else None


def _look(paths: Iterable[Path]) -> tuple[list[_Found], list[Path], list[Path]]:
    """The images in the files, the figures, and the sheets of which it is not known what they hold."""
    found, sheets, figures, unknown = [], [], [], []
    for path in paths:
        with opened(path) as image:
            note = note_of(image, path)
        if isinstance(note, Drawn):
            found.append(_Found(path, note))
        elif isinstance(note, Figure):
            figures.append(path)
        elif not note.images:
            unknown.append(path)
        elif not note.extra:
            sheets += [_Found(path, drawn, note, part) for part, drawn in enumerate(note.images)]
    return [*found, *sheets], figures, unknown


def _loaded(root: Path, found: Iterable[_Found], left: Iterable[str], epochs: Iterable[int] = ()) -> ImageFolder:
    names, images, captions, keys = [], [], [], []
    whole: dict[Path, list[np.ndarray]] = {}
    for each in found:
        if each.path not in whole:
            whole.clear()  # one file at a time
            with opened(each.path) as image:
                boxes = [] if each.sheet is None else each.sheet.boxes(*image.size)
                whole[each.path] = read_pixels(image, boxes)
        name = shown(each.path.relative_to(root).as_posix())
        names.append(name if each.part < 0 else f"{name}#{each.part + 1}")
        images.append(whole[each.path][max(each.part, 0)])
        captions.append(_text_beside(each.path) or each.drawn.prompt)
        keys.append(each.drawn.key)
    return ImageFolder(root, tuple(names), tuple(images), tuple(captions), tuple(keys), tuple(left), tuple(epochs))


def _text_beside(path: Path) -> str:
    file = path.with_suffix(".txt")
    if not file.is_file():
        return ""
    raw = file.read_bytes()
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return raw.decode("utf-16" if wide else "utf-8-sig", errors="replace").strip()

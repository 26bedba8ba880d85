"""Samples as files: one PNG for each image, which says in its name and inside what it is, and a strip of all.

    samples/0010_00_a-photo-of-sks-dog-on-the-beach_seed0.png     epoch 10, first prompt
    samples/strip_0010.png                                        all of epoch 10, side by side

Inside, the text `onset` is JSON (`SampleNote`, or `SheetNote` where a file holds several images), and `parameters` is
what WebUIs write and show.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.files import write_whole

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

NOTE = "onset"
"""Name of the text in a PNG."""
_LONGEST = 60  # characters of a prompt in a file's name
_SAMPLERS = {"dpmpp_2m": "DPM++ 2M", "unipc": "UniPC", "ddim": "DDIM", "euler_a": "Euler a"}


@dataclass(frozen=True)
class SampleNote:
    """How one image was drawn. `epoch` 0 is the base without LoRA."""

    epoch: int
    prompt: str
    seed: int
    negative: str = ""
    steps: int = 0
    guidance: float = 0.0
    scheduler: str = ""
    kind: Literal["sample"] = "sample"


@dataclass(frozen=True)
class SheetNote:
    """What a picture of several images shows.

    Attributes:
        rows, columns: of equally large images without gaps.
        prompts, seeds: of each image, row by row; empty where they are not known.
        kind: "strip" shows again what lies beside it in files of its own, "sheet" holds the images alone.
    """

    epoch: int
    rows: int
    columns: int
    prompts: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    kind: Literal["sheet", "strip"] = "sheet"


def write_samples(folder: Path, images: np.ndarray, notes: Sequence[SampleNote]) -> None:
    """Write the samples of one epoch, uint8 [N, H, W, 3], and their strip; what was drawn for it before goes."""
    epoch = notes[0].epoch
    names = [sample_name(index, note) for index, note in enumerate(notes)]
    for name, image, note in zip(names, images, notes, strict=True):
        _write(folder / name, _png(image, note, parameters=_parameters(note, image.shape)))
    strip = SheetNote(
        epoch, 1, len(notes), tuple(note.prompt for note in notes), tuple(note.seed for note in notes), "strip"
    )
    _write(folder / f"strip_{epoch:04d}.png", sheet_png(images, strip))
    for path in folder.glob(f"{epoch:04d}_*_seed*.png"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def write_image(path: Path, image: np.ndarray, note: SampleNote) -> None:
    """Write one image, uint8 [H, W, 3], that says how it was drawn as WebUIs do, and not of which epoch it is."""
    _write(path, _png(image, None, parameters=_parameters(note, image.shape)))


def write_figure(path: Path, picture: Image.Image) -> None:
    """Write a picture about images, which says that it is no sample."""
    out = io.BytesIO()
    picture.save(out, format="PNG", pnginfo=_info({"kind": "figure"}))
    _write(path, out.getvalue())


def sample_name(index: int, note: SampleNote) -> str:
    """File name of the sample of prompt `index`: epoch, index, the prompt's first words, seed."""
    words = re.sub(r"[\W_]+", "-", note.prompt.lower())[:_LONGEST]
    while len(words.encode()) > 2 * _LONGEST:  # names end at 255 bytes
        words = words[:-1]
    return f"{note.epoch:04d}_{index:02d}_{words.strip('-') or 'empty'}_seed{note.seed}.png"


def sheet_png(images: np.ndarray, note: SheetNote) -> bytes:
    """uint8 [rows × columns, H, W, 3], row by row → one PNG without gaps, with its note."""
    _, height, width, _ = images.shape
    cells = images.reshape(note.rows, note.columns, height, width, 3).swapaxes(1, 2)
    return _png(cells.reshape(note.rows * height, note.columns * width, 3), note)


def _write(path: Path, content: bytes) -> None:
    write_whole(path, lambda file: file.write(content), durable=False)


def _png(pixels: np.ndarray, note: SampleNote | SheetNote | None, *, parameters: str = "") -> bytes:
    from PIL import Image

    said = _info(None if note is None else asdict(note))
    if parameters:
        said.add_text("parameters", parameters.encode("utf-8", "replace").decode())
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", pnginfo=said)
    return out.getvalue()


def _info(note: Mapping[str, object] | None) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    if note is not None:
        said.add_text(NOTE, json.dumps(note))
    return said


def _parameters(note: SampleNote, shape: tuple[int, ...]) -> str:
    lines = [note.prompt, *([f"Negative prompt: {note.negative}"] if note.negative else [])]
    sampler = _SAMPLERS.get(note.scheduler, note.scheduler)
    drawn = f"Steps: {note.steps}, Sampler: {sampler}, CFG scale: {note.guidance:g}, Seed: {note.seed}"
    return "\n".join([*lines, f"{drawn}, Size: {shape[1]}x{shape[0]}"])

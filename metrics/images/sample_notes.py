"""What an image says of itself: prompt, seed and epoch in a PNG's texts, whether it is a sheet of several, or no sample
at all but a picture about samples.

The trainer and the search write a text `onset` (JSON: kind "sample", "sheet" or "strip", epoch, prompt or prompts, seed
or seeds, rows and columns; or kind "figure" alone); WebUIs write `parameters`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Drawn:
    """One image. `epoch` and `seed` are None where they are not known, `prompt` "" likewise."""

    prompt: str = ""
    seed: int | None = None
    epoch: int | None = None

    @property
    def key(self) -> str:
        """The same for images that differ by the LoRA alone; "" where that is not known."""
        return f"{self.seed} {self.prompt}" if self.prompt and self.seed is not None else ""


@dataclass(frozen=True)
class Sheet:
    """Several images in one file.

    Attributes:
        images: row by row; as many as `rows` × `columns`, or none where it is not known what they are.
        extra: whether the images are there in files of their own as well.
    """

    rows: int = 0
    columns: int = 0
    images: tuple[Drawn, ...] = ()
    extra: bool = False

    def boxes(self, width: int, height: int) -> list[tuple[int, int, int, int]]:
        """(left, top, right, bottom) of each image in a picture of that size."""
        wide, high = width // self.columns, height // self.rows
        return [
            (x * wide, y * high, (x + 1) * wide, (y + 1) * high) for y in range(self.rows) for x in range(self.columns)
        ]


@dataclass(frozen=True)
class Figure:
    """A contact sheet or a plot: drawn for people, no sample."""


FIGURE_NOTE = {"onset": json.dumps({"kind": "figure"})}
"""The texts of a PNG that is a figure."""
_FIGURES = ("sheet.png", "onset.png")


def note_of(image: Image, path: Path) -> Drawn | Sheet | Figure:
    """What an opened image says of itself."""
    said = image.info.get("onset")
    if isinstance(said, str):
        try:
            return _read(json.loads(said))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass  # another program's text, or damaged
    if _is_unmarked_sheet(path):
        return Sheet()
    if path.name in _FIGURES and any((path.parent / name).is_file() for name in ("train.yaml", "record.json")):
        return Figure()  # in a study's best/ or a trial's folder: an earlier version wrote it
    parameters = image.info.get("parameters")
    return _of_webui(parameters) if isinstance(parameters, str) else Drawn()


def _read(said: dict) -> Drawn | Sheet | Figure:
    if said["kind"] == "figure":
        return Figure()
    epoch = int(said["epoch"])
    if said["kind"] == "sample":
        return Drawn(str(said["prompt"]), int(said["seed"]), epoch)
    rows, columns = int(said["rows"]), int(said["columns"])
    count = rows * columns
    if rows < 1 or columns < 1 or count > 10_000:
        raise ValueError("no such sheet")
    prompts, seeds = said["prompts"], said["seeds"]
    if len(prompts) != count or len(seeds) != count:
        prompts, seeds = [""] * count, [None] * count
    images = tuple(
        Drawn(str(prompt), None if seed is None else int(seed), epoch)
        for prompt, seed in zip(prompts, seeds, strict=True)
    )
    return Sheet(rows, columns, images, said["kind"] == "strip")


def _of_webui(parameters: str) -> Drawn:
    prompt = re.split(r"\n(?:Negative prompt|Steps): ", parameters)[0].strip()
    seed = re.search(r"\bSeed: (\d+)", parameters)
    return Drawn(prompt if "Steps: " in parameters else "", int(seed[1]) if seed else None)


def _is_unmarked_sheet(path: Path) -> bool:
    """Whether an earlier version wrote it: `samples/0010.png` in a run's or a trial's folder."""
    named = path.suffix == ".png" and path.stem.isdecimal() and len(path.stem) >= 4 and path.parent.name == "samples"
    return named and any((path.parent.parent / name).is_file() for name in ("train.json", "record.json"))

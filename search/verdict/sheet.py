"""A trial at a glance: its probe images laid out with epochs across and prompts down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

INK, MUTED, RULE, PAPER = (24, 28, 36), (104, 112, 128), (226, 230, 238), (255, 255, 255)
SHIP, ONSET, BAND = (18, 128, 92), (204, 84, 30), (253, 240, 230)
SHIP_PAPER = (226, 245, 238)

SET_NAMES = {"A": "caption of a training photo", "B": "caption of a held-out photo", "C": "new context"}
"""What a prompt's set is called wherever its images are shown."""
RANGE_WORDS = "onset range"

_MARGIN, _GAP, _CAPTION_WIDTH, _KIND_HEIGHT = 28, 6, 290, 18


@dataclass(frozen=True)
class Marks:
    """What a sheet points out.

    Attributes:
        shipped: the epoch to ship, or None.
        onset: the epoch where overfitting begins, or None.
        low, high: the onset's interval in epochs; `low` is None when there is none, `high` also when it is open.
        onset_name: which onset it is, in a word or two ("context onset").
        shipped_name: what to call the epoch to ship.
        unit: what epochs are counted in, "epoch" or "step".
    """

    shipped: int | None = None
    onset: float | None = None
    low: float | None = None
    high: float | None = None
    onset_name: str = "onset"
    shipped_name: str = "ship this"
    unit: str = "epoch"

    def inside(self, epoch: int) -> bool:
        """Whether a trained epoch lies in the onset's interval."""
        return self.low is not None and epoch > 0 and self.low <= epoch <= (epoch if self.high is None else self.high)

    def label(self, epoch: int, epochs: Sequence[int]) -> str:
        """What stands above an epoch's images among those of `epochs`; the onset's range is named once."""
        turn = self.nearest(epochs)
        if epoch == self.shipped:
            return self.shipped_name
        if epoch == turn:
            return self.onset_name
        unnamed = [each for each in sorted(epochs) if self.inside(each) and each not in (self.shipped, turn)]
        return RANGE_WORDS if epoch in unnamed[:1] else ""

    def nearest(self, epochs: Sequence[int]) -> int | None:
        """The one of `epochs` nearest to the onset; None without one."""
        onset = self.onset
        trained = [epoch for epoch in epochs if epoch > 0]
        return None if onset is None or not trained else min(trained, key=lambda epoch: abs(epoch - onset))


def contact_sheet(
    images: Mapping[int, Sequence[np.ndarray]],
    captions: Sequence[str],
    *,
    kinds: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
    marks: Marks | None = None,
    cell: int = 128,
) -> "Image.Image":
    """Lays images out with epochs across and prompts down.

    Args:
        images: epoch to that checkpoint's images, uint8 `[H, W, 3]`, one per row, in the order of `captions`.
        captions: the prompt of each row; equal neighbours share one caption.
        kinds: what each row is, under its caption ("new context"); empty: nothing is said.
        title: one line above the grid.
        subtitle: a smaller line under the title.
        marks: the epochs to point out.
        cell: width of one image on the sheet, in pixels; heights keep the first image's aspect.

    Raises:
        ValueError: no images, or a checkpoint with another number of images than captions.
    """
    from PIL import Image, ImageDraw

    if not images or not captions:
        raise ValueError("a contact sheet needs at least one checkpoint and one prompt")
    for epoch, row in images.items():
        if len(row) != len(captions):
            raise ValueError(f"epoch {epoch} has {len(row)} images for {len(captions)} prompts")
    marks = marks or Marks()
    epochs = sorted(images)
    height, width = images[epochs[0]][0].shape[:2]
    cell_height = round(cell * height / width)
    head = _MARGIN + (34 if title else 0) + (24 if subtitle else 0)
    top = head + 50
    groups = _groups(captions)
    total_width = _MARGIN * 2 + _CAPTION_WIDTH + len(epochs) * (cell + _GAP)
    total_height = top + len(captions) * (cell_height + _GAP) + (len(groups) - 1) * _GAP + _MARGIN
    sheet = Image.new("RGB", (max(total_width, 640), total_height), PAPER)
    draw = ImageDraw.Draw(sheet)

    if title:
        draw.text((_MARGIN, _MARGIN - 8), _fitted(draw, title, font(22, bold=True), sheet.width - 2 * _MARGIN),
                  fill=INK, font=font(22, bold=True))  # fmt: skip
    if subtitle:
        draw.text((_MARGIN, head - 26), _fitted(draw, subtitle, font(16), sheet.width - 2 * _MARGIN),
                  fill=MUTED, font=font(16))  # fmt: skip

    left = _MARGIN + _CAPTION_WIDTH
    turn = marks.nearest(epochs)
    for column, epoch in enumerate(epochs):
        x = left + column * (cell + _GAP)
        _column_head(draw, (x, head), cell, total_height - _MARGIN, epoch, marks, marks.label(epoch, epochs), turn)

    y = top
    for caption, rows in groups:
        block = len(rows) * (cell_height + _GAP) - _GAP
        draw.line((_MARGIN, y - _GAP, _MARGIN + _CAPTION_WIDTH - 16, y - _GAP), fill=RULE, width=1)
        below = _paragraph(draw, (_MARGIN, y + 4), caption, _CAPTION_WIDTH - 22, block - (_KIND_HEIGHT if kinds else 0))
        if kinds:
            draw.text((_MARGIN, below), kinds[rows[0]], fill=MUTED, font=font(13))
        for index in rows:
            for column, epoch in enumerate(epochs):
                picture = Image.fromarray(np.ascontiguousarray(images[epoch][index]))
                sampling = Image.Resampling.NEAREST if cell % width == 0 else Image.Resampling.LANCZOS
                picture = picture.resize((cell, cell_height), sampling)
                sheet.paste(picture, (left + column * (cell + _GAP), y))
            y += cell_height + _GAP
        y += _GAP
    return sheet


def choose_epochs(epochs: Sequence[int], most: int, keep: Sequence[float | int | None] = ()) -> list[int]:
    """At most `most` epochs: the first, the last, the nearest to each of `keep`, those around, others evenly."""
    epochs = sorted(epochs)
    if len(epochs) <= most:
        return epochs
    wanted = {epochs[0], epochs[-1]}
    near = [min(range(len(epochs)), key=lambda place: abs(epochs[place] - k)) for k in keep if k is not None]
    wanted |= {epochs[place] for place in near}
    around = sorted(range(len(epochs)), key=lambda place: min((abs(place - n) for n in near), default=0))
    for place in around if near else ():
        if len(wanted) >= most * 3 // 4:
            break
        wanted.add(epochs[place])
    for fraction in np.linspace(0, 1, most):
        if len(wanted) >= most:
            break
        wanted.add(epochs[round(fraction * (len(epochs) - 1))])
    return sorted(wanted)


@lru_cache(maxsize=16)
def font(size: int, *, bold: bool = False) -> "ImageFont.FreeTypeFont":
    """The sheet's typeface; DejaVu comes with matplotlib, so every machine draws the same picture."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _groups(captions: Sequence[str]) -> list[tuple[str, list[int]]]:
    groups: list[tuple[str, list[int]]] = []
    for row, caption in enumerate(captions):
        if groups and groups[-1][0] == caption:
            groups[-1][1].append(row)
        else:
            groups.append((caption, [row]))
    return groups


def _column_head(
    draw: "ImageDraw.ImageDraw",
    at: tuple[int, int],
    cell: int,
    bottom: int,
    epoch: int,
    marks: Marks,
    label: str,
    turn: int | None,
) -> None:
    x, y = at
    shipped = epoch == marks.shipped
    inside = epoch == turn or marks.inside(epoch)
    if shipped or inside:
        box = (x - _GAP // 2, y, x + cell + _GAP // 2 - 1, bottom)
        draw.rectangle(box, fill=SHIP_PAPER if shipped else BAND)
    name = "base" if epoch == 0 else f"{marks.unit} {epoch}"
    draw.text((x + cell / 2, y + 14), name, fill=INK, font=font(17 if cell >= 88 else 14, bold=True), anchor="mm")
    if label:
        sign = "▲ " if shipped else "● " if epoch == turn else ""
        bold = shipped or epoch == turn
        draw.text(
            (x + cell / 2, y + 34), sign + label, fill=SHIP if shipped else ONSET,
            font=font(13 if cell >= 104 else 10, bold=bold), anchor="mm",
        )  # fmt: skip


def _paragraph(draw: "ImageDraw.ImageDraw", at: tuple[int, int], text: str, width: int, height: int) -> int:
    """Writes as many lines as fit; returns where the next one would stand."""
    face, leading = font(16), 22
    lines: list[str] = []
    for word in text.split():
        if lines and draw.textlength(f"{lines[-1]} {word}", font=face) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    most = max(1, height // leading)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
    for i, line in enumerate(lines):
        draw.text((at[0], at[1] + i * leading), _fitted(draw, line, face, width), fill=INK, font=face)
    return at[1] + len(lines) * leading


def _fitted(draw: "ImageDraw.ImageDraw", text: str, face: "ImageFont.FreeTypeFont", width: int) -> str:
    if draw.textlength(text, font=face) <= width:
        return text
    while text and draw.textlength(f"{text}…", font=face) > width:
        text = text[:-1]
    return f"{text}…"

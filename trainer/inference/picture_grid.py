"""Images laid out in a grid on paper: columns with headings across, prompts down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.inference.fonts import drawable, font

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

INK, MUTED, RULE, PAPER = (24, 28, 36), (104, 112, 128), (226, 230, 238), (255, 255, 255)

_MARGIN, _GAP, _CAPTION_WIDTH, _KIND_HEIGHT = 28, 6, 290, 18


@dataclass(frozen=True)
class Column:
    """What stands above a column of images.

    Attributes:
        name: its heading. label: a smaller line under it.
        ink: colour of the label. bold: whether the label is.
        paper: colour behind the whole column; None leaves it white.
    """

    name: str
    label: str = ""
    ink: tuple[int, int, int] = MUTED
    bold: bool = False
    paper: tuple[int, int, int] | None = None


def cell_width(pixels: int) -> int:
    """Width on a grid of images that are so many pixels wide: their own, but at least 96 and at most 192."""
    return max(96, min(192, pixels))


def picture_grid(
    images: Sequence[Sequence[np.ndarray]],
    columns: Sequence[Column],
    captions: Sequence[str],
    *,
    kinds: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
    cell: int = 128,
) -> Image.Image:
    """Lays images out with columns across and prompts down.

    Args:
        images: of each column, uint8 `[H, W, 3]`, one per row, in the order of `captions`.
        columns: their headings.
        captions: the prompt of each row; equal neighbours share one caption.
        kinds: what each row is, under its caption ("new context"); empty: nothing is said.
        title: one line above the grid.
        subtitle: a smaller line under the title.
        cell: width of one image on the grid, in pixels; heights keep the first image's aspect.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    title, subtitle = drawable(title), drawable(subtitle)
    captions, kinds = [drawable(each) for each in captions], [drawable(each) for each in kinds]
    height, width = images[0][0].shape[:2]
    cell_height = round(cell * height / width)
    head = _MARGIN + (34 if title else 0) + (24 if subtitle else 0)
    top = head + 50
    groups = _groups(captions)
    total_width = _MARGIN * 2 + _CAPTION_WIDTH + len(columns) * (cell + _GAP)
    total_height = top + len(captions) * (cell_height + _GAP) + (len(groups) - 1) * _GAP + _MARGIN
    grid = Image.new("RGB", (max(total_width, 640), total_height), PAPER)
    draw = ImageDraw.Draw(grid)

    if title:
        face = font(22, bold=True, text=title)
        draw.text((_MARGIN, _MARGIN - 8), _fitted(draw, title, face, grid.width - 2 * _MARGIN), fill=INK, font=face)
    if subtitle:
        face = font(16, text=subtitle)
        draw.text((_MARGIN, head - 26), _fitted(draw, subtitle, face, grid.width - 2 * _MARGIN), fill=MUTED, font=face)

    left = _MARGIN + _CAPTION_WIDTH
    for number, column in enumerate(columns):
        _heading(draw, (left + number * (cell + _GAP), head), cell, total_height - _MARGIN, column)

    y = top
    for caption, rows in groups:
        block = len(rows) * (cell_height + _GAP) - _GAP
        draw.line((_MARGIN, y - _GAP, _MARGIN + _CAPTION_WIDTH - 16, y - _GAP), fill=RULE, width=1)
        below = _paragraph(draw, (_MARGIN, y + 4), caption, _CAPTION_WIDTH - 22, block - (_KIND_HEIGHT if kinds else 0))
        if kinds:
            draw.text((_MARGIN, below), kinds[rows[0]], fill=MUTED, font=font(13, text=kinds[rows[0]]))
        for index in rows:
            for number, drawn in enumerate(images):
                picture = Image.fromarray(np.ascontiguousarray(drawn[index]))
                sampling = Image.Resampling.NEAREST if cell % width == 0 else Image.Resampling.LANCZOS
                picture = picture.resize((cell, cell_height), sampling)
                grid.paste(picture, (left + number * (cell + _GAP), y))
            y += cell_height + _GAP
        y += _GAP
    return grid


def _groups(captions: Sequence[str]) -> list[tuple[str, list[int]]]:
    groups: list[tuple[str, list[int]]] = []
    for row, caption in enumerate(captions):
        if groups and groups[-1][0] == caption:
            groups[-1][1].append(row)
        else:
            groups.append((caption, [row]))
    return groups


def _heading(draw: ImageDraw.ImageDraw, at: tuple[int, int], cell: int, bottom: int, column: Column) -> None:
    x, y = at
    if column.paper is not None:
        draw.rectangle((x - _GAP // 2, y, x + cell + _GAP // 2 - 1, bottom), fill=column.paper)
    name, label = (cell + 2 * _GAP, (17, 14, 12, 10) if cell >= 88 else (14, 12, 10)), (cell + _GAP, (13, 11, 10, 9, 8))
    for text, (width, sizes), bold, ink, middle in (
        (drawable(column.name), name, True, INK, 14),
        (drawable(column.label), label, column.bold, column.ink, 34),
    ):
        faces = [font(size, bold=bold, text=text) for size in sizes]
        face = next((face for face in faces if draw.textlength(text, font=face) <= width), faces[-1])
        draw.text((x + cell / 2, y + middle), _fitted(draw, text, face, width), fill=ink, font=face, anchor="mm")


def _paragraph(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, height: int) -> int:
    """Writes as many lines as fit; returns where the next one would stand."""
    face, leading = font(16, text=text), 22
    lines: list[str] = []
    for word in (part for each in text.split() for part in _parts(draw, each, face, width)):
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


def _parts(draw: ImageDraw.ImageDraw, word: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """A word in pieces that fit: scripts without blanks go on in the next line."""
    parts = [""]
    for character in word:
        if parts[-1] and draw.textlength(parts[-1] + character, font=face) > width:
            parts.append("")
        parts[-1] += character
    return parts


def _fitted(draw: ImageDraw.ImageDraw, text: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    if draw.textlength(text, font=face) <= width:
        return text
    while text and draw.textlength(f"{text}…", font=face) > width:
        text = text[:-1]
    return f"{text}…"

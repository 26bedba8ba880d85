"""What the pictures of a run over its epochs share: colours, head, panels, marked epochs, names at the lines' ends."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics.files import write_whole
from metrics.images.fonts import drawable
from metrics.images.sample_notes import FIGURE_NOTE
from metrics.onset.sentences import channels_text, epoch_text, interval_text
from metrics.onset.turns import Onset, Turn
from metrics.trajectory.trajectory import Trajectory

INK, FAINT, GRID = "#22252a", "#8a9099", "#e6e8eb"
COLOURS = {
    "shifted_loss": "#c8553d", "context_loss": "#d98f3d", "heldout_loss": "#2b6a99", "score": "#3c7d4b",
    "fidelity": "#7b5ea7", "prompt": "#b0883a", "copying": "#4f9a94", "own_photo": "#2f6f4f", "diversity": "#a3586d",
    "colour": "#6b7280", "burn": "#c07b4f", "composition": "#7b5ea7",
}  # fmt: skip
WIDTH, LEFT, RIGHT = 9.6, 0.1, 0.845  # inches, and shares of them
TURNS = {"context": ("shifted_loss", "context_loss"), "memory": ("heldout_loss",)}  # colour: of the first that is named
_TITLE, _LINE, _MARK, _FOOT = 0.62, 0.19, 0.155, 0.52  # inches


@dataclass(frozen=True)
class Mark:
    """An epoch that is pointed out: a line through all panels, and a label above them.

    Attributes:
        row: of the label, from below; `leftwards`: it stands left of its line.
        low, high: the interval that is shaded, if any.
        style: of the line, as matplotlib takes it.
    """

    epoch: float
    text: str
    colour: str
    low: float | None = None
    high: float | None = None
    style: Any = "-"
    width: float = 1.4
    row: int = 0
    leftwards: bool = False


def marks_of(
    trajectory: Trajectory, onset: Onset, best: str | None, words: Mapping[str, str] | None = None
) -> list[Mark]:
    """Both onsets with their intervals, the epochs that could ship and the one that does, labels in rows.

    Args:
        best: what to call the epoch `onset.best`; None does not mark it.
        words: what to call some channels, where that is another name than usual.
    """
    first, last = float(trajectory.epochs[0]), float(trajectory.epochs[-1])
    marks: list[Mark] = []
    for kind, names in TURNS.items():
        turn: Turn = getattr(onset, kind)
        if turn.epoch is None:
            continue
        name = next((name for name in names if name in turn.channels), names[0])
        high = last if turn.high is None else min(turn.high, last)
        by = "" if name in turn.channels or not turn.channels else f", {channels_text(turn.channels, words)}"
        between = interval_text(turn.low, turn.high)
        text = f"{kind} onset {epoch_text(turn.epoch)}{by}" + (f" ({between})" if between else "")
        marks.append(Mark(turn.epoch, text, COLOURS[name], turn.low or 0.0, high))
    green = COLOURS["score"]
    for word, choice in {} if best is None else {"safe": onset.safe, "most alike": onset.alike}.items():
        if choice is not None and choice.epoch != onset.best:
            marks.append(Mark(choice.epoch, f"{word} {choice.epoch}", green, style=(0, (1, 3)), width=0.9))
    if best is not None:
        marks.append(Mark(onset.best, f"{best} {onset.best}", green, style=(0, (1.5, 1.5))))
    return _in_rows(marks, first, last)


def _in_rows(marks: Sequence[Mark], first: float, last: float) -> list[Mark]:
    """Labels above each other where they would collide."""
    ends: list[float] = []
    placed = []
    for mark in sorted(marks, key=lambda mark: (mark.epoch, mark.text)):
        width = 0.0118 * len(mark.text) * (last - first)
        leftwards = mark.epoch + width > last + 0.05 * (last - first)
        start = mark.epoch - width if leftwards else mark.epoch
        row = next((index for index, end in enumerate(ends) if end < start), len(ends))
        ends[row : row + 1] = [start + width]
        placed.append(
            Mark(mark.epoch, mark.text, mark.colour, mark.low, mark.high, mark.style, mark.width, row, leftwards)
        )
    return placed


def open_page(
    trajectory: Trajectory,
    marks: Sequence[Mark],
    heights: Sequence[float],
    *,
    title: str,
    said: str,
    strip: float = 0.0,
    shaded: bool = True,
) -> tuple[Any, Any]:
    """A figure with its head, one axis for each of `heights` (in units of two inches), and the marks in all of them.

    Args:
        strip: inches that are left free below the axes.
        shaded: whether the marks' intervals are shown.

    Returns:
        matplotlib's figure, and its axes from above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    title, said = drawable(title), drawable(said)
    lines = textwrap.wrap(said, 108)
    head = _TITLE + _LINE * len(lines)
    above = head + _MARK * (1 + max((mark.row for mark in marks), default=-1))
    height = above + _FOOT + 2.0 * sum(heights) + strip
    figure = Figure(figsize=(WIDTH, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False,
        gridspec_kw={"height_ratios": heights, "left": LEFT, "right": RIGHT, "top": 1 - above / height,
                     "bottom": (_FOOT + strip) / height, "hspace": 0.09},
    )[:, 0]  # fmt: skip
    for axis in axes:
        _style(axis)
        for mark in marks:
            if shaded and mark.low is not None and mark.high is not None:
                axis.axvspan(mark.low, mark.high, color=mark.colour, alpha=0.08, linewidth=0)
            axis.axvline(mark.epoch, color=mark.colour, linewidth=mark.width, linestyle=mark.style)
    for mark in marks:
        axes[0].annotate(
            mark.text, (mark.epoch, 1), xycoords=("data", "axes fraction"),
            xytext=(-2 if mark.leftwards else 2, 3 + 11 * mark.row), textcoords="offset points", color=mark.colour,
            size=9, weight="bold", ha="right" if mark.leftwards else "left",
        )  # fmt: skip
    axes[-1].set_xlim(float(trajectory.epochs[0]), float(trajectory.epochs[-1]))
    axes[-1].set_xlabel(f"{trajectory.unit}s trained", color=INK)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.text(LEFT, 1 - 0.30 / height, title, size=13, weight="bold", color=INK, va="center")
    for number, text in enumerate(lines):
        figure.text(LEFT, 1 - (0.56 + _LINE * number) / height, text, size=9.5, color=INK, va="center")
    return figure, axes


def write_page(figure: Any, path: str | Path) -> Path:
    """Whole or not at all: a PNG (or PDF, SVG: whatever the path ends with)."""
    kind = Path(path).suffix.lstrip(".").lower() or "png"
    figure.align_ylabels()
    # compressed in less than half the time, and a seventh larger
    more: dict[str, Any] = {"metadata": FIGURE_NOTE, "pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
    write_whole(Path(path), lambda file: figure.savefig(file, format=kind, **more))
    return Path(path)


def label_ends(axis: Any, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names of the lines at their right ends, pushed apart where they would overlap.

    Args:
        labels: (value at the end, name, colour) each.
    """
    inches = axis.get_position().height * axis.figure.get_figheight()
    step, free = 0.16 / max(inches, 0.5), -1.0
    axis.get_ylim()  # matplotlib sets limits when they are asked for: without, places would be those of other limits
    to_share = axis.transData + axis.transAxes.inverted()
    places = [(float(to_share.transform((0, value))[1]), text, colour) for value, text, colour in labels]
    for place, text, colour in sorted(places):
        tall = step * (1 + text.count("\n"))
        at = max(place, free + tall / 2)
        free = at + tall / 2
        axis.annotate(text, (1, at), xycoords="axes fraction", xytext=(7, 0), textcoords="offset points", color=colour,
                      size=9, va="center")  # fmt: skip


def _style(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(FAINT)
    axis.tick_params(colors=INK, labelsize=9, length=3, color=FAINT)
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)

"""The picture of `metrics.run`: what drifts, in null units, beside the samples that come nearest to a photo."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.comparison.compare import NOTABLE, FolderScores, Measure
from metrics.comparison.copies import Pair
from metrics.files import write_whole
from metrics.images.fonts import any_script, drawable
from metrics.images.image_folder import ImageFolder
from metrics.images.sample_notes import FIGURE_NOTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_PAIRS = 6
LIMITS = (4.0, 12.0)  # null units: bars have at least, and at most, so much room
COPYING = ("copying", "layout_copying")
COLOURS = {"clear": "#b3261e", "notable": "#d98a00", "fine": "#3c7d5a"}
# inches
_MARGIN, _HEAD, _BAR, _FOOT, _LABELS, _BARS, _REMARKS = 0.15, 0.5, 0.34, 0.55, 1.45, 2.3, 2.0
_PICTURE, _TALLEST, _BETWEEN, _ABOVE_SAMPLE, _ABOVE_PHOTO, _SIDE = 1.4, 2.0, 0.08, 0.52, 0.26, 0.3


@any_script()
def draw_folder_scores(path: str | Path, scores: FolderScores, train: ImageFolder, samples: ImageFolder) -> None:
    """Write a PNG: bars of every measure that has a null, and up to six samples above their nearest photos."""
    figure = folder_figure(scores, train, samples)
    write_whole(Path(path), lambda file: figure.savefig(file, format="png", metadata=FIGURE_NOTE))


def folder_figure(scores: FolderScores, train: ImageFolder, samples: ImageFolder) -> Figure:
    """What `draw_folder_scores` writes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = [entry for entry in scores.measures if np.isfinite(entry.units)]
    pairs = _shown_pairs(scores)
    tall = _height(pairs, train, samples)
    pictures = _ABOVE_SAMPLE + _ABOVE_PHOTO + 2 * tall if pairs else 0.0
    bars = _BAR * len(entries) + _FOOT if entries else 0.0
    left = _LABELS + _BARS + _REMARKS if entries else 0.0
    width = max(2 * _MARGIN + left + (_SIDE + len(pairs) * (_PICTURE + _BETWEEN) if pairs else 0.0), 7.0)
    text = "\n".join(textwrap.wrap(drawable(headline(scores)), round(width * 8.6)))
    head = _HEAD + 0.22 * text.count("\n")
    height = head + max(pictures, bars, 0.3) + _MARGIN
    figure = Figure(figsize=(width, height), dpi=110)
    FigureCanvasAgg(figure)
    if entries:
        room = max(_BAR * len(entries), min(pictures - _FOOT, 2 * _BAR * len(entries)))
        place = (_MARGIN + _LABELS, height - head - room, _BARS, room)
        _draw_bars(figure.add_axes(_shares(place, width, height)), entries)
    if pairs:
        _draw_pairs(figure, pairs, train, samples, (_MARGIN + left + _SIDE, height - head), tall)
    figure.text(_MARGIN / width, 1 - 0.08 / height, text, fontsize=12, fontweight="bold", ha="left", va="top")
    return figure


def headline(scores: FolderScores) -> str:
    """The finding in one sentence."""
    ranked = sorted(scores.measures, key=lambda entry: -np.nan_to_num(entry.units, nan=np.inf))  # fidelity first
    clear, notable = (
        [
            f"{entry.label.split(',')[0]} ({entry.says})"
            for entry in ranked
            if entry.level == level
            and entry.name != "subject"
            and not (scores.copied and entry.name in COPYING)  # told at the head
        ]
        for level in ("clear", "notable")
    )
    parts = []
    if any(entry.name == "subject" and entry.level == "clear" for entry in scores.measures):
        parts.append("this is not your subject")
    if scores.copied:
        near = sum(map(len, scores.copied.values()))
        parts.append(f"{near} of {len(scores.pairs)} samples copy a photo")
    if clear:
        parts.append("clearly off: " + ", ".join(clear[:3]))
    if notable and not clear:
        parts.append("slightly off: " + ", ".join(notable[:3]))
    text = (
        "; ".join(parts)
        if parts
        else "nothing that was measured is off: the samples differ from the photos as photos do from each other"
    )
    return text[0].upper() + text[1:] + "."


def _draw_bars(axes, entries: Sequence[Measure]) -> None:
    """How far each measure is off; a bar that is longer than there is room ends in a point."""
    limit = float(np.clip(np.ceil(max(abs(entry.units) for entry in entries)), *LIMITS))
    axes.axvspan(-NOTABLE, NOTABLE, color="#e6f1ea", zorder=0)
    axes.axvline(0, color="#8a8a8a", linewidth=0.8)
    for row, entry in enumerate(entries):
        units = float(np.clip(entry.units, -limit, limit))
        colour = COLOURS[entry.level]
        axes.barh(row, units, height=0.55, color=colour)
        if units != entry.units:
            axes.plot(1.02 * units, row, ">" if units > 0 else "<", color=colour, markersize=9, clip_on=False)
        text = f"{entry.units:+.1f}  {entry.says}"
        axes.annotate(
            text, (1, row), xycoords=("axes fraction", "data"), xytext=(10, 0), textcoords="offset points",
            va="center", color="#333333" if entry.level == "fine" else colour, fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(len(entries)), [entry.label.split(",")[0] for entry in entries], fontsize=9.5)
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_xlim(-limit, limit)
    axes.set_xticks(np.linspace(-limit, limit, 5))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(axis="x", labelsize=9)
    axes.annotate(
        "worse →   in standard deviations of photos against photos (shaded: as photos do)", (0, 0),
        xycoords="axes fraction", xytext=(-_LABELS * 72, -24), textcoords="offset points", fontsize=8.5, va="top",
    )  # fmt: skip
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _shown_pairs(scores: FolderScores) -> list[Pair]:
    """Every photo once, by the sample that comes nearest to it."""
    shown: dict[str, Pair] = {}
    for pair in scores.pairs:
        shown.setdefault(pair.photo, pair)
    return list(shown.values())[:SHOWN_PAIRS]


def _height(pairs: Sequence[Pair], train: ImageFolder, samples: ImageFolder) -> float:
    """Inches of the highest image that is shown, within bounds."""
    shown = [samples.images[samples.names.index(pair.sample)] for pair in pairs]
    shown += [train.images[train.names.index(pair.photo)] for pair in pairs]
    return min(_TALLEST, max((_PICTURE * image.shape[0] / image.shape[1] for image in shown), default=0.0))


def _draw_pairs(
    figure, pairs: Sequence[Pair], train: ImageFolder, samples: ImageFolder, corner: tuple[float, float], tall: float
) -> None:
    """Samples above their nearest photos, from `corner` (left and top, in inches)."""
    width, height = figure.get_size_inches()
    left, top = corner
    rows = (
        ("samples", samples, top - _ABOVE_SAMPLE - tall),
        ("nearest photos", train, top - _ABOVE_SAMPLE - _ABOVE_PHOTO - 2 * tall),
    )
    for words, folder, bottom in rows:
        figure.text(
            (left - 0.06) / width, (bottom + tall / 2) / height, words, rotation=90, va="center", ha="right", fontsize=9
        )
        for column, pair in enumerate(pairs):
            place = (left + column * (_PICTURE + _BETWEEN), bottom, _PICTURE, tall)
            axes = figure.add_axes(_shares(place, width, height), anchor="S" if folder is samples else "N")
            axes.set_axis_off()
            axes.imshow(folder.images[folder.names.index(pair.sample if folder is samples else pair.photo)])
            if folder is samples:
                colour = COLOURS["clear"] if pair.copied else "#333333"
                copied = "copied, mirrored" if pair.mirrored else "copied"
                said = copied if pair.copied else f"nearer than\n{pair.beyond:.0%} of photos"
                axes.set_title(f"cos {pair.similarity:.2f}\n{said}", fontsize=8, color=colour, pad=3)
            else:
                axes.set_title(_short(pair.photo), fontsize=7, color="#555555", pad=3)


def _shares(place: tuple[float, float, float, float], width: float, height: float) -> tuple[float, float, float, float]:
    """Left, bottom, width and height in inches, as shares of the figure's."""
    left, bottom, wide, high = place
    return left / width, bottom / height, wide / width, high / height


def _short(name: str) -> str:
    """The end of a name, as much as stands above a picture; Japanese letters are wide."""
    shown = drawable(name)
    room, at = 22, len(shown)
    while at and room > 0:
        at -= 1
        room -= 2 if unicodedata.east_asian_width(shown[at]) in "WF" else 1
    return shown if at == 0 and room >= 0 else "…" + shown[at + 1 :]

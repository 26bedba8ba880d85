"""The picture of `metrics.run`: what drifts, in null units, beside the samples that come nearest to a photo."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from metrics.comparison.compare import NOTABLE, FolderScores
from metrics.files import write_whole
from metrics.images.image_folder import ImageFolder
from metrics.images.sample_notes import FIGURE_NOTE

SHOWN_PAIRS = 6
LIMIT = 12.0
COPYING = ("copying", "layout_copying")
COLOURS = {"clear": "#b3261e", "notable": "#d98a00", "fine": "#3c7d5a"}


def draw_folder_scores(path: str | Path, scores: FolderScores, train: ImageFolder, samples: ImageFolder) -> None:
    """Write a PNG: bars of every measure that has a null, and up to six samples above their nearest photos."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=(6, 9), wspace=0.02)  # type: ignore[misc]  # its type does not say two
    _draw_bars(left, scores)
    _draw_pairs(right, scores, train, samples)
    figure.suptitle(headline(scores), fontsize=13, fontweight="bold", x=0.01, ha="left")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # names in a script that the font lacks show as boxes
        write_whole(Path(path), lambda file: figure.savefig(file, format="png", metadata=FIGURE_NOTE))


def headline(scores: FolderScores) -> str:
    """The finding in one sentence."""
    ranked = sorted(scores.measures, key=lambda entry: -np.nan_to_num(entry.units, nan=np.inf))  # fidelity first
    clear, notable = (
        [
            f"{entry.label.split(',')[0]} ({entry.says})"
            for entry in ranked
            if entry.level == level and not (scores.copied and entry.name in COPYING)  # told at the head
        ]
        for level in ("clear", "notable")
    )
    parts = []
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


def _draw_bars(figure, scores: FolderScores) -> None:
    entries = [entry for entry in scores.measures if np.isfinite(entry.units)]
    axes = figure.add_subplot()
    axes.axvspan(-NOTABLE, NOTABLE, color="#e6f1ea", zorder=0)
    axes.axvline(0, color="#8a8a8a", linewidth=0.8)
    for row, entry in enumerate(entries):
        units = float(np.clip(entry.units, -LIMIT, LIMIT))
        colour = COLOURS[entry.level]
        axes.barh(row, units, height=0.55, color=colour)
        text = f"{entry.units:+.1f}  {entry.says}"
        axes.text(LIMIT + 1, row, text, va="center", color="#333333" if entry.level == "fine" else colour, fontsize=9)
    axes.set_yticks(range(len(entries)), [entry.label.split(",")[0] for entry in entries])
    axes.invert_yaxis()
    axes.set_xlim(-LIMIT, 2.6 * LIMIT)
    axes.set_xticks(np.arange(-LIMIT, LIMIT + 1, 4))
    axes.spines["bottom"].set_bounds(-LIMIT, LIMIT)
    axes.set_xlabel(
        "worse →   in standard deviations of photos against photos (shaded: as photos do)", fontsize=9, loc="left"
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_pairs(figure, scores: FolderScores, train: ImageFolder, samples: ImageFolder) -> None:
    shown, used = [], set()
    for pair in scores.pairs:  # every photo once, by the sample that comes nearest to it
        if pair.photo not in used:
            shown.append(pair)
            used.add(pair.photo)
    shown = shown[:SHOWN_PAIRS]
    grid = figure.subplots(2, SHOWN_PAIRS, squeeze=False)
    photo_rows = {name: row for row, name in enumerate(train.names)}
    sample_rows = {name: row for row, name in enumerate(samples.names)}
    for axes in grid.ravel():
        axes.set_axis_off()
    for column, pair in enumerate(shown):
        colour = COLOURS["clear"] if pair.copied else "#333333"
        top, bottom = grid[0, column], grid[1, column]
        top.imshow(samples.images[sample_rows[pair.sample]])
        copied = "copied, mirrored" if pair.mirrored else "copied"
        words = copied if pair.copied else f"nearer than\n{pair.beyond:.0%} of photos"
        top.set_title(f"cos {pair.similarity:.2f}\n{words}", fontsize=8, color=colour)
        bottom.imshow(train.images[photo_rows[pair.photo]])
        bottom.set_title(_short(pair.photo), fontsize=7, color="#555555")
    grid[0, 0].text(-0.08, 0.5, "samples", rotation=90, va="center", ha="right", transform=grid[0, 0].transAxes)
    grid[1, 0].text(-0.08, 0.5, "nearest photos", rotation=90, va="center", ha="right", transform=grid[1, 0].transAxes)


def _short(name: str) -> str:
    return name if len(name) <= 22 else "…" + name[-21:]

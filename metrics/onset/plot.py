"""The onset as a picture: the curves that it is read from, where their plateaus end, the score, the epoch to ship.

What images do has a picture of its own (`metrics.onset.plot_behaviour`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from metrics.images.fonts import any_script
from metrics.onset.curves import OnsetCurves, onset_curves
from metrics.onset.plateau import STEADY, Dip, fitted_dip
from metrics.onset.plot_behaviour import draw_channels, measured
from metrics.onset.plot_page import (
    COLOURS,
    FAINT,
    GRID,
    INK,
    LEFT,
    RIGHT,
    WIDTH,
    label_ends,
    marks_of,
    open_page,
    write_page,
)
from metrics.onset.restarts import restart_epochs
from metrics.onset.turns import Onset, Turn
from metrics.trajectory.trajectory import Trajectory

NAMES = {"shifted_loss": "moved subjects", "context_loss": "held-out contexts", "heldout_loss": "held-out photos"}
TRUE_NAMES = {"shifted_loss": "true, new contexts", "heldout_loss": "true, own contexts"}
LOSS_HEIGHT, SCORE_HEIGHT = 1.6, 0.6
MOST_LINES = 6
_NAME_WIDTH = 18  # letters of a line's name, before it is broken
MOST_RESTARTS = 12
SAME = 0.02  # octaves between a curve's own end of its plateau and the onset that is told

Labels = list[tuple[float, str, str]]


@any_script()
def plot_onset(
    path: str | Path,
    trajectory: Trajectory,
    onset: Onset,
    *,
    thumbnails: tuple[Sequence[int], np.ndarray] | None = None,
    truth: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    title: str = "",
    caption: str | None = None,
    best: str | None = "ship",
    words: Mapping[str, str] | None = None,
) -> Path:
    """Draws the onset into a PNG (or PDF, SVG: whatever the path ends with), whole or not at all.

    Args:
        thumbnails: epochs, and uint8 [k, H, W, 3] images (or columns of images) to stand under them.
        truth: channel name to (epochs, ln ratios) of a curve known from elsewhere, drawn dashed.
        title: above everything.
        caption: stands below the title; None takes the onset's own sentence.
        best: what to call the epoch `onset.best`; None does not mark it, nor does an onset that learned nothing.
        words: what to call some channels, where that is another name than usual.

    Returns:
        The path.
    """
    truth = truth or {}
    losses = [name for name in NAMES if name in trajectory.channels]
    scored = np.isfinite(trajectory.scores).sum() >= 2 and len(losses) + len(truth) + 2 <= MOST_LINES
    read = losses or measured(trajectory, "behaviour")  # without losses, images alone say where an onset is
    heights = [LOSS_HEIGHT] * bool(read or not scored) + [SCORE_HEIGHT if read else LOSS_HEIGHT] * bool(scored)
    best = None if onset.shipped is None else best
    strip = 0.0 if thumbnails is None else _strip_height(thumbnails[1], len(thumbnails[0]))
    figure, axes = open_page(
        trajectory, marks_of(trajectory, onset, best, words), heights, strip=strip,
        title=title or "Onset of overfitting", said=onset.sentence if caption is None else caption,
    )  # fmt: skip
    if losses:
        _draw_losses(axes[0], trajectory, losses, truth, onset, words)
    elif read:
        draw_channels(axes[0], trajectory, "behaviour")
    if scored:
        _draw_score(axes[-1], trajectory)
    _draw_restarts(axes, trajectory)
    if thumbnails is not None:
        marked = None if best is None else onset.best
        _draw_thumbnails(figure, axes[-1], thumbnails, strip / figure.get_figheight(), marked)
    return write_page(figure, path)


def _percent(logs: np.ndarray) -> np.ndarray:
    return 100 * (np.exp(logs) - 1)


def _draw_losses(
    axis: Any,
    trajectory: Trajectory,
    shown: list[str],
    truth: Mapping[str, Any],
    onset: Onset,
    words: Mapping[str, str] | None,
) -> None:
    """Thick: curves that onsets are read from, with their plateaus. Thin: what a sum is made of, and other losses."""
    names = {name: fill((words or {}).get(name, usual), _NAME_WIDTH) for name, usual in NAMES.items()}
    # logarithmic, as losses are compared: 15 % of a dip is 15 % of its height
    axis.set_yscale("function", functions=(lambda p: np.log1p(np.maximum(p, -99.9) / 100), _percent))
    labels: Labels = []
    read = onset_curves(trajectory, ignoring=onset.ignored)
    context = read.get("context")
    if context is not None and len(context.channels) > 1:
        _draw_placing(axis, context, onset.context, "new contexts", COLOURS["shifted_loss"], labels)
    for name in shown:
        placing = read.get("memory" if name == "heldout_loss" else "context")
        if placing is not None and placing.channels == (name,):
            turn = onset.memory if name == "heldout_loss" else onset.context
            _draw_placing(axis, placing, turn, names[name], COLOURS[name], labels)
            continue
        value = trajectory.values(name)[:, 0]
        known = np.isfinite(value)
        percent = _percent(value[known])
        axis.plot(trajectory.epochs[known], percent, color=COLOURS[name], linewidth=0.9, alpha=0.5)
        labels.append((float(percent[-1]), names[name] + "\n(not used)" * (name in onset.ignored), COLOURS[name]))
    for name, (epochs, logs) in truth.items():
        inside = np.asarray(epochs) <= trajectory.epochs[-1]
        percent, colour = _percent(np.asarray(logs)[inside]), COLOURS.get(name, FAINT)
        axis.plot(np.asarray(epochs)[inside], percent, color=colour, linewidth=1.3, dashes=(4, 2.2))
        labels.append((float(percent[-1]), TRUE_NAMES.get(name, name), colour))
    first = "the base" if trajectory.epochs[0] == 0 else "the first checkpoint"
    axis.set_ylabel(f"loss against {first}", color=INK)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g} %".replace("-", "−") if value else "0 %")
    label_ends(axis, labels)


def _draw_placing(axis: Any, read: OnsetCurves, turn: Turn, name: str, colour: str, labels: Labels) -> None:
    """A curve that places an onset: its checkpoints with their 90 % band, the valley that is fitted to them, and the
    plateau of that valley, whose end is the onset. A weighted sum's level means little."""
    curves = read.curves
    low, high = np.quantile(curves.replicates, [0.05, 0.95], axis=0)
    axis.fill_between(curves.epochs, _percent(low), _percent(high), color=colour, alpha=0.10, linewidth=0)
    many = min(1.0, 120 / len(curves.epochs))  # thousands of steps of a table would cover their own line
    axis.plot(
        curves.epochs, _percent(curves.mean), "o", color=colour, markersize=2.6 * max(many, 0.4), alpha=0.55 * many
    )
    dip = fitted_dip(curves.mean, curves.epochs, curves.jitter)
    if not _says(dip, turn):
        dip = fitted_dip(curves.mean, curves.epochs, curves.jitter, STEADY)
    axis.plot(dip.epochs, _percent(dip.line), color=colour, linewidth=1.9)
    labels.append((float(_percent(dip.line[-1:])[0]), name, colour))
    if _says(dip, turn):
        _draw_plateau(axis, dip, turn, colour)


def _says(dip: Dip, turn: Turn) -> bool:
    """Whether the fitted curve shows what is told: other channels may have placed the onset, or replicates alone."""
    if turn.epoch is None:
        return turn.status == "beyond" and dip.until is None
    return dip.until is not None and abs(float(np.log2(dip.until / turn.epoch))) < SAME


def _draw_plateau(axis: Any, dip: Dip, turn: Turn, colour: str) -> None:
    until = float(dip.epochs[-1]) if dip.until is None else dip.until
    inside = (dip.epochs >= dip.since) & (dip.epochs <= until)
    threshold = float(_percent(np.array([dip.threshold]))[0])
    axis.fill_between(dip.epochs[inside], _percent(dip.line[inside]), threshold, color=colour, alpha=0.30, linewidth=0)
    axis.plot((dip.since, until), (threshold, threshold), color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
    if turn.epoch is not None:
        axis.plot(until, threshold, "o", color=colour, markersize=6.5, markeredgecolor="white", zorder=5)
    rise = f"{float(_percent(np.array([dip.threshold - dip.level]))[0]):.1f} % above its lowest"
    words = f"the plateau ends {rise}" if turn.epoch is not None else f"an onset would be {rise}"
    right = until < float(dip.epochs[0]) + 0.6 * float(dip.epochs[-1] - dip.epochs[0])  # of the point: there is room
    axis.annotate(
        words, (until, threshold), xytext=(8, -3) if right else (-6, 3), textcoords="offset points", color=colour,
        size=8, ha="left" if right else "right", va="top" if right else "bottom",
    )  # fmt: skip


def _draw_score(axis: Any, trajectory: Trajectory) -> None:
    known = np.isfinite(trajectory.scores)
    axis.plot(trajectory.epochs[known], trajectory.scores[known], color=COLOURS["score"], linewidth=2.2)
    if not trajectory.has_objective:
        axis.set_ylim(0, 1)
    axis.set_ylabel("score", color=INK)
    label_ends(axis, [(float(trajectory.scores[known][-1]), "score", COLOURS["score"])])


def _draw_restarts(axes: Any, trajectory: Trajectory) -> None:
    """Where the learning rate jumps up again: losses and images swing there."""
    found = restart_epochs(trajectory.epochs, trajectory.effort)
    if not 0 < len(found) <= MOST_RESTARTS:
        return
    for axis in axes:
        for epoch in found:
            axis.axvline(epoch, color=FAINT, linewidth=1.0, linestyle=(0, (6, 3)), zorder=0.5)
    for number, epoch in enumerate(found):
        axes[0].annotate(
            "↻ restart" if number == 0 else "↻", (epoch, 0), xycoords=("data", "axes fraction"), xytext=(3, 4),
            textcoords="offset points", color=FAINT, size=8,
        )  # fmt: skip


def _strip_height(images: np.ndarray, count: int) -> float:
    width = WIDTH * (RIGHT - LEFT) / max(count, 4)
    return float(width * 0.94 * images.shape[1] / images.shape[2] + 0.34)


def _draw_thumbnails(
    figure: Any, axis: Any, thumbnails: tuple[Sequence[int], np.ndarray], height: float, best: int | None
) -> None:
    """Images side by side under the axis, each tied to its epoch by a line."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.transforms import Bbox

    epochs, images = thumbnails
    box = axis.get_position()
    left, right = axis.get_xlim()
    count = max(len(epochs), 4)
    width = box.width / count
    label = 0.16 / figure.get_figheight()
    tie = 0.18 / figure.get_figheight()
    tall = max(height - tie - label, 0.02)
    shares = figure.add_axes((0, 0, 1, 1))  # one for all: an axis for each of them would take longer than all curves
    shares.set_axis_off()
    page = figure.get_figheight() / figure.get_figwidth()
    for index, (epoch, image) in enumerate(zip(epochs, images, strict=True)):
        x = box.x0 + index * width + (count - len(epochs)) * width / 2
        place = Bbox.from_bounds(x + 0.03 * width, label, 0.94 * width, tall)
        place = place.shrunk_to_aspect(image.shape[0] / image.shape[1], place, page).anchored("C", place)
        shares.imshow(
            image, interpolation="nearest" if image.shape[1] < 128 else "antialiased", aspect="auto",
            extent=(place.x0, place.x1, place.y0, place.y1),
        )  # fmt: skip
        marked = epoch == best
        shares.add_patch(
            Rectangle(place.min, place.width, place.height, fill=False, joinstyle="miter", zorder=2.5, clip_on=False,
                      edgecolor=COLOURS["score"] if marked else GRID, linewidth=2.0 if marked else 0.8)
        )  # fmt: skip
        colour = COLOURS["score"] if marked else FAINT
        figure.text(x + width / 2, label / 2, str(epoch), size=8.5, ha="center", va="center", color=colour)
        at = box.x0 + box.width * (epoch - left) / (right - left)
        below = box.y0 - 0.40 / figure.get_figheight()
        figure.add_artist(Line2D((at, x + width / 2), (below, label + tall), color="#c9ced4", linewidth=0.9, zorder=0))
    shares.set(xlim=(0, 1), ylim=(0, 1))

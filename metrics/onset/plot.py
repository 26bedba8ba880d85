"""The onset as a picture: losses and behaviour over epochs, both onsets with their intervals, the epoch to ship."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metrics.files import write_whole
from metrics.images.sample_notes import FIGURE_NOTE
from metrics.onset.curves import onset_curves
from metrics.onset.plateau import smoothed
from metrics.onset.replicates import Curves
from metrics.onset.sentences import channels_text, epoch_text
from metrics.onset.turns import Onset, Turn
from metrics.trajectory.trajectory import Trajectory

INK, FAINT, GRID = "#22252a", "#8a9099", "#e6e8eb"
COLOURS = {
    "shifted_loss": "#c8553d", "context_loss": "#d98f3d", "heldout_loss": "#2b6a99", "score": "#3c7d4b",
    "fidelity": "#7b5ea7", "prompt": "#b0883a", "copying": "#4f9a94", "diversity": "#a3586d",
    "colour": "#6b7280", "burn": "#c07b4f", "composition": "#7b5ea7",
}  # fmt: skip
NAMES = {"shifted_loss": "moved subjects", "context_loss": "held-out contexts", "heldout_loss": "held-out photos"}
TRUE_NAMES = {"shifted_loss": "true, new contexts", "heldout_loss": "true, own contexts"}
TURNS = {"context": ("shifted_loss", "context_loss"), "memory": ("heldout_loss",)}  # of the first that is named
BEHAVIOUR = ("score", "fidelity", "prompt", "copying", "diversity")
DRIFT = ("colour", "burn", "composition")
HEIGHTS = {"loss": 1.5, "behaviour": 1.0, "drift": 0.75}
LABELS = {"behaviour": "score and behaviour", "drift": "drift, in spreads\nof the photos"}
LIMITS = {"behaviour": (-0.1, 1.35), "drift": (-2.0, 12.0)}  # what lies outside is drawn at the edge


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
) -> Path:
    """Draws the onset into a PNG (or PDF, SVG: whatever the path ends with), whole or not at all.

    Args:
        thumbnails: epochs, and uint8 [k, H, W, 3] images (or columns of images) to stand under them.
        truth: channel name to (epochs, ln ratios) of a curve known from elsewhere, drawn dashed.
        title: above everything.
        caption: stands below the title; None takes the onset's own sentence.
        best: what to call the epoch `onset.best`; None does not mark it, nor does an onset that learned nothing.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown: list[str] = [name for name in NAMES if name in trajectory.channels]
    measured = {"loss": shown, "behaviour": _measured(trajectory, BEHAVIOUR), "drift": _measured(trajectory, DRIFT)}
    panels = [panel for panel, names in measured.items() if names]
    ratios = [HEIGHTS[panel] for panel in panels] or [1.0]
    strip = 0.0 if thumbnails is None else _strip_height(thumbnails[1], len(thumbnails[0]))
    best = None if onset.status == "never_learned" else best
    said = textwrap.wrap(onset.sentence if caption is None else caption, 108)
    head = 0.62 + 0.19 * len(said)
    height = head + 0.52 + 2.0 * sum(ratios) + strip
    figure = Figure(figsize=(9.6, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    top, bottom = 1 - (head + 0.16) / height, (0.52 + strip) / height
    axes = figure.subplots(
        len(ratios), 1, sharex=True, squeeze=False,
        gridspec_kw={"height_ratios": ratios, "left": 0.085, "right": 0.845, "top": top, "bottom": bottom,
                     "hspace": 0.09},
    )[:, 0]  # fmt: skip
    for axis in axes:
        _style(axis)
    for panel, axis in zip(panels, axes, strict=False):  # one empty axis where nothing was measured
        if panel == "loss":
            _draw_losses(axis, trajectory, shown, truth or {}, onset.ignored)
        else:
            _draw_channels(axis, trajectory, panel, measured[panel])
    _draw_turns(axes, trajectory, onset, best)
    last = float(trajectory.epochs[-1])
    axes[-1].set_xlim(0 if trajectory.epochs[0] == 0 else float(trajectory.epochs[0]), last)
    axes[-1].set_xlabel(f"{trajectory.unit}s trained", color=INK)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.text(
        0.085, 1 - 0.30 / height, title or "Onset of overfitting", size=13, weight="bold", color=INK, va="center"
    )
    for line, text in enumerate(said):
        figure.text(0.085, 1 - (0.56 + 0.19 * line) / height, text, size=9.5, color=INK, va="center")
    if thumbnails is not None:
        marked = None if best is None else onset.best
        _draw_thumbnails(figure, axes[-1], thumbnails, trajectory, strip / height, marked)
    kind = Path(path).suffix.lstrip(".") or "png"
    said_inside = FIGURE_NOTE if kind.lower() == "png" else None
    write_whole(Path(path), lambda file: figure.savefig(file, format=kind, metadata=said_inside))
    return Path(path)


def _style(axis: Any) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(FAINT)
    axis.tick_params(colors=INK, labelsize=9, length=3, color=FAINT)
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)


def _percent(logs: np.ndarray) -> np.ndarray:
    return 100 * (np.exp(logs) - 1)


def _draw_losses(
    axis: Any, trajectory: Trajectory, shown: list[str], truth: Mapping[str, Any], ignored: Sequence[str]
) -> None:
    """Thick, with a band: the curves that onsets are read from. Thin: other losses, and what a sum is made of."""
    labels: list[tuple[float, str, str]] = []
    read = onset_curves(trajectory, ignoring=ignored)
    context = read.get("context")
    if context is not None and len(context.channels) > 1:
        _draw_curves(axis, context.curves, "new contexts", COLOURS["shifted_loss"], labels)
    for name in shown:
        placing = read.get("memory" if name == "heldout_loss" else "context")
        if placing is not None and placing.channels == (name,):
            _draw_curves(axis, placing.curves, NAMES[name], COLOURS[name], labels)
            continue
        value = trajectory.values(name)[:, 0]
        known = np.isfinite(value)
        percent = _percent(value[known])
        axis.plot(trajectory.epochs[known], percent, color=COLOURS[name], linewidth=0.9, alpha=0.5)
        labels.append((float(percent[-1]), NAMES[name] + "\n(not used)" * (name in ignored), COLOURS[name]))
    for name, (epochs, logs) in truth.items():
        inside = np.asarray(epochs) <= trajectory.epochs[-1]
        colour = COLOURS.get(name, FAINT)
        axis.plot(
            np.asarray(epochs)[inside], _percent(np.asarray(logs)[inside]), color=colour, linewidth=1.3, dashes=(4, 2.2)
        )
        labels.append((float(_percent(np.asarray(logs)[inside][-1:])[0]), TRUE_NAMES.get(name, name), colour))
    first = "the base" if trajectory.epochs[0] == 0 else "the first checkpoint"
    axis.set_ylabel(f"loss against {first}", color=INK)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g} %" if value else "0 %")
    _label_ends(axis, labels)


def _draw_curves(axis: Any, curves: Curves, name: str, colour: str, labels: list[tuple[float, str, str]]) -> None:
    """A curve that places an onset, smoothed as it is then, with its 90 % band. A weighted sum's level means little."""
    low, high = np.quantile(curves.replicates, [0.05, 0.95], axis=0)
    axis.fill_between(curves.epochs, _percent(low), _percent(high), color=colour, alpha=0.13, linewidth=0)
    many = min(1.0, 120 / len(curves.epochs))  # thousands of steps of a table would cover their own line
    axis.plot(
        curves.epochs, _percent(curves.mean), "o", color=colour, markersize=2.6 * max(many, 0.4), alpha=0.55 * many
    )
    smooth = _percent(smoothed(curves.mean, curves.epochs, curves.jitter))
    axis.plot(curves.epochs, smooth, color=colour, linewidth=1.9)
    labels.append((float(smooth[-1]), name, colour))


def _measured(trajectory: Trajectory, names: Sequence[str]) -> list[str]:
    return [name for name in names if np.isfinite(_values(trajectory, name)[:, 0]).sum() >= 2]


def _values(trajectory: Trajectory, name: str) -> np.ndarray:
    """[T, 3] value, low and high; a score has no interval."""
    if name == "score":
        return np.repeat(trajectory.scores[:, None], 3, axis=1)
    # kept obedience: 1 as the base obeys, 0 not at all
    return trajectory.values(name) + (1.0 if name == "prompt" else 0.0)


def _draw_channels(axis: Any, trajectory: Trajectory, panel: str, shown: list[str]) -> None:
    """Score and behaviour, or how far colours, burn and layouts lie from the photos in units of the photos' own spread
    (grey: like photos)."""
    if panel == "drift":
        axis.axhspan(-2, 2, color=GRID, alpha=0.6, linewidth=0)
    labels = []
    for name in shown:
        colour, values = COLOURS[name], _values(trajectory, name)
        known = np.isfinite(values[:, 0])
        epochs, (value, low, high) = trajectory.epochs[known], np.clip(values[known], *LIMITS[panel]).T
        axis.plot(epochs, value, color=colour, linewidth=2.2 if name == "score" else 1.3)
        axis.fill_between(epochs, low, high, color=colour, alpha=0.07, linewidth=0)
        labels.append((float(value[-1]), "prompts obeyed" if name == "prompt" else name, colour))
    axis.set_ylabel(LABELS[panel], color=INK)
    _label_ends(axis, labels)


def _label_ends(axis: Any, labels: list[tuple[float, str, str]]) -> None:
    """Names of the lines at their right ends, pushed apart where they would overlap."""
    low, high = axis.get_ylim()
    step = (high - low) * 0.16 / max(axis.get_position().height * axis.figure.get_figheight(), 0.5)
    free = -np.inf  # above the lines that are named so far
    for value, text, colour in sorted(labels):
        tall = step * (1 + text.count("\n"))
        at = max(value, free + (tall - step) / 2)
        free = at + (tall + step) / 2
        axis.annotate(
            text,
            (1, at),
            xycoords=("axes fraction", "data"),
            xytext=(7, 0),
            textcoords="offset points",
            color=colour,
            size=9,
            va="center",
        )


def _draw_turns(axes: Any, trajectory: Trajectory, onset: Onset, best: str | None) -> None:
    last = float(trajectory.epochs[-1])
    marks: list[tuple[float, str, str]] = []
    for kind, names in TURNS.items():
        turn: Turn = getattr(onset, kind)
        if turn.epoch is None:
            continue
        name = next((name for name in names if name in turn.channels), names[0])
        low, high = turn.low or 0.0, turn.high if turn.high is not None else last
        for axis in axes:
            axis.axvspan(low, min(high, last), color=COLOURS[name], alpha=0.09, linewidth=0)
            axis.axvline(turn.epoch, color=COLOURS[name], linewidth=1.4)
        by = "" if name in turn.channels or not turn.channels else f" ({channels_text(turn.channels)})"
        marks.append((turn.epoch, f"{kind} onset {epoch_text(turn.epoch)}{by}", COLOURS[name]))
    others = {} if best is None else {"safe": onset.safe, "most alike": onset.alike}
    for words, choice in others.items():
        if choice is not None and choice.epoch != onset.best:
            for axis in axes:
                axis.axvline(choice.epoch, color=COLOURS["score"], linewidth=0.9, alpha=0.6, linestyle=(0, (1, 3)))
            marks.append((float(choice.epoch), f"{words} {choice.epoch}", COLOURS["score"]))
    if best is not None:
        for axis in axes:
            axis.axvline(onset.best, color=COLOURS["score"], linewidth=1.4, linestyle=(0, (1.5, 1.5)))
        marks.append((float(onset.best), f"{best} {onset.best}", COLOURS["score"]))
    _label_marks(axes[0], marks, last)


def _label_marks(axis: Any, marks: list[tuple[float, str, str]], last: float) -> None:
    """Labels above the axis, in rows where they would collide."""
    rows: list[float] = []
    for epoch, text, colour in sorted(marks):
        width = 0.0118 * len(text) * last
        right = epoch + width > last
        start = epoch - width if right else epoch
        row = next((index for index, end in enumerate(rows) if end < start), len(rows))
        rows[row : row + 1] = [start + width]
        axis.annotate(
            text, (epoch, 1), xycoords=("data", "axes fraction"), xytext=(-2 if right else 2, 3 + 11 * row),
            textcoords="offset points", color=colour, size=9, weight="bold", ha="right" if right else "left",
        )  # fmt: skip


def _strip_height(images: np.ndarray, count: int) -> float:
    width = 9.6 * 0.76 / max(count, 4)
    return float(width * 0.94 * images.shape[1] / images.shape[2] + 0.34)


def _draw_thumbnails(
    figure: Any,
    axis: Any,
    thumbnails: tuple[Sequence[int], np.ndarray],
    trajectory: Trajectory,
    height: float,
    best: int | None,
) -> None:
    """Images side by side under the axis, each tied to its epoch by a line."""
    from matplotlib.lines import Line2D

    epochs, images = thumbnails
    box = axis.get_position()
    left, right = axis.get_xlim()
    count = max(len(epochs), 4)
    width = box.width / count
    label = 0.16 / figure.get_figheight()
    tie = 0.18 / figure.get_figheight()
    tall = max(height - tie - label, 0.02)
    for index, (epoch, image) in enumerate(zip(epochs, images, strict=True)):
        x = box.x0 + index * width + (count - len(epochs)) * width / 2
        inset = figure.add_axes((x + 0.03 * width, label, 0.94 * width, tall))
        inset.imshow(image, interpolation="nearest" if image.shape[1] < 128 else "antialiased")
        inset.set_xticks([])
        inset.set_yticks([])
        for spine in inset.spines.values():
            spine.set_color(COLOURS["score"] if epoch == best else GRID)
            spine.set_linewidth(2.0 if epoch == best else 0.8)
        colour = COLOURS["score"] if epoch == best else FAINT
        figure.text(x + width / 2, label / 2, str(epoch), size=8.5, ha="center", va="center", color=colour)
        at = box.x0 + box.width * (epoch - left) / (right - left)
        below = box.y0 - 0.40 / figure.get_figheight()
        figure.add_artist(Line2D((at, x + width / 2), (below, label + tall), color="#c9ced4", linewidth=0.9, zorder=0))

"""A run's images as a picture: likeness, obedience, copying and diversity over epochs, and how far they drift."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metrics.images.fonts import any_script
from metrics.onset.plot_page import COLOURS, GRID, INK, label_ends, marks_of, open_page, write_page
from metrics.onset.turns import Onset
from metrics.trajectory.trajectory import Trajectory

PANELS = {
    "behaviour": ("fidelity", "prompt", "copying", "own_photo", "diversity"),
    "drift": ("colour", "burn", "composition"),
}
NAMES = {"fidelity": "likeness", "prompt": "obedience", "own_photo": "own photos"}
HEIGHTS = {"behaviour": 1.2, "drift": 1.0}
LABELS = {"behaviour": "behaviour", "drift": "drift, in spreads\nof the photos"}
LEAST_SPAN = {"behaviour": (0.0, 1.1), "drift": (-2.0, 4.0)}


@any_script()
def plot_behaviour(
    path: str | Path,
    trajectory: Trajectory,
    onset: Onset,
    *,
    title: str = "",
    said: str = "",
    best: str | None = "ship",
    words: Mapping[str, str] | None = None,
) -> Path | None:
    """Draws what the images of each checkpoint do into a PNG (or PDF, SVG), whole or not at all.

    Args:
        title, said: above the panels.
        best: what to call the epoch `onset.best`; None does not mark it.
        words: what to call some channels, where that is another name than usual.

    Returns:
        The path; None, and nothing is drawn, where no images were judged at two checkpoints.
    """
    panels = [panel for panel in PANELS if measured(trajectory, panel)]
    if not panels:
        return None
    marks = marks_of(trajectory, onset, None if onset.shipped is None else best, words)
    heights = [HEIGHTS[panel] for panel in panels]
    figure, axes = open_page(trajectory, marks, heights, title=title or "What the images do", said=said, shaded=False)
    for panel, axis in zip(panels, axes, strict=True):
        draw_channels(axis, trajectory, panel)
    return write_page(figure, path)


def measured(trajectory: Trajectory, panel: str) -> list[str]:
    """The channels of a panel that were measured at two checkpoints or more."""
    return [name for name in PANELS[panel] if np.isfinite(_values(trajectory, name)[:, 0]).sum() >= 2]


def _values(trajectory: Trajectory, name: str) -> np.ndarray:
    """[T, 3] value, low and high."""
    # kept obedience: 1 as the base obeys, 0 not at all
    return trajectory.values(name) + (1.0 if name == "prompt" else 0.0)


def draw_channels(axis: Any, trajectory: Trajectory, panel: str) -> None:
    """Behaviour, or how far colours, burn and layouts lie from the photos in units of the photos' own spread (grey:
    like photos). All lines are seen whole; a wide interval may run out of the panel."""
    if panel == "drift":
        axis.axhspan(-2, 2, color=GRID, alpha=0.6, linewidth=0)
    labels, lowest, highest = [], *LEAST_SPAN[panel]
    for name in measured(trajectory, panel):
        colour, values = COLOURS[name], _values(trajectory, name)
        known = np.isfinite(values[:, 0])
        epochs, (value, low, high) = trajectory.epochs[known], values[known].T
        axis.plot(epochs, value, color=colour, linewidth=1.5)
        axis.fill_between(epochs, low, high, color=colour, alpha=0.07, linewidth=0)
        labels.append((float(value[-1]), NAMES.get(name, name), colour))
        lowest, highest = min(lowest, float(value.min())), max(highest, float(value.max()))
    margin = 0.06 * (highest - lowest)
    axis.set_ylim(lowest - margin, highest + margin)
    axis.set_ylabel(LABELS[panel], color=INK)
    label_ends(axis, labels)

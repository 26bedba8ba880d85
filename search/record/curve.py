"""A trial's score over its epochs, read from `trajectory.csv` without all that else stands there: a study of thousands
of trials looks at every curve, and at few trajectories."""

from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np

from metrics.errors import MetricsError


@dataclass(frozen=True)
class Curve:
    """Epochs rising, with the base as epoch 0, and the score at each, NaN where there is none."""

    epochs: np.ndarray
    scores: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> "Curve | None":
        """The curve of a trial's folder; None where no trajectory was written, or it is damaged."""
        try:
            text = (folder / "trajectory.csv").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        try:
            return cls(*_columns(text))
        except ValueError:  # not as we write it; perhaps another program did
            return _whole(folder)


def _columns(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and scores. Raises ValueError where a row has another number of cells, or what counts is no number."""
    head, *lines = text.split("\n")
    names = head.split(",")
    score = names.index("score")
    rows = [line.split(",") for line in lines if line]
    if "effort" not in names or not rows or any(len(row) != len(names) for row in rows):
        raise ValueError("not a trajectory as it was written")
    epochs = np.array([int(row[0]) for row in rows])
    if (np.diff(epochs) <= 0).any():
        raise ValueError("epochs do not rise")
    return epochs, np.array([float(row[score] or nan) for row in rows])


def _whole(folder: Path) -> Curve | None:
    from metrics.trajectory.trajectory import Trajectory

    try:
        found = Trajectory.load(folder)
    except MetricsError:
        return None
    return Curve(found.epochs, found.scores)

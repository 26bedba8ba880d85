"""What a study of thousands of trials reads of each: the score over its epochs, and how alike and obedient images are,
from `trajectory.csv` without all that else stands there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path

import numpy as np

from metrics.errors import MetricsError

LIKENESS, OBEDIENCE, HELD_OUT = "fidelity", "prompt", "heldout_loss"
"""The channels that are read beside the score."""
_BESIDE = (LIKENESS, OBEDIENCE, HELD_OUT)


@dataclass(frozen=True)
class Curve:
    """Epochs rising, with the base as epoch 0, and the score at each, NaN where there is none.

    Attributes:
        also: the values of `LIKENESS`, `OBEDIENCE` and `HELD_OUT` likewise, of those that were measured.
    """

    epochs: np.ndarray
    scores: np.ndarray
    also: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def line(self) -> tuple[list[float], list[float]]:
        """Epochs and scores."""
        return self.epochs.tolist(), self.scores.tolist()

    def at(self, epoch: int) -> dict[str, float]:
        """What was read beside the score at an epoch."""
        (rows,) = np.nonzero(self.epochs == epoch)
        return {n: float(values[rows[0]]) for n, values in self.also.items() if rows.size and isfinite(values[rows[0]])}

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


def _columns(text: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Epochs, scores and the rest. Raises ValueError where a row has another number of cells, or what counts is no
    number."""
    head, *lines = text.split("\n")
    names = head.split(",")
    score = names.index("score")
    rows = [line.split(",") for line in lines if line]
    if "effort" not in names or not rows or any(len(row) != len(names) for row in rows):
        raise ValueError("not a trajectory as it was written")
    epochs = np.array([int(row[0]) for row in rows])
    if (np.diff(epochs) <= 0).any():
        raise ValueError("epochs do not rise")
    columns = {name: names.index(name) for name in _BESIDE if name in names}
    also = {name: np.array([float(row[place] or nan) for row in rows]) for name, place in columns.items()}
    return epochs, np.array([float(row[score] or nan) for row in rows]), also


def _whole(folder: Path) -> Curve | None:
    from metrics.trajectory.trajectory import Trajectory

    try:
        found = Trajectory.load(folder)
    except MetricsError:
        return None
    also = {name: found.values(name)[:, 0] for name in _BESIDE if name in found.channels}
    return Curve(found.epochs, found.scores, also)

"""How much a score jumps between neighbouring checkpoints, and which checkpoints around one score as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search.record.curve import Curve

if TYPE_CHECKING:
    from metrics.trajectory.trajectory import Trajectory


@dataclass(frozen=True)
class Peak:
    """Where a score is highest: the checkpoint, its score, and the first and last one around it that score no worse by
    more than the noise."""

    epoch: int
    score: float
    first: int
    last: int


def peak(trajectory: "Trajectory | Curve | None", noise: float) -> Peak | None:
    """The highest score of a trained checkpoint; None without any."""
    if trajectory is None:
        return None
    trained = [(score, -epoch) for epoch, score in zip(trajectory.epochs, trajectory.scores, strict=True) if epoch > 0]
    score, epoch = max(((s, e) for s, e in trained if np.isfinite(s)), default=(0.0, 0))
    around = plateau(trajectory, int(-epoch), noise)
    return None if not epoch or around is None else Peak(int(-epoch), float(score), *around)


def jitter(trajectories: "Sequence[Trajectory | Curve]", *, bounded: bool = True) -> float:
    """Standard deviation of a score between neighbouring checkpoints, from second differences (robust).

    Args:
        bounded: to 0.002–0.02, and 0.005 where too few checkpoints tell, since our score lies between 0 and 1. An
            objective may have any scale: its jitter is as it is measured, and 0 where too few checkpoints tell.
    """
    jumps = [np.diff(t.scores[t.epochs > 0], n=2) / np.sqrt(6.0) for t in trajectories]
    found = np.concatenate(jumps) if jumps else np.empty(0)
    found = found[np.isfinite(found)]
    sigma = 1.4826 * float(np.median(np.abs(found))) if found.size >= 4 else 0.005 if bounded else 0.0
    return float(np.clip(sigma, 0.002, 0.02)) if bounded else sigma


def plateau(trajectory: "Trajectory | Curve | None", epoch: int | None, noise: float) -> tuple[int, int] | None:
    """First and last epoch of the unbroken run of checkpoints around `epoch` that score no worse than it by more than
    `noise`."""
    if trajectory is None or epoch is None or epoch not in trajectory.epochs:
        return None
    epochs, scores = trajectory.epochs, trajectory.scores
    here = int(np.flatnonzero(epochs == epoch)[0])
    good = scores >= scores[here] - noise
    low = high = here
    while low > 0 and good[low - 1] and epochs[low - 1] > 0:
        low -= 1
    while high + 1 < len(epochs) and good[high + 1]:
        high += 1
    return int(epochs[low]), int(epochs[high])

"""Whether training photos come back in drawings: an observation at a checkpoint.

It is no onset: where it is first seen lies up to two octaves off the epoch from which on photos truly come back
(docs/log.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metrics.onset.replicates import reweighted
from metrics.onset.turns import Copying, CopyingStatus
from metrics.onset.valley import fit_valley
from metrics.trajectory.trajectory import Trajectory

CHANNEL, HELD_OUT = "own_photo", "own_photo_held_out"
# How much nearer (ln of distances) trained captions have to come to their own photos than held-out ones do, and in
# which share of the replicates. Chosen on CHOOSING concepts (docs/log.md).
LEVEL, SURE = 0.1, 0.75
REPLICATES = 100


class CopyingCurve(NamedTuple):
    """What is seen of copied photos over the epochs.

    Attributes:
        rows: [K] indices into the trajectory's checkpoints at which it was measured. epochs: [K] their epochs.
        nearer: [1 + R, K] ln units: how much nearer trained captions come to their own photos than held-out ones do,
            fitted by a curve that rises and then falls (a LoRA that breaks copies no more), and what it could have been
            with other photos.
    """

    rows: np.ndarray
    epochs: np.ndarray
    nearer: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """[K] at which checkpoints photos seem to come back."""
        return (self.nearer[1:] >= LEVEL).mean(axis=0) >= SURE


def copying_at(trajectory: Trajectory, epoch: int, *, seed: int = 0) -> Copying:
    """Whether training photos come back in what the checkpoint of an epoch draws, or else in what later ones draw.

    Read from `own_photo`: how much nearer to their own photos images of trained captions have come than images of
    held-out ones, both against the base under the same seeds. They seem to come back where that is 10 % or more in 75 %
    of the replicates, which draw trained and held-out photos again, each kind for itself.

    Returns:
        unmeasured where fewer than three checkpoints have the reading: no photos are held out, fewer than three, or
        they have no captions of their own.
    """
    curve = copying_curve(trajectory, seed=seed)
    if curve is None or epoch not in curve.epochs:
        return Copying("unmeasured")
    row = int(np.flatnonzero(curve.epochs == epoch)[0])
    later = np.flatnonzero(curve.seen[row + 1 :])
    status: CopyingStatus = "seen" if curve.seen[row] else "later" if later.size else "unseen"
    if status == "later":
        row += 1 + int(later[-1])
    low, high = np.quantile(curve.nearer[1:, row], [0.05, 0.95])
    return Copying(status, int(curve.epochs[row]), float(curve.nearer[0, row]), float(low), float(high))


def copying_curve(trajectory: Trajectory, *, seed: int = 0) -> CopyingCurve | None:
    """The reading, fitted, with its replicates; None where fewer than three checkpoints have it.

    Photos are reweighted as `metrics.onset.replicates.loss_curves` does it; without items the readings' intervals are
    believed.
    """
    values = trajectory.values(CHANNEL)
    rows = np.nonzero(np.isfinite(values[:, 0]))[0]
    if rows.size < 3:
        return None
    generator = np.random.default_rng([seed, 11])
    parts = [trajectory.items(name) for name in (CHANNEL, HELD_OUT)]
    known = [part[rows] for part in parts if part is not None and np.isfinite(part[rows]).all()]
    deviations = np.zeros((REPLICATES, rows.size))
    if len(known) == 2:
        for part in known:
            deviations += reweighted(part, REPLICATES, generator, student=True)
    else:
        spread = np.maximum(values[rows, 2] - values[rows, 1], 0.0) / (2 * 1.645)
        deviations += generator.normal(size=(REPLICATES, 1)) * spread
    curves = values[rows, 0] + np.vstack([np.zeros((1, rows.size)), deviations])
    return CopyingCurve(rows, trajectory.epochs[rows], -fit_valley(-curves).fit)

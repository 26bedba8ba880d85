"""The curves that onsets are read from: which losses they sum, and what stands in for one that is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import numpy as np

from metrics.onset.plateau import RISE, log_axis, plateau_end
from metrics.onset.replicates import Curves, loss_curves
from metrics.onset.restarts import without_phase
from metrics.onset.spikes import without_spikes
from metrics.onset.valley import isotonic
from metrics.trajectory.trajectory import Trajectory

Kind = Literal["context", "memory"]

REPLICATES = 300


class Sum(NamedTuple):
    """Losses that are read together.

    Attributes:
        weights: channel to its weight.
        own_error: octaves. Nine of ten onsets read from the sum lie no further from the true one than this and half of
            the replicates' standard deviation: a handful of photos, cut out or not, is not the subject itself.
        of_few: the same where one photo is held out, and where it is two or three, or not known how many; None where
            that changes nothing.
    """

    weights: Mapping[str, float]
    own_error: float
    of_few: tuple[float, float] | None = None

    def error(self, trajectory: Trajectory) -> float:
        """The own error with as many held-out photos as the trajectory has; as with few where it does not say."""
        if self.of_few is None:
            return self.own_error
        cube = trajectory.cube("heldout_loss")
        if cube is None or cube.ndim < 2:
            return self.of_few[1]
        return self.own_error if cube.shape[1] > 3 else self.of_few[int(cube.shape[1] > 1)]


# What an onset is read from: the first of these sums that was measured (`_first_measured`). What a new context costs is
# what has been forgotten of contexts (moved subjects) and, in part, the subject as it is learned: best seen in photos
# of contexts that are not trained on, and since two or three contexts are few, in photos of the same shoot.
# Weights and errors were chosen on CHOOSING concepts of the onset benchmark (docs/log.md).
SUMS: Mapping[Kind, tuple[Sum, ...]] = {
    "context": (
        Sum({"shifted_loss": 0.65, "context_loss": 0.3, "heldout_loss": 0.05}, 0.82),
        Sum({"shifted_loss": 0.65, "context_loss": 0.35}, 0.80),
        Sum({"context_loss": 1.0}, 2.05),
        Sum({"shifted_loss": 1.0, "heldout_loss": 0.4}, 0.91, of_few=(1.10, 0.91)),
        Sum({"shifted_loss": 1.0}, 1.32),
    ),
    "memory": (Sum({"heldout_loss": 1.0}, 0.42, of_few=(2.27, 0.97)),),
}
# Memory is read between these shares of the noise levels: the lowest shows how the grain changes, the highest differ
# from photo to photo. Chosen on CHOOSING concepts (docs/log.md).
MEMORY_LEVELS = (0.125, 0.625)
# Without held-out photos: what full fidelity is worth, in dips of the moved loss.
STAND_IN = 5.0
# Standard deviations of the logarithms of the context's weights: one suits one subject more, another less.
UNCERTAIN = {"context_loss": 0.2, "heldout_loss": 0.3}


class OnsetCurves(NamedTuple):
    """What one kind of onset is read from.

    Attributes:
        channels: that it rests on.
        curves: where the valley is fitted.
        measured: the losses alone, without what stands in for one.
        own_error: of the sum, in octaves (`Sum`).
    """

    channels: tuple[str, ...]
    curves: Curves
    measured: Curves
    own_error: float


def onset_curves(trajectory: Trajectory, *, seed: int = 0, ignoring: Collection[str] = ()) -> dict[Kind, OnsetCurves]:
    """The curves of each kind of onset that the trajectory's losses can place, with their replicates.

    Memory: `heldout_loss`, the lowest eighth and the highest three of its noise levels left out. Context: the first of
    `SUMS` that was measured; `shifted_loss` alone is joined by what `fidelity` says was learned. What swings with a
    restarting schedule's phase is taken out, and spikes of single checkpoints.

    Args:
        ignoring: channels that no sum may rest on.
    """
    found: dict[Kind, OnsetCurves] = {}
    for kind, sums in SUMS.items():
        chosen = _first_measured(trajectory, tuple(each for each in sums if not set(ignoring) & set(each.weights)))
        if chosen is None:
            continue
        weights = chosen.weights
        measured = loss_curves(
            trajectory,
            weights,
            num_replicates=REPLICATES,
            seed=seed,
            spreads=UNCERTAIN if len(weights) > 1 else None,
            levels=MEMORY_LEVELS if kind == "memory" else (0.0, 1.0),
        )
        if measured is None:
            continue
        channels, curves = tuple(weights), measured
        if channels == ("shifted_loss",):
            learning = _with_fidelity(trajectory, measured, seed)
            if learning is not None:
                channels, curves = (*channels, "fidelity"), learning
        effort = trajectory.effort[measured.rows]
        losses = without_spikes(without_phase(measured, effort))
        curves = losses if curves is measured else without_spikes(without_phase(curves, effort))
        found[kind] = OnsetCurves(channels, curves, losses, chosen.error(trajectory))
    return found


def _first_measured(trajectory: Trajectory, sums: tuple[Sum, ...]) -> Sum | None:
    """The first of the sums that was measured at half as many checkpoints as any of them."""
    counts = [
        int(np.isfinite([trajectory.values(name)[:, 0] for name in each.weights]).all(axis=0).sum()) for each in sums
    ]
    enough = (each for each, count in zip(sums, counts, strict=True) if count and 2 * count >= max(counts))
    return next(enough, None)


def _with_fidelity(trajectory: Trajectory, curves: Curves, seed: int) -> Curves | None:
    """Moved subjects' curves with the fidelity that has been learned in the held-out loss's place, on its scale.

    None where fidelity was measured less than twice, or the loss more likely did not fall, so that there is no scale.
    """
    value = trajectory.values("fidelity")[:, 0]
    known = np.isfinite(value)
    # smoothed: the lowest of many noisy checkpoints lies below 0 whatever the loss does
    depths = plateau_end(curves.stacked, curves.epochs, curves.jitter).depth
    if known.sum() < 2 or (depths > RISE).mean() < 0.5:
        return None
    dips = -curves.stacked.min(axis=1, keepdims=True)
    fit = isotonic(np.clip(value[known], 0, 1))[0]
    learned = np.interp(log_axis(curves.epochs), log_axis(trajectory.epochs)[known], fit)
    learned[curves.epochs == 0] = 0.0
    luck = np.random.default_rng([seed, 7]).normal(size=(len(curves.replicates), 1))
    worth = STAND_IN * np.maximum(dips, 0) * np.vstack([[[1.0]], np.exp(UNCERTAIN["heldout_loss"] * luck)])
    return curves._replace(mean=curves.mean - worth[0] * learned, replicates=curves.replicates - worth[1:] * learned)

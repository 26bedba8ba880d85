"""What a loss curve could have been with other photos, other noise draws and another checkpoint's luck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from metrics.onset.plateau import FEW
from metrics.trajectory.trajectory import Trajectory

# ln units: the upper end of what public fine-tuning logs show, 0.04 to 0.2 %
USUAL_JITTER = 0.002


class Curves(NamedTuple):
    """A channel, or a sum of channels, over its checkpoints, with replicates.

    Attributes:
        rows: [K] indices into the trajectory's checkpoints at which the channel was measured.
        epochs: [K] epochs of those rows.
        mean: [K] ln ratio to the base, averaged over items.
        replicates: [R, K] plausible means.
        jitter: standard deviation of one checkpoint around a smooth curve, ln units.
        spikes: [K] how far each checkpoint lay above (or below) its neighbours before it was laid between them; 0 where
            it is no spike.
    """

    rows: np.ndarray
    epochs: np.ndarray
    mean: np.ndarray
    replicates: np.ndarray
    jitter: float
    spikes: np.ndarray

    @property
    def stacked(self) -> np.ndarray:
        """[1 + R, K] the mean, and its replicates below it."""
        return np.vstack([self.mean, self.replicates])


def loss_curves(
    trajectory: Trajectory,
    weights: Mapping[str, float],
    *,
    num_replicates: int,
    seed: int,
    spreads: Mapping[str, float] | None = None,
    levels: tuple[float, float] = (0.0, 1.0),
) -> Curves | None:
    """A weighted sum of loss channels and `num_replicates` of its replicates.

    Photos and noise draws are reweighted crosswise (a Gaussian multiplier bootstrap: each photo's and each draw's
    deviation from the mean enters with a random weight, the same at every checkpoint, so comparisons stay paired;
    photos with Student's heavier tails, because four photos know little about their own spread).
    Source: Owen 2007, "The pigeonhole bootstrap"; Mammen 1993 for multipliers.

    Args:
        weights: channel to its weight in the sum.
        spreads: channel to the standard deviation of its weight's logarithm, where the weight is itself uncertain.
        levels: shares of the noise levels between which losses are read, where the trajectory has them one by one.

    Returns:
        None when fewer than three checkpoints have all channels.
    """
    values = np.stack([trajectory.values(channel) for channel in weights])  # [channels, T, 3]
    rows = np.nonzero(np.isfinite(values[:, :, 0]).all(axis=0))[0]
    if rows.size < 3:
        return None
    epochs = trajectory.epochs[rows]
    generator = np.random.default_rng([seed, sum(map(ord, "".join(weights)))])
    mean, deviations = np.zeros(rows.size), np.zeros((num_replicates, rows.size))
    for (channel, weight), (middle, low, high) in zip(weights.items(), np.moveaxis(values[:, rows], 2, 1), strict=True):
        cube = trajectory.cube(channel)
        if cube is None or cube.ndim < 2 or not np.isfinite(cube[rows]).all():
            spread = np.maximum(np.nan_to_num(high - low), 0) / (2 * 1.645)
            mean += weight * middle
            deviations += weight * generator.normal(size=(num_replicates, 1)) * spread
            deviations += _other_weights(channel, spreads, num_replicates, generator) * weight * middle
            continue
        cube = weight * _by_photo(trajectory, channel, _between(cube[rows], levels))
        photos = cube.reshape(*cube.shape[:2], -1).mean(axis=2)
        mean += photos.mean(axis=1)
        deviations += _other_weights(channel, spreads, num_replicates, generator) * photos.mean(axis=1)
        deviations += reweighted(photos, num_replicates, generator, student=True)
        if cube.ndim >= 4 and cube.shape[-1] >= 2:
            draws = cube.reshape(len(cube), -1, cube.shape[-1]).mean(axis=1)
            deviations += reweighted(draws, num_replicates, generator, student=False)
    jitter = checkpoint_jitter(mean, epochs)
    deviations += jitter * generator.normal(size=deviations.shape) * (epochs > 0)  # the base is 0 by definition
    return Curves(rows, epochs, mean, mean + deviations, jitter, np.zeros(len(rows)))


def _other_weights(
    channel: str, spreads: Mapping[str, float] | None, count: int, generator: np.random.Generator
) -> np.ndarray:
    """[count, 1] how much more or less a channel could weigh, as shares of its weight."""
    spread = (spreads or {}).get(channel, 0.0)
    return np.expm1(spread * generator.normal(size=(count, 1))) if spread else np.zeros((count, 1))


def checkpoint_jitter(mean: np.ndarray, epochs: np.ndarray) -> float:
    """Standard deviation of one checkpoint's luck, from how far each lies off the line through its neighbours; with
    fewer than six trained checkpoints, `USUAL_JITTER`.

    Args:
        mean: [K] curve. epochs: [K], increasing.
    """
    if (epochs > 0).sum() < FEW:
        return USUAL_JITTER
    return float(np.median(np.abs(off_neighbours(mean, epochs))) / 0.6745)


def off_neighbours(mean: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """How far each trained checkpoint but the first and the last lies off the line through its neighbours over log
    epochs, scaled so that its standard deviation is one checkpoint's."""
    trained = epochs > 0
    y, x = mean[trained], np.log2(np.maximum(epochs[trained], 0.5))
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    off = y[1:-1] - (1 - share) * y[:-2] - share * y[2:]
    return off / np.sqrt(1 + share**2 + (1 - share) ** 2)


def _between(cube: np.ndarray, levels: tuple[float, float]) -> np.ndarray:
    """The noise levels of `cube` [K, n, levels, …] whose middles lie between two shares of them."""
    if cube.ndim < 3:
        return cube
    middles = (np.arange(cube.shape[2]) + 0.5) / cube.shape[2]
    inside = (middles > levels[0]) & (middles < levels[1])
    return cube[:, :, inside] if inside.any() else cube


def _by_photo(trajectory: Trajectory, channel: str, cube: np.ndarray) -> np.ndarray:
    """Several composites of one photo are one piece of evidence: averaged where the trajectory says whose they are."""
    owners = next((r.items[f"{channel}_photo"] for r in trajectory.readings if f"{channel}_photo" in r.items), None)
    if owners is None or len(owners) != cube.shape[1] or len(np.unique(owners)) < 2:
        return cube
    return np.stack([cube[:, owners == owner].mean(axis=1) for owner in np.unique(owners)], axis=1)


def reweighted(parts: np.ndarray, count: int, generator: np.random.Generator, *, student: bool) -> np.ndarray:
    """[count, K] deviations of the mean of `parts` [K, n] under random weights of its n members."""
    number = parts.shape[1]
    if number < 2:  # one photo says nothing of how photos differ
        return np.zeros((count, len(parts)))
    weights = generator.normal(size=(count, number)) / np.sqrt(number * (number - 1))
    if student:
        freedom = max(number - 1, 3)
        weights *= np.sqrt(freedom / generator.chisquare(freedom, size=(count, 1)))
    return weights @ (parts - parts.mean(axis=1, keepdims=True)).T

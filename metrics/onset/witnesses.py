"""New contexts have two witnesses: subjects that were cut out and moved, and real photos of contexts held out as a
whole. Where they surely contradict each other, the real photos are believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metrics.onset.plateau import RISE
from metrics.onset.replicates import Curves, loss_curves
from metrics.onset.turns import MADE_UP, REAL, Disagreement
from metrics.trajectory.trajectory import Trajectory

SURE = 0.95  # of the replicates have to change in one direction: the readings' own 90 % interval leaves 0 out


def disagreement(
    trajectory: Trajectory, onsets: Sequence[float], *, num_replicates: int = 300, seed: int = 0
) -> Disagreement | None:
    """What contradicts an onset in new contexts: from the checkpoint before it to the last one, one witness surely
    rises and the other surely falls. None where they agree, or where it cannot be said.

    Sure is what the readings' own spread says: of the paired changes of all replicates (other photos, other noise
    draws, another checkpoint's luck) at least 95 % go one way by more than 0.2 %, the least that counts as a rise. A
    single photo has no spread, so it contradicts nobody.

    Args:
        onsets: epochs at which new contexts begin to get worse by one reading or another; the first that is
            contradicted counts.
    """
    moved, real = (
        loss_curves(trajectory, {channel: 1.0}, num_replicates=num_replicates, seed=seed) for channel in (MADE_UP, REAL)
    )
    if moved is None or real is None:
        return None
    both = np.intersect1d(moved.epochs, real.epochs)
    for onset in onsets:
        start = max(0, int(np.searchsorted(both, onset)) - 1)
        if start >= len(both) - 1:
            continue
        since, until = int(both[start]), int(both[-1])
        if not all(_has_spread(trajectory, channel, until) for channel in (MADE_UP, REAL)):
            continue
        directions = [_direction(curves, since, until) for curves in (moved, real)]
        if directions[0] * directions[1] < 0:
            levels = [float(curves.mean[curves.epochs == until][0]) for curves in (moved, real)]
            return Disagreement(since, until, levels[0], levels[1], moved_rises=directions[0] > 0)
    return None


def _has_spread(trajectory: Trajectory, channel: str, epoch: int) -> bool:
    _, low, high = trajectory.values(channel)[trajectory.epochs == epoch][0]
    return bool(high > low)


def _direction(curves: Curves, since: int, until: int) -> int:
    """+1: surely rises between two epochs, -1: surely falls, 0: neither is sure."""
    rows = [int(np.flatnonzero(curves.epochs == epoch)[0]) for epoch in (since, until)]
    change = curves.replicates[:, rows[1]] - curves.replicates[:, rows[0]]
    return int((change > RISE).mean() >= SURE) - int((change < -RISE).mean() >= SURE)

"""When a run has learned its subject, and when a behaviour has changed for good since then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from metrics.onset.plateau import RISE, plateau_end
from metrics.onset.replicates import Curves
from metrics.onset.turns import LearnedBy
from metrics.onset.valley import isotonic
from metrics.trajectory.readings import CHANNELS, DIVERSITY_FLOOR
from metrics.trajectory.trajectory import Trajectory

# What photos show among themselves, in the channel's own units: below it nothing has been copied, drifted or burnt.
NULL_LEVEL = {"copying": 0.5, "colour": 1.0, "composition": 1.0}
LEARNED_SHARE = 0.9  # of the best fidelity before the plateau ends
LEARNED_FLOOR = 0.2  # fidelity below which there is nothing to speak of (0 is the base, 1 as alike as the photos)
CERTAIN_DIP = 0.05  # a held-out loss that falls so far has learned something, whatever the encoder makes of it


class Learned(NamedTuple):
    """When the subject is learned, and what says so.

    Attributes:
        row: index of the first checkpoint that has learned it; None when none has.
        by: "images", whose `fidelity` shows it; "losses" alone, where images show it not clearly or were not judged;
            "assumed", where nothing measures it; "" when it is not learned.
    """

    row: int | None
    by: LearnedBy


def learned_row(trajectory: Trajectory, losses: Mapping[str, Curves], plateau_epoch: float | None) -> Learned:
    """The first checkpoint that has learned the subject.

    With `fidelity`: where its rising fit, clipped at 1, reaches 90 % of its level at the end of the plateau. Without,
    or where an encoder that hardly tells the subject from its class sees nothing: where a loss has made 90 % of its
    dip, and the dip is there in at least 95 % of the replicates.

    Args:
        plateau_epoch: where the held-out loss ends its plateau; None looks at all checkpoints.
    """
    epochs = trajectory.epochs
    value, low, _ = trajectory.values("fidelity").T
    usable = np.isfinite(value) & (epochs > 0)
    if plateau_epoch is not None and (usable & (epochs <= plateau_epoch)).any():
        usable &= epochs <= plateau_epoch
    if usable.any():
        rows = np.nonzero(usable)[0]
        fit = np.minimum(isotonic(np.minimum(value[rows], 1.0))[0], 1.0)
        if fit[-1] >= LEARNED_FLOOR and np.nanmax(low[rows]) > 0:
            return Learned(int(rows[np.argmax(fit >= LEARNED_SHARE * fit[-1])]), "images")
    least = CERTAIN_DIP if usable.any() else RISE
    for curves in (losses[kind] for kind in ("memory", "context") if kind in losses):
        end = plateau_end(curves.stacked, curves.epochs, curves.jitter)
        if (end.depth[1:] > least).mean() < 0.95:
            continue
        made = curves.mean[0] - curves.mean
        return Learned(int(curves.rows[np.argmax(made >= LEARNED_SHARE * end.depth[0])]), "losses")
    if losses and not usable.any() and epochs[0] > 0:
        return Learned(0, "assumed")  # no base: somebody's table begins with a run that may have learned all there is
    trained = np.nonzero(epochs > 0)[0]
    if losses or usable.any() or not trained.size:
        return Learned(None, "")
    return Learned(int(trained[0]), "assumed")


class BehaviourTurn(NamedTuple):
    """Where a behaviour turns: its mean is first over the threshold at `epoch`; up to `low` it surely was not, from
    `high` on it surely is (infinite: not within the trajectory)."""

    epoch: float
    low: float
    high: float


def behaviour_turn(trajectory: Trajectory, channel: str, learned: int) -> BehaviourTurn | None:
    """From where on a channel is worse than it was at `learned`, beyond doubt and at two checkpoints in a row.

    Beyond doubt: the lower end of the paired change exceeds the half-width of the reading at `learned` (its own null),
    and, for channels calibrated against the photos, the reading exceeds what the photos show among themselves
    (diversity: falls below a quarter of what they show, from where on it costs score).

    Args:
        learned: index of the checkpoint that is the reference (averaged with the next one).
    """
    values = trajectory.values(channel)
    direction = CHANNELS[channel].worse
    rows = np.nonzero(np.isfinite(values[:, 0]))[0]
    rows = rows[rows >= learned]
    if rows.size < 4 or direction == 0:
        return None
    reference = rows[:2]
    tolerance = float(np.mean(values[reference, 2] - values[reference, 1]) / 2)
    later = rows[2:]
    change, half = _change(trajectory, channel, direction, reference, later)
    ends = values[later] if direction > 0 else -values[later][:, [0, 2, 1]]  # value, low, high, larger is worse
    beyond = ends > _own_level(trajectory, channel)
    over = (change - half > tolerance) & beyond[:, 0]
    lasting = over[:-1] & over[1:]
    if not lasting.any():
        return None
    sure = int(np.argmax(lasting))
    surely_not = np.nonzero((change[:sure] + half[:sure] <= tolerance) | ~beyond[:sure, 2])[0]
    start = int(surely_not[-1]) + 1 if surely_not.size else 0
    first = start + int(np.argmax((change[start:] > tolerance) & beyond[start:, 0]))
    surely = first + np.nonzero(((change - half > tolerance) & beyond[:, 1])[first:])[0]
    low = trajectory.epochs[later[start - 1] if start else reference[-1]]
    high = trajectory.epochs[later[surely[0]]] if surely.size else np.inf
    return BehaviourTurn(float(trajectory.epochs[later[first]]), float(low), float(high))


def _own_level(trajectory: Trajectory, channel: str) -> float:
    """What a channel has to exceed, larger being worse."""
    kept = trajectory.cube(DIVERSITY_FLOOR) if channel == "diversity" else None
    return NULL_LEVEL.get(channel, -np.inf) if kept is None else -float(np.nanmean(kept))


def _change(
    trajectory: Trajectory, channel: str, direction: int, reference: np.ndarray, later: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[later] changes for the worse and half their 90 % intervals, paired where items allow."""
    items = trajectory.items(channel)
    if items is not None and items.shape[1] >= 4 and np.isfinite(items[[*reference, *later]]).all():
        change = direction * (items[later] - items[reference].mean(axis=0))
        return change.mean(axis=1), 1.645 * change.std(axis=1, ddof=1) / np.sqrt(items.shape[1])
    values = trajectory.values(channel)
    half = (values[:, 2] - values[:, 1]) / 2
    return direction * (values[later, 0] - values[reference, 0].mean()), np.hypot(half[later], half[reference].mean())

"""What a trial's twins read, joined to its readings as if the photos that they leave out had been held out of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metrics.channels.bootstrap import reading_of_items
from metrics.onset.plateau import log_axis
from metrics.trajectory.trajectory import Trajectory
from search.record.finalists import LOOKS_FOLDER
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import TwinLosses, joined_losses

CHANNEL = "heldout_loss"
POWER = 1.0
"""A twin has (k - 1)/k of the photos. After as many steps it stands for the trial's epoch times k/(k - 1) to this
power: 0 compares equal steps, 1 equal passes over the photos (docs/log.md)."""


def worth(count: int, power: float = POWER) -> float:
    """What an epoch of one of `count` twins stands for, in epochs of their trial."""
    return float((count / (count - 1)) ** power)


def read_by_twins(folder: StudyFolder, number: int, count: int) -> list[TwinLosses]:
    """What each of a trial's `count` twins read that had photos to leave out."""
    looks = folder.path / LOOKS_FOLDER
    found = [TwinLosses.load(TwinLosses.file(looks, number, count, twin)) for twin in range(count)]
    return [each for each in found if each is not None and len(each.rows)]


def with_twin_losses(trajectory: Trajectory, read: Sequence[TwinLosses], power: float = POWER) -> Trajectory:
    """The trajectory with `heldout_loss` of the photos of its twins, behind those that were held out of it anyway.
    Where the twins stand for other epochs than its own, their losses are taken between two checkpoints, in log epoch.

    Args:
        power: see `POWER`.
    """
    epochs, ratios = joined_losses(read)
    axis = log_axis(epochs * worth(len(read), power))
    places = dict(zip(trajectory.epochs.tolist(), log_axis(trajectory.epochs), strict=True))
    readings = []
    for each in trajectory.readings:
        losses = _at(axis, ratios, 0.0 if each.epoch == 0 else places[each.epoch], base=each.epoch == 0)
        own = each.items.get(CHANNEL)
        if losses is None or (own is not None and np.shape(own)[1:] != losses.shape[1:]):
            readings.append(each)
            continue
        losses = losses if own is None else np.concatenate([own, losses])
        channels = {**each.channels, CHANNEL: reading_of_items(losses)}
        readings.append(replace(each, channels=channels, items={**each.items, CHANNEL: losses}))
    return replace(trajectory, readings=tuple(readings))


def plotted(folder: StudyFolder, record: TrialRecord) -> Trajectory:
    """A trial's readings as its onset was read from them."""
    trajectory, twins = folder.trajectory(record.number), record.twins
    if twins is None or twins.onset is None:
        return trajectory
    read = read_by_twins(folder, record.number, twins.asked)
    return with_twin_losses(trajectory, read) if len(read) > 1 else trajectory


def _at(axis: np.ndarray, ratios: np.ndarray, place: float, *, base: bool) -> np.ndarray | None:
    """`[photos, levels, draws]` at a place of the axis; None beyond its end."""
    if base:
        return np.zeros(ratios.shape[1:])
    if place > axis[-1] + 1e-9:
        return None
    after = min(max(int(np.searchsorted(axis, place - 1e-9)), 1), len(axis) - 1)
    share = float(np.clip((place - axis[after - 1]) / (axis[after] - axis[after - 1]), 0, 1))
    found: np.ndarray = ratios[after] if share > 1 - 1e-9 else (1 - share) * ratios[after - 1] + share * ratios[after]
    return found

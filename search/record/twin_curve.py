"""What a trial's twins read, joined to its readings as if the photos that they leave out had been held out of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metrics.channels.bootstrap import reading_of_items
from metrics.onset.plateau import log_axis
from metrics.trajectory.trajectory import Trajectory
from search.record.finalists import LOOKS_FOLDER
from search.record.record import StudyFolder, TrialRecord
from search.record.trial_progress import checkpoint_epochs
from search.record.twins import TwinLosses
from trainer.config.config import TrainConfig

CHANNEL = "heldout_loss"
POWER = 1.0
"""A twin has n - m of the n photos. After as many steps it stands for the trial's epoch times n/(n - m) to this power:
0 compares equal steps, 1 equal passes over the photos (docs/log.md)."""


def worth(photos: int, left_out: int, power: float = POWER) -> float:
    """What an epoch of a twin that leaves out so many of its trial's photos stands for, in epochs of the trial."""
    return float((photos / (photos - left_out)) ** power)


def last_epoch(config: TrainConfig, trained: int, photos: int, left_out: int) -> int:
    """A twin's first checkpoint that stands for the last of its trial's `trained` epochs."""
    enough = trained / worth(photos, left_out)
    return next(epoch for epoch in checkpoint_epochs(config) if epoch >= enough - 1e-9)


def read_by_twins(folder: StudyFolder, number: int, count: int) -> list[TwinLosses] | None:
    """What each of a trial's `count` twins read that had photos to leave out; None where any of it is lost."""
    looks = folder.path / LOOKS_FOLDER
    found = [TwinLosses.load(TwinLosses.file(looks, number, count, twin)) for twin in range(count)]
    whole = [each for each in found if each is not None]
    return [each for each in whole if len(each.rows)] if len(whole) == count else None


def with_twin_losses(trajectory: Trajectory, read: Sequence[TwinLosses], power: float = POWER) -> Trajectory:
    """The trajectory with `heldout_loss` of the photos of its twins, in the order of their rows, behind those that were
    held out of it anyway. Where a twin stands for other epochs than its own, its losses are taken between two
    checkpoints, in log epoch.

    Args:
        read: by each twin, every photo by one of them.
        power: see `POWER`.
    """
    photos = sum(len(each.rows) for each in read)
    order = np.argsort(np.concatenate([each.rows for each in read]))
    axes = [log_axis(each.epochs * worth(photos, len(each.rows), power)) for each in read]
    places = dict(zip(trajectory.epochs.tolist(), log_axis(trajectory.epochs), strict=True))
    readings = []
    for each in trajectory.readings:
        base = each.epoch == 0
        place = 0.0 if base else places[each.epoch]
        parts = [_at(axis, twin.ratios, place, base=base) for axis, twin in zip(axes, read, strict=True)]
        there = [part for part in parts if part is not None]
        own = each.items.get(CHANNEL)
        if len(there) < len(parts) or (own is not None and np.shape(own)[1:] != there[0].shape[1:]):
            readings.append(each)
            continue
        losses = np.concatenate(there)[order]
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
    return with_twin_losses(trajectory, read) if read else trajectory


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

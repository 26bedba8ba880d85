"""A run's readings over its checkpoints: kept as one CSV and one npz, or read from anybody's table of losses."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.errors import MetricsError
from metrics.files import write_whole
from metrics.table_files.read import read_table
from metrics.trajectory.readings import CHANNELS, OWN_SCORE, Reading, Readings

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Trajectory:
    """Readings in the order of their epochs; epoch 0, when it is there, is the base without LoRA.

    Attributes:
        readings: one entry per checkpoint, epochs strictly increasing.
        unit: what `epoch` counts, in one word: "epoch", or "step" for a table that only knows steps.
        source: for people, what another program's losses were read from; "" for our own.
        checkpoints: how many there were before `grouped` took several in a row for one; 0 where it took none.

    >>> first = Readings(2, 1e-3, {"heldout_loss": Reading(-0.1, -0.12, -0.08)})
    >>> Trajectory((first,)).append(replace(first, epoch=4)).epochs.tolist()
    [2, 4]
    """

    readings: tuple[Readings, ...] = ()
    unit: str = "epoch"
    source: str = ""
    checkpoints: int = 0

    def __post_init__(self) -> None:
        epochs = [reading.epoch for reading in self.readings]
        for before, after in pairwise(epochs):
            if after <= before:
                raise MetricsError(f"trajectory: {self.unit} {after} follows {before}; they have to increase")

    def __len__(self) -> int:
        return len(self.readings)

    def append(self, readings: Readings) -> Trajectory:
        """A new trajectory with one more checkpoint. Raises MetricsError when its epoch is not later."""
        return replace(self, readings=(*self.readings, readings))

    def grouped(self, most: int) -> Trajectory:
        """At most `most` checkpoints: equally many in a row become the middle one of them, with the mean of their
        readings; the base stays by itself. Itself where there are no more.

        Of thousands, neighbours say the same: an onset is known to a part of an octave, and what is fitted to curves
        grows with their number.
        """
        base, trained = [r for r in self.readings if r.epoch == 0], [r for r in self.readings if r.epoch]
        size = -(-len(trained) // max(most - len(base), 1))
        if len(self) <= most:
            return self
        groups = [trained[start : start + size] for start in range(0, len(trained), size)]
        return replace(self, readings=(*base, *map(_mean_readings, groups)), checkpoints=len(self))

    @property
    def epochs(self) -> np.ndarray:
        """[T] int64."""
        return np.array([reading.epoch for reading in self.readings], dtype=np.int64)

    @property
    def effort(self) -> np.ndarray:
        """[T] float64, effective sum of learning rates."""
        return np.array([reading.effort for reading in self.readings], dtype=np.float64)

    @property
    def scores(self) -> np.ndarray:
        """[T] float64 in [0, 1] (of any scale under somebody's own objective), NaN where a checkpoint has none."""
        return np.array([reading.score for reading in self.readings], dtype=np.float64)

    @property
    def own_scores(self) -> np.ndarray:
        """[T] float64 in [0, 1]: the scores as we make them, whatever objective counts."""
        return self.values(OWN_SCORE)[:, 0] if self.has_objective else self.scores

    @property
    def has_objective(self) -> bool:
        """Whether its scores are those of an objective of somebody's own."""
        return any(OWN_SCORE in reading.channels for reading in self.readings)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that at least one checkpoint has: those of `CHANNELS` first, then any others."""
        present = {name for reading in self.readings for name in reading.channels}
        return (*(name for name in CHANNELS if name in present), *sorted(present - CHANNELS.keys()))

    def values(self, channel: str) -> np.ndarray:
        """[T, 3] float64: value, low and high of a channel; NaN where a checkpoint lacks it."""
        rows = np.full((len(self.readings), 3), np.nan)
        for row, reading in zip(rows, self.readings, strict=True):
            found = reading.channels.get(channel)
            if found is not None:
                row[:] = found.value, found.low, found.high
        return rows

    def cube(self, name: str) -> np.ndarray | None:
        """[T, items, ...] float64 per-item numbers; NaN where a checkpoint lacks them, None when all do.

        Raises:
            MetricsError: when two checkpoints keep different numbers of items.
        """
        kept = {row: np.asarray(r.items[name], np.float64) for row, r in enumerate(self.readings) if name in r.items}
        if not kept:
            return None
        shapes = {array.shape for array in kept.values()}
        if len(shapes) > 1:
            raise MetricsError(f"trajectory: {name} has items of different shapes {sorted(shapes)} between checkpoints")
        cube = np.full((len(self.readings), *shapes.pop()), np.nan)
        for row, array in kept.items():
            cube[row] = array
        return cube

    def items(self, channel: str) -> np.ndarray | None:
        """[T, items] float64: `cube` averaged over every axis behind the items (noise levels, draws)."""
        cube = self.cube(channel)
        if cube is None or cube.ndim < 2:
            return None
        return cube.reshape(*cube.shape[:2], -1).mean(axis=2)

    def save(self, folder: str | Path) -> None:
        """Writes `trajectory.csv` (as pandas would) and `items.npz`, each whole or not at all, the CSV last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = {name for reading in self.readings for name in reading.items}
        arrays: dict[str, np.ndarray] = {}
        for name in sorted(names):
            rows = [reading for reading in self.readings if name in reading.items]
            self.cube(name)  # raises when the shapes disagree
            arrays[name] = np.stack([np.asarray(reading.items[name], np.float64) for reading in rows])
            arrays[f"{name}{_AT}"] = np.array([reading.epoch for reading in rows], np.int64)
        write_whole(folder / "items.npz", lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
        columns = {self.unit: self.epochs.tolist(), "effort": self.effort.tolist()}
        for channel in self.channels:
            for name, values in zip(("", "_low", "_high"), self.values(channel).T.tolist(), strict=True):
                columns[channel + name] = values
        columns["score"] = self.scores.tolist()
        write_whole(folder / "trajectory.csv", lambda file: file.write(_as_csv(columns).encode()))

    @classmethod
    def load(cls, folder: str | Path) -> Trajectory:
        """Reads what `save` wrote. Raises MetricsError when the folder holds no trajectory."""
        path = Path(folder) / "trajectory.csv"
        if not path.is_file():
            raise MetricsError(f"{folder}: no trajectory.csv here")
        return read_own_table(path)


def _as_csv(columns: Mapping[str, Sequence[float]]) -> str:
    """A table as pandas writes it, in a quarter of the time; NaN is left empty."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    rows = zip(*columns.values(), strict=True)
    table.writerows(["" if value != value else value for value in row] for row in rows)
    return text.getvalue()


def _mean_readings(group: list[Readings]) -> Readings:
    middle = group[(len(group) - 1) // 2]
    rows: dict[str, list[Reading]] = {}
    arrays: dict[str, list[np.ndarray]] = {}
    for readings in group:
        for name, reading in readings.channels.items():
            rows.setdefault(name, []).append(reading)
        for name, array in readings.items.items():
            arrays.setdefault(name, []).append(np.asarray(array, np.float64))
    channels = {
        name: Reading(*(float(np.mean([getattr(each, side) for each in found])) for side in ("value", "low", "high")))
        for name, found in rows.items()
    }
    items = {name: np.mean(found, axis=0) for name, found in arrays.items() if len({each.shape for each in found}) == 1}
    scores = [readings.score for readings in group if np.isfinite(readings.score)]
    return replace(middle, channels=channels, items=items, score=float(np.mean(scores)) if scores else float("nan"))


_AT = "@epochs"  # suffix of the npz entry that says at which epochs an item array was measured


def read_own_table(path: Path) -> Trajectory:
    """Reads a `trajectory.csv` that `Trajectory.save` wrote, with the `items.npz` beside it when there is one."""
    table = read_table(path)
    unit = str(table.columns[0])
    if not {"effort", "score"} <= set(table.columns):
        raise MetricsError(f"{path}: not a trajectory: columns effort and score are missing")
    channels = [str(name) for name in table.columns if {f"{name}_low", f"{name}_high"} <= set(table.columns)]
    items = _read_items(path.with_name("items.npz"))
    readings = []
    _refuse_what_is_no_number(path, table, [unit, "effort", "score", *channels], needed=(unit, "effort"))
    for record in table.to_dict("records"):
        epoch = int(record[unit])
        present = {
            name: Reading(float(record[name]), float(record[f"{name}_low"]), float(record[f"{name}_high"]))
            for name in channels
            if not np.isnan(record[name])
        }
        readings.append(Readings(epoch, float(record["effort"]), present, items.get(epoch, {}), float(record["score"])))
    return Trajectory(tuple(readings), unit)


def _refuse_what_is_no_number(
    path: Path, table: pandas.DataFrame, names: list[str], *, needed: tuple[str, ...]
) -> None:
    import pandas

    for name in names:
        for row, value in enumerate(table[name].tolist()):
            number = isinstance(value, int | float) and not np.isinf(value)
            if not number or (name in needed and np.isnan(value)) or (name == names[0] and value % 1):
                shown = "nothing" if pandas.isna(value) else repr(value)
                raise MetricsError(f"{path}: row {row + 2}: {name} is {shown}; a number is needed")


def _read_items(path: Path) -> dict[int, Mapping[str, np.ndarray]]:
    if not path.is_file():
        return {}
    by_epoch: dict[int, dict[str, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in (key for key in arrays.files if not key.endswith(_AT)):
                for epoch, array in zip(arrays[f"{name}{_AT}"], arrays[name].astype(np.float64), strict=True):
                    by_epoch.setdefault(int(epoch), {})[name] = array
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MetricsError(f"{path}: damaged, or not written by Onset; delete it to read the table alone") from error
    return dict(by_epoch)

"""The trajectory in a table file: our own, or anybody's log of validation losses."""

from __future__ import annotations

from pathlib import Path

from metrics.loss_tables.validation_losses import read_foreign_table
from metrics.table_files.read import read_table
from metrics.table_files.trainer_logs import log_in, read_events
from metrics.trajectory.readings import CHANNELS
from metrics.trajectory.trajectory import Trajectory, read_own_table


def from_table(path: str | Path) -> Trajectory:
    """The trajectory in a file: our own table, or a trainer's log of validation losses (see
    `metrics.loss_tables.validation_losses`); or in a folder that holds either.

    Raises:
        MetricsError: one line saying what the table lacks.
    """
    path = Path(path)
    if path.is_dir():
        found = None if (path / "trajectory.csv").is_file() else log_in(path)
        if found is None:
            return Trajectory.load(path)
        if found.is_dir():
            return read_foreign_table(found, read_events(found))
        path = found
    table = read_table(path)
    if {"effort", "score"} <= set(table.columns) and any(name in table.columns for name in CHANNELS):
        return read_own_table(path)
    return read_foreign_table(path, table)

"""Reads what trainers log as they go: TensorBoard's event files, and ai-toolkit's `loss_log.db`."""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.command import one_line
from metrics.errors import MetricsError

if TYPE_CHECKING:
    import pandas

DATABASE = "loss_log.db"
EVENTS = "tfevents"
_WITHOUT = (
    "pip install tensorboard, or in TensorBoard open Scalars, tick 'Show data download links' and save the validation "
    "loss as CSV"
)
_PER_EPOCH = re.compile(r"loss/validation/epoch_average")
"""The one loss of sd-scripts whose step counts epochs."""


def is_event_log(path: Path, head: bytes) -> bool:
    """Whether a file, by its name or first bytes, is one of TensorBoard's."""
    return EVENTS in path.name or b"brain.Event:" in head[:64]


def log_in(folder: Path) -> Path | None:
    """The log that a trainer left in a folder or below it: `loss_log.db`, or the folder of event files; None without.

    Raises:
        MetricsError: there are logs of several runs.
    """
    if (folder / DATABASE).is_file():
        return folder / DATABASE
    runs = sorted({path.parent for path in folder.rglob(f"*{EVENTS}*") if path.is_file()})
    if len(runs) > 1:
        names = ", ".join(one_line(run.relative_to(folder)) for run in runs[:4])
        more = f" and {len(runs) - 4} more" if len(runs) > 4 else ""
        raise MetricsError(f"{one_line(folder)}: TensorBoard logs of several runs ({names}{more}); name one of them")
    return runs[0] if runs else None


def read_events(path: Path) -> pandas.DataFrame:
    """The numbers in an event file, or in all of a folder: columns step (or epoch), tag and value.

    What a resumed run has measured again replaces what was there, as in TensorBoard.

    Raises:
        MetricsError: the package tensorboard is not installed, or there are no numbers.
    """
    import pandas

    name = one_line(path)
    files = [path] if path.is_file() else sorted(each for each in path.iterdir() if EVENTS in each.name)
    found = [row for file in files for row in _scalars(file)]
    if not found:
        raise MetricsError(f"{name}: a TensorBoard log without numbers")
    found.sort(key=lambda row: row[0])
    series: dict[str, list[tuple[int, float]]] = {}
    for _, step, tag, value in found:
        rows = series.setdefault(tag, [])
        while rows and rows[-1][0] >= step:
            rows.pop()
        rows.append((step, value))
    per_epoch = next((tag for tag in series if _PER_EPOCH.fullmatch(tag)), None)
    time, series = ("step", series) if per_epoch is None else ("epoch", {per_epoch: series[per_epoch]})
    table = [(step, tag, value) for tag, rows in series.items() for step, value in rows]
    return pandas.DataFrame(table, columns=[time, "tag", "value"])


def read_database(path: Path) -> pandas.DataFrame:
    """The numbers in ai-toolkit's `loss_log.db`: columns step, tag and value. Nothing is written beside it.

    Raises:
        MetricsError: another database, or a damaged one.
    """
    import pandas

    name = one_line(path)
    # a training that is under way keeps its newest rows in a log beside the database
    under_way = path.with_name(f"{path.name}-wal").exists()
    place = f"{path.absolute().as_uri()}?{'mode=ro' if under_way else 'immutable=1'}"
    try:
        with contextlib.closing(sqlite3.connect(place, uri=True)) as database:
            columns = {row[1] for row in database.execute("PRAGMA table_info(metrics)")}
            if not {"step", "key", "value_real"} <= columns:
                raise MetricsError(
                    f"{name}: an SQLite database, and not ai-toolkit's {DATABASE}: write the table of losses into a CSV"
                )
            rows = database.execute(
                "SELECT step, key, value_real FROM metrics WHERE value_real IS NOT NULL ORDER BY key, step"
            ).fetchall()
    except sqlite3.Error as error:
        raise MetricsError(f"{name}: an SQLite database that cannot be read ({one_line(str(error))})") from error
    return pandas.DataFrame(rows, columns=["step", "tag", "value"])


def _scalars(file: Path) -> Iterator[tuple[float, int, str, float]]:
    """(wall time in seconds, step, tag, value) of each number in an event file, up to where it is cut off."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise MetricsError(
            f"{one_line(file)}: a TensorBoard log is read by the package tensorboard: {_WITHOUT}"
        ) from None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    scalars: set[str] = set()
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                scalars.add(value.tag)
            if value.tag in scalars:
                yield event.wall_time, int(event.step), value.tag, float(make_ndarray(value.tensor).item())

"""Which rows of other people's tables are of one run's validation, and which of them would be mixed up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.errors import MetricsError
from metrics.foreign_names import UNSURE, is_loss, listed, rank_of

if TYPE_CHECKING:
    import pandas

# Names of columns as `keys_of` writes them.
TIME_COLUMNS = ("epoch", "epochs", "step", "steps", "global_step", "trainer/global_step", "_step", "iteration")
PHOTO_COLUMNS = (
    *("image", "image_name", "image_file", "image_path", "image_id", "img", "photo", "photo_id"),
    *("file", "filename", "file_name", "path", "item", "sample", "caption"),
)
DRAW_COLUMNS = ("timestep", "timesteps", "noise", "noise_level", "draw", "seed", "batch")
ITEM_COLUMNS = (*PHOTO_COLUMNS, *DRAW_COLUMNS)
RUN_COLUMNS = ("run", "run_name", "trial", "experiment", "dir_name")
NAME_COLUMNS = ("tag", "metric", "metric_name", "variable", "key", "name")  # of tables with one row for each number
VALUE_COLUMNS = ("value", "values")
SPLIT_COLUMNS = ("split", "phase", "set", "subset", "stage", "mode")

RECURS = 0.5  # of the checkpoints that a column's value is found at, from which on it names a series


def keys_of(table: pandas.DataFrame) -> dict[str, str]:
    """Columns by their names in lower case, with "_" for spaces and signs other than "/"."""
    return {re.sub(r"[^\w/]+", "_", str(name).lower()).rstrip("_"): str(name) for name in table.columns}


def widened(path: Path, table: pandas.DataFrame) -> pandas.DataFrame:
    """A table that names what each row's number is (step, tag, value), with one column for each name instead.

    Raises:
        MetricsError: none of the names is a loss, or its rows are of several runs.
    """
    names = keys_of(table)
    named = next((names[key] for key in NAME_COLUMNS if key in names), None)
    value = next((names[key] for key in VALUE_COLUMNS if key in names), None)
    if named is None or value is None:
        return table
    tags = table[named].dropna().unique()
    if len(tags) < 2:
        return table
    if not any(is_loss(str(tag)) for tag in tags):
        raise MetricsError(f"{path}: column {named} has {listed(tags)}: none is a loss")
    kept = [names[key] for key in (*TIME_COLUMNS, *ITEM_COLUMNS, *RUN_COLUMNS, *SPLIT_COLUMNS) if key in names]
    kept = [name for name in kept if table[name].notna().all()]
    refuse_text(path, table, [value])
    times = [names[key] for key in TIME_COLUMNS if names.get(key) in kept]
    if not times:
        return table
    refuse_several_runs(path, table, names)
    losses = table[[is_loss(str(tag)) for tag in table[named]]]
    refuse_mixed(path, losses, times[0], [*kept[1:], named], measured=[value])
    return table.pivot_table(index=kept, columns=named, values=value).reset_index()


def refuse_several_runs(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> None:
    for name in (names[key] for key in RUN_COLUMNS if key in names):
        if table[name].nunique() > 1:
            found = listed(table[name].unique())
            raise MetricsError(f"{path}: column {name} names several runs ({found}); keep the rows of one")


def refuse_mixed(path: Path, table: pandas.DataFrame, time: str, items: list[str], *, measured: list[str]) -> int:
    """Refuses rows of one checkpoint that a mean would mix: of other configurations, or measured again on resuming.

    Batches of a validation, one row after another, are no such rows: their mean is what a trainer would have logged.

    Args:
        table: the validation's rows, in the file's order. time: the column that names checkpoints.
        items: columns that name photos, noise draws and such. measured: columns of the losses.

    Returns:
        The most rows that one item has at one checkpoint.

    Raises:
        MetricsError: with the column that tells the rows apart, or the row at which the table goes back.
    """
    keys = [time, *items]
    most = int(table.groupby(keys, dropna=False).size().max()) if len(table) else 0
    if most < 2:
        return most
    series = [name for name in _series(table, time) if name not in (*keys, *measured)]
    apart = [name for name in series if (table.groupby(keys, dropna=False)[name].nunique() > 1).any()]
    if apart:
        name, at = apart[0], listed(table[apart[0]].dropna().unique())
        raise MetricsError(
            f"{path}: rows of one {time} differ in column {name} ({at}): keep the rows of one, "
            f"or name the column image, timestep or seed if they are parts of one loss"
        )
    groups = table.groupby(items, dropna=False)[time] if items else [("", table[time])]
    for _, times in groups:
        steps = np.diff(times.to_numpy(np.float64)) * (1 if times.iloc[-1] >= times.iloc[0] else -1)
        back = np.nonzero(steps < 0)[0]
        if times.duplicated().any() and back.size:
            row, again = times.index[back[0] + 1], times.iloc[back[0] + 1]
            raise MetricsError(
                f"{path}: row {row + 2} goes back to {time} {again:g}: of a run that was resumed, or of another one, "
                f"keep one row for each {time}"
            )
    return most


def _series(table: pandas.DataFrame, time: str) -> list[str]:
    """Columns whose values come again at most checkpoints, as a rank or a configuration does and a measurement not."""
    checkpoints = table[time].nunique()
    names = {name: key for key, name in keys_of(table).items()}
    found = []
    for name in table.columns:
        if names.get(str(name)) in TIME_COLUMNS or is_loss(str(name)) or "loss" in str(name).lower():
            continue
        spans = table.groupby(name)[time].nunique()
        if len(spans) > 1 and spans.median() >= max(RECURS * checkpoints, 2):
            found.append(str(name))
    return found


def validation_rows(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> tuple[pandas.DataFrame, str]:
    """The rows that a column such as `split` says are a validation's, and words that say so; else all, and ""."""
    said = ""
    for name in (names[key] for key in SPLIT_COLUMNS if key in names):
        ranks = {value: rank_of(str(value)) for value in table[name].dropna().unique()}
        kept = [value for value, rank in ranks.items() if rank == min(ranks.values())]
        if not kept:
            continue
        if ranks[kept[0]] >= UNSURE:
            wanted = "none of it plainly a validation (val, eval, test); add such rows or drop the column"
            raise MetricsError(f"{path}: column {name} has {listed(kept)}, {wanted}")
        if len({str(value).strip().lower() for value in kept}) > 1:
            raise MetricsError(f"{path}: column {name} has several validations ({listed(kept)}); keep the rows of one")
        table, said = table[table[name].isin(kept)], f"{said} where {name} is {kept[0]}"
    return table, said


def refuse_text(path: Path, table: pandas.DataFrame, names: list[str]) -> None:
    """Refuses columns with anything but numbers and gaps."""
    import pandas

    for name in names:
        odd = table[name][pandas.to_numeric(table[name], errors="coerce").isna()].dropna()
        if not odd.empty:
            raise MetricsError(f"{path}: column {name} is not all numbers: {str(odd.iloc[0])!r}")

"""Reads other people's tables of validation losses: sd-scripts, TensorBoard and wandb exports, a spreadsheet."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.errors import MetricsError
from metrics.readings import CHANNELS, Reading, Readings
from metrics.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas

TIME_COLUMNS = ("epoch", "epochs", "step", "steps", "global_step", "trainer/global_step", "_step", "iteration")
ITEM_COLUMNS = ("image", "photo", "file", "filename", "item", "sample", "caption", "timestep", "noise", "draw", "seed")
RUN_COLUMNS = ("run", "run_name", "trial", "experiment")
TRAINING = re.compile(r"train|^loss/(current|average|epoch_average)$|^av[rg]_?loss$")  # the last two are sd-scripts'
LEAST_KNOWN = 0.5  # of the checkpoints that an item, or of the items that a checkpoint, must have been measured at
RATE_COLUMNS = ("lr", "learning_rate", "lr/unet", "lr/textencoder")


def read_table(path: Path) -> pandas.DataFrame:
    """Any delimited text file with a header. Raises MetricsError when there is none."""
    import pandas

    if not path.is_file():
        raise MetricsError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
        header = text.split("\n", 1)[0]
        separator = max(",;\t|", key=header.count)
        decimal = "," if separator != "," and re.search(r"\d,\d", text) and not re.search(r"\d\.\d", text) else "."
        table = pandas.read_csv(io.StringIO(text), sep=separator, decimal=decimal, skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise MetricsError(f"{path}: not a table: {str(error).splitlines()[0]}") from error
    table.columns = [str(name).strip() for name in table.columns]
    if table.empty:
        raise MetricsError(f"{path}: the table has no rows")
    return table


def read_foreign_table(path: Path, table: pandas.DataFrame) -> Trajectory:
    """The held-out loss of one run as a trajectory of ln ratios to its first checkpoint.

    Long tables (one row per image, timestep or seed) and wide ones (one column per image) keep their items, so
    that the onset's interval knows how much the images disagree. A cell that is missing is filled in from its image
    and its checkpoint (ln loss = image + checkpoint), so that no image's absence looks like a change.

    Args:
        path: named in errors.
        table: a time column (epoch or step) and one or more loss columns, any other columns.

    Raises:
        MetricsError: no time column, no loss column or training losses only, several runs, fewer than three
            checkpoints, losses at or below zero.
    """
    names = {name.lower().replace(" ", "_"): name for name in table.columns}
    _refuse_several_runs(path, table, names)
    losses = _loss_columns(path, table, names)
    table = table.dropna(subset=losses, how="all")
    time, unit = _time_column(path, table, names)
    values = _pivot(table, time, losses, [names[key] for key in ITEM_COLUMNS if key in names])
    if len(values) < 3:
        raise MetricsError(f"{path}: {len(values)} checkpoints with a loss; the onset needs at least 3")
    known = values.to_numpy(np.float64)
    if not np.isfinite(known[~np.isnan(known)]).all() or (known <= 0).any():
        raise MetricsError(f"{path}: {losses[0]} has values at or below 0, or infinite ones; losses are neither")
    epochs = values.index.to_numpy()
    logs = _filled(np.log(known))
    logs -= logs[:1]
    effort = _effort(table, time, names, epochs)
    others = {
        name: _channel(name, table.groupby(time)[names[name]].mean().dropna())
        for name in CHANNELS.keys() & names.keys() - {"heldout_loss"}
        if names[name] not in losses
    }
    readings = []
    for epoch, spent, row in zip(epochs, effort, logs, strict=True):
        spread = 1.645 * row.std(ddof=1) / np.sqrt(row.size) if row.size > 1 else 0.0
        middle = float(row.mean())
        channels = {"heldout_loss": Reading(middle, middle - spread, middle + spread)}
        for name, column in others.items():
            other = float(column.get(epoch, np.nan))
            if np.isfinite(other):
                channels[name] = Reading(other, other, other)
        readings.append(Readings(int(epoch), float(spent), channels, {"heldout_loss": row} if row.size > 1 else {}))
    return Trajectory(tuple(readings), unit, _source(losses))


def _channel(name: str, column: pandas.Series) -> pandas.Series:
    """A column named like a channel; where it holds losses as they are, ln ratios to its first checkpoint instead."""
    if not name.endswith("_loss") or column.empty or (column <= 0).any():
        return column
    return np.log(column / column.iloc[0])


def _source(losses: list[str]) -> str:
    text = f"column {losses[0]}" if len(losses) == 1 else f"columns {', '.join(losses[:3])}"
    text += f" and {len(losses) - 3} more" if len(losses) > 3 else ""
    if any(re.search(r"val|eval|held|test", name.lower()) for name in losses):
        return text
    return f"{text}, taken for a validation loss: a training loss says nothing about overfitting"


def _refuse_several_runs(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> None:
    for key in RUN_COLUMNS:
        if key in names and table[names[key]].nunique() > 1:
            found = ", ".join(map(str, table[names[key]].unique()[:4]))
            raise MetricsError(f"{path}: column {names[key]} names several runs ({found}); keep the rows of one")


def _time_column(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> tuple[str, str]:
    import pandas

    found = [key for key in TIME_COLUMNS if key in names and pandas.api.types.is_numeric_dtype(table[names[key]])]
    # A logger may note fractions of an epoch beside whole steps: only whole numbers name a checkpoint.
    found = [key for key in found if bool((table[names[key]].dropna() % 1 == 0).all())]
    whole = [key for key in found if table[names[key]].nunique() > 1]
    if found and not whole:
        raise MetricsError(
            f"{path}: {table[names[found[0]]].nunique()} checkpoints with a loss; the onset needs at least 3"
        )
    if not whole:
        have, wanted = ", ".join(map(str, table.columns[:8])), ", ".join(TIME_COLUMNS[:5])
        raise MetricsError(f"{path}: no column of whole epochs or steps (one of {wanted}); it has {have}")
    return names[whole[0]], "epoch" if whole[0].startswith("epoch") else "step"


def _loss_columns(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> list[str]:
    """The validation loss: sd-scripts' average over an epoch first, then any validation loss, then any loss that is not
    known for a training loss."""
    import pandas

    numeric = {key: name for key, name in names.items() if pandas.api.types.is_numeric_dtype(table[name])}
    losses = {key: name for key, name in numeric.items() if "loss" in key and "divergence" not in key}
    losses = {key: name for key, name in losses.items() if not re.search(r"__(min|max)$", key)}  # wandb's bands
    validation = {key: name for key, name in losses.items() if re.search(r"val|eval|held|test", key)}
    untrained = {key: name for key, name in losses.items() if not TRAINING.search(key)}
    for candidates in (validation, untrained):
        if candidates:
            return _narrow(candidates)
    if losses:
        raise MetricsError(
            f"{path}: {', '.join(losses.values())} is of the training, which falls while a LoRA overfits; "
            "a validation loss is needed"
        )
    if "value" in numeric:  # TensorBoard's own export: Wall time, Step, Value
        return [numeric["value"]]
    text = [name for key, name in names.items() if "loss" in key or key == "value"]
    if text:
        odd = table[text[0]][pandas.to_numeric(table[text[0]], errors="coerce").isna()].dropna()
        raise MetricsError(f"{path}: column {text[0]} is not all numbers: {str(odd.iloc[0])!r}")
    have = ", ".join(map(str, table.columns[:8]))
    raise MetricsError(f"{path}: no numeric loss column (a name with loss in it, or Value); it has {have}")


def _narrow(candidates: dict[str, str]) -> list[str]:
    for word in ("epoch_average", "average", "mean"):
        averages = [name for key, name in candidates.items() if key.endswith(word)]
        if averages:
            return averages[:1]
    plain = [name for key, name in candidates.items() if key in ("loss", "val_loss", "validation_loss", "eval_loss")]
    return plain[:1] or list(candidates.values())


def _pivot(table: pandas.DataFrame, time: str, losses: list[str], items: list[str]) -> pandas.DataFrame:
    """Rows = checkpoints in order, columns = items; NaN where an item is missing at a checkpoint."""
    table = table.dropna(subset=[time])
    table = table.assign(**{time: table[time].astype(int)})
    varying = [name for name in items if table[name].nunique() > 1 and table.duplicated(subset=[time]).any()]
    if varying and len(losses) == 1:
        values = table.pivot_table(index=time, columns=varying, values=losses[0], aggfunc="mean")
    else:
        values = table.groupby(time)[losses].mean()
    recurring = values.loc[:, values.notna().mean(axis=0) >= LEAST_KNOWN]
    if not recurring.shape[1]:  # every checkpoint has items of its own: only their mean can be compared
        return values.mean(axis=1).dropna().to_frame()
    return recurring[recurring.notna().mean(axis=1) >= LEAST_KNOWN]


def _filled(logs: np.ndarray) -> np.ndarray:
    """[T, items] without gaps: a missing cell is its item's plus its checkpoint's level, fitted to all others."""
    missing = np.isnan(logs)
    if not missing.any():
        return logs
    full = np.where(missing, np.nanmean(logs, axis=0), logs)
    for _ in range(200):
        rows, columns = full.mean(axis=1, keepdims=True), full.mean(axis=0, keepdims=True)
        full = np.where(missing, rows + columns - full.mean(), full)
    return full


def _effort(table: pandas.DataFrame, time: str, names: dict[str, str], epochs: np.ndarray) -> np.ndarray:
    rate = next((names[key] for key in RATE_COLUMNS if key in names), None)
    if rate is None:
        return (epochs - epochs[0]).astype(np.float64)
    rates = table.groupby(time)[rate].mean().reindex(epochs).ffill().bfill().to_numpy(np.float64)
    return np.concatenate([[0.0], np.cumsum(rates[1:] * np.diff(epochs))])

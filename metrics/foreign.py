"""Reads other people's tables of validation losses: sd-scripts, TensorBoard and wandb exports, a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.errors import MetricsError
from metrics.readings import CHANNELS, Reading, Readings
from metrics.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas

# Names of columns in lower case, "_" for spaces.
TIME_COLUMNS = ("epoch", "epochs", "step", "steps", "global_step", "trainer/global_step", "_step", "iteration")
ITEM_COLUMNS = ("image", "photo", "file", "filename", "item", "sample", "caption", "timestep", "noise", "draw", "seed")
RUN_COLUMNS = ("run", "run_name", "trial", "experiment", "dir_name")
NAME_COLUMNS = ("tag", "metric", "metric_name", "variable", "key", "name")  # of tables with one row for each number
VALUE_COLUMNS = ("value", "values")
SPLIT_COLUMNS = ("split", "phase", "set", "subset", "stage", "mode")
RATE_COLUMNS = ("lr", "learning_rate", "lr/unet", "lr/textencoder")
LOSS_CHANNELS = tuple(name for name in CHANNELS if name.endswith("_loss"))  # the held-out loss first

# Words of names, as `_words` cuts them; the surest validation and the best average come first.
VALIDATION = ("heldout", "holdout", "held", "val", "valid", "validate", "validation", "eval", "evaluation", "test")
UNSURE = len(VALIDATION)
AVERAGES = ("epoch average", "average", "avg", "mean", "epoch")
TRAINING = re.compile(r"\b(train|training)\b|^loss (current|average|epoch average)$|^av[rg] loss$")  # or sd-scripts'
NO_LOSS = re.compile(  # statistics of a loss, and what else has "loss" in its name
    r"\b(std|stdev|stddev|stderr|sem|err|error|var|variance|min|minimum|max|maximum|best|lowest|acc|accuracy"
    r"|divergence|scale|weight|count|time|runtime|type)\b|\b(low|high|lower|upper)$"
)
IMAGE_FILE = re.compile(r"(?:^|(?<=loss)|(?<=/))(?:(?!loss)[^/])*\.(?:png|jpe?g|webp|bmp|avif)\b")

LEAST_KNOWN = 0.5  # of the checkpoints that an item, or of the items that a checkpoint, must have been measured at


def read_foreign_table(path: Path, table: pandas.DataFrame) -> Trajectory:
    """The held-out loss of one run as a trajectory of ln ratios to its first checkpoint.

    Long tables (one row per image, timestep or seed) and wide ones (one column per image) keep their items, so
    that the onset's interval knows how much the images disagree. A cell that is missing is filled in from its image
    and its checkpoint (ln loss = image + checkpoint), so that no image's absence looks like a change. Columns named
    like channels are read beside it; losses among them that are ln ratios to the base already stay as they are.

    Args:
        path: named in errors.
        table: a time column (epoch or step) and one or more loss columns, any other columns; or a row for each number
            and a column (`tag`, `metric`, `variable`) that says what it is.

    Raises:
        MetricsError: no time column, no loss column or training losses only, several losses or runs, no rows of a
            validation, fewer than three checkpoints, losses at or below zero.
    """
    table = _widened(path, table)
    names = _keys(table)
    _refuse_several_runs(path, table, names)
    table, rows = _validation_rows(path, table, names)
    numbers = set(table.select_dtypes("number").columns)
    numeric = {key: name for key, name in names.items() if name in numbers}
    ratios = _ratio_columns(table, numeric)
    losses = _loss_columns(path, table)
    main = next((name for name, column in ratios.items() if [column] == losses), "heldout_loss")
    table = table.dropna(subset=losses, how="all")
    items = [names[key] for key in ITEM_COLUMNS if key in names]
    key = _time_column(path, table, numeric, items)
    time = numeric[key]
    table = table.dropna(subset=[time]).astype({time: int})
    values = _pivot(table, time, losses, items)
    if len(values) < 3:
        raise MetricsError(f"{path}: {len(values)} checkpoints with a loss; the onset needs at least 3")
    logs = _filled(_logs(path, losses[0], values.to_numpy(np.float64), raw=main not in ratios))
    logs = logs if main in ratios else logs - logs[:1]
    means = table.groupby(time).mean(numeric_only=True).reindex(values.index)
    bounded = main in ratios and logs.shape[1] == 1  # then its interval, if it has one, is in the table
    others = {
        name: _channel(path, means, numeric, name, raw=name in LOSS_CHANNELS and name not in ratios)
        for name in CHANNELS
        if name in numeric and (numeric[name] not in losses or bounded)
    }
    readings = []
    for row, (epoch, effort) in enumerate(zip(values.index, _effort(means, numeric), strict=True)):
        channels = {main: _reading(logs[row])}
        channels |= {name: Reading(*map(float, of[row])) for name, of in others.items() if np.isfinite(of[row, 0])}
        readings.append(Readings(int(epoch), float(effort), channels, {main: logs[row]} if logs.shape[1] > 1 else {}))
    unit = "epoch" if key.startswith("epoch") else "step"
    return Trajectory(tuple(readings), unit, _source(main, losses, rows, ratios))


def _source(main: str, losses: list[str], rows: str, ratios: dict[str, str]) -> str:
    text = f"column{'s' * (len(losses) > 1)} {_listed(losses)}{rows}" if main == "heldout_loss" else "none"
    if not rows and main not in ratios and _rank(losses[0]) >= UNSURE:
        text += ", taken for a validation loss: a training loss says nothing about overfitting"
    return text + (f"; ln ratios to the base: {_listed(ratios.values())}" if ratios else "")


def _listed(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


# What a name says.


def _words(name: str) -> str:
    """A name's words in lower case, without wandb's run: cut at signs and spaces, in camelCase and around digits.

    Whole words, because "retrieval" is no "val" and "latest" no "test"; only "loss" is found in "valloss", too.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _run_and_metric(name)[1])
    return " ".join(re.findall(r"loss|\d+|(?:(?!loss)[^\W\d_])+", apart.lower()))


def _run_and_metric(name: str) -> tuple[str, str]:
    """wandb heads columns "RUN - METRIC"; "" where no run is named. ("Validation - Loss" is a spreadsheet's.)"""
    run, _, metric = name.rpartition(" - ")
    named = "loss" in metric.lower() and run.strip().lower() not in {*VALIDATION, "train", "training"}
    return (run, metric) if named else ("", name)


def _is_loss(name: str) -> bool:
    return "loss" in _words(name) and not NO_LOSS.search(_words(name))


def _rank(name: str) -> int:
    """0 for the surest validation; UNSURE and more where none is named: channels of new contexts come last."""
    words = _words(name)
    found = [rank for rank, word in enumerate(VALIDATION) if word in words.split() and not TRAINING.search(words)]
    channel = words.replace(" ", "_")
    return found[0] if found else UNSURE + (LOSS_CHANNELS.index(channel) if channel in LOSS_CHANNELS else 0)


def _stem(name: str) -> str:
    """A name's words with "#" for what tells items of one loss apart: numbers, single letters, files of images."""
    words = _words(IMAGE_FILE.sub(" 0 ", name.lower()))
    return re.sub(r"\b(\d+|\w)\b( (\d+|\w)\b)*", "#", words)


# Which rows and columns are read.


def _keys(table: pandas.DataFrame) -> dict[str, str]:
    return {str(name).lower().replace(" ", "_"): str(name) for name in table.columns}


def _widened(path: Path, table: pandas.DataFrame) -> pandas.DataFrame:
    """A table that names what each row's number is (step, tag, value), with one column for each name instead."""
    names = _keys(table)
    named = next((names[key] for key in NAME_COLUMNS if key in names), None)
    value = next((names[key] for key in VALUE_COLUMNS if key in names), None)
    if named is None or value is None:
        return table
    tags = table[named].dropna().unique()
    if len(tags) < 2:
        return table
    if not any(_is_loss(str(tag)) for tag in tags):
        raise MetricsError(f"{path}: column {named} has {_listed(tags)}: none is a loss")
    kept = [names[key] for key in (*TIME_COLUMNS, *ITEM_COLUMNS, *RUN_COLUMNS, *SPLIT_COLUMNS) if key in names]
    kept = [name for name in kept if table[name].notna().all()]
    _refuse_text(path, table, [value])
    return table.pivot_table(index=kept, columns=named, values=value).reset_index() if kept else table


def _refuse_several_runs(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> None:
    for name in (names[key] for key in RUN_COLUMNS if key in names):
        if table[name].nunique() > 1:
            found = _listed(table[name].unique())
            raise MetricsError(f"{path}: column {name} names several runs ({found}); keep the rows of one")


def _validation_rows(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> tuple[pandas.DataFrame, str]:
    """The rows that a column such as `split` says are a validation's, and words that say so; else all, and ""."""
    said = ""
    for name in (names[key] for key in SPLIT_COLUMNS if key in names):
        ranks = {value: _rank(str(value)) for value in table[name].dropna().unique()}
        kept = [value for value, rank in ranks.items() if rank == min(ranks.values())]
        if not kept:
            continue
        if ranks[kept[0]] >= UNSURE:
            wanted = "none of it plainly a validation (val, eval, test); add such rows or drop the column"
            raise MetricsError(f"{path}: column {name} has {_listed(kept)}, {wanted}")
        if len({str(value).strip().lower() for value in kept}) > 1:
            raise MetricsError(f"{path}: column {name} has several validations ({_listed(kept)}); keep the rows of one")
        table, said = table[table[name].isin(kept)], f"{said} where {name} is {kept[0]}"
    return table, said


def _ratio_columns(table: pandas.DataFrame, numeric: dict[str, str]) -> dict[str, str]:
    """Loss channels and their columns where they hold ln ratios to the base, as ours do; {} where they are raw losses.

    All or none. The base's own row decides, where there is one: its ratio to itself is 0, which no loss is. Without
    it, the intervals beside them do.
    """
    losses = {name: numeric[name] for name in LOSS_CHANNELS if name in numeric}
    times = [numeric[key] for key in TIME_COLUMNS if key in numeric]
    base = table.loc[(table[times] == 0).all(axis=1) & bool(times), list(losses.values())].to_numpy(np.float64)
    base = base[~np.isnan(base)]
    ours = (base == 0).all() if base.size else any({f"{x}_low", f"{x}_high"} <= numeric.keys() for x in losses)
    return losses if ours else {}


def _loss_columns(path: Path, table: pandas.DataFrame) -> list[str]:
    """The surest validation loss, or else any loss that is not known for a training loss."""
    losses = [name for name in table.columns if _is_loss(name)]
    ranks = {name: _rank(name) for name in losses if not TRAINING.search(_words(name))}
    if losses and not ranks:
        why = "which falls while a LoRA overfits; a validation loss is needed"
        raise MetricsError(f"{path}: {_listed(losses)} is of the training, {why}")
    chosen = _one_loss(path, [name for name, rank in ranks.items() if rank == min(ranks.values())])
    chosen = chosen or [name for name in table.columns if name.lower() == "value"]  # TensorBoard's own export
    if not chosen:
        wanted = "a name with loss in it that is not its std, best or such, or Value"
        raise MetricsError(f"{path}: no numeric loss column ({wanted}); it has {_listed(table.columns)}")
    _refuse_text(path, table, chosen)
    return chosen


def _refuse_text(path: Path, table: pandas.DataFrame, names: list[str]) -> None:
    import pandas

    for name in names:
        odd = table[name][pandas.to_numeric(table[name], errors="coerce").isna()].dropna()
        if not odd.empty:
            raise MetricsError(f"{path}: column {name} is not all numbers: {str(odd.iloc[0])!r}")


def _one_loss(path: Path, names: list[str]) -> list[str]:
    """One loss among equally sure ones: an average, a plain one, or all columns when they are its items."""
    if len({_run_and_metric(name)[0] for name in names}) > 1:
        raise MetricsError(f"{path}: columns {_listed(names)} are of several runs; keep one")
    averages = ([name for name in names if _words(name).endswith(f" {ending}")] for ending in AVERAGES)
    names = next(filter(None, averages), names)
    plain = [
        name for name in names if set(_words(name).split()) <= {*VALIDATION, "loss", "out"}
    ]  # "out" of held_out_loss
    stems = {_stem(name) for name in names}
    if len(names) > 1 and not plain and (len(stems) > 1 or "#" not in stems.pop()):
        named = "named like items of one loss (val_loss_1, val_loss/dog.png)"
        raise MetricsError(f"{path}: columns {_listed(names)} are not {named}; keep one")
    return plain[:1] or names


def _time_column(path: Path, table: pandas.DataFrame, numeric: dict[str, str], items: list[str]) -> str:
    """The key of the first time that with the items tells all rows apart, or else of the one with most checkpoints."""
    found = [key for key in TIME_COLUMNS if key in numeric]
    # A logger may note fractions of an epoch beside whole steps: only whole numbers name a checkpoint.
    found = [key for key in found if bool((table[numeric[key]].dropna() % 1 == 0).all())]
    if not found:
        wanted, have = ", ".join(TIME_COLUMNS[:5]), _listed(table.columns)
        raise MetricsError(f"{path}: no column of whole epochs or steps (one of {wanted}); it has {have}")
    # Steps that begin anew in every epoch name no checkpoint.
    first = numeric[found[0]]
    found = [key for key in found if not (table.groupby(numeric[key])[first].nunique() > 1).any()]
    unique = [key for key in found if not table.duplicated([numeric[key], *items]).any()]
    return unique[0] if unique else max(found, key=lambda key: int(table[numeric[key]].nunique()))


# Numbers.


def _reading(items: np.ndarray) -> Reading:
    middle = float(items.mean())
    spread = 1.645 * float(items.std(ddof=1)) / np.sqrt(items.size) if items.size > 1 else 0.0
    return Reading(middle, middle - spread, middle + spread)


def _pivot(table: pandas.DataFrame, time: str, losses: list[str], items: list[str]) -> pandas.DataFrame:
    """Rows = checkpoints in order, columns = items; NaN where an item is missing at a checkpoint."""
    varying = [name for name in items if table[name].nunique() > 1 and table.duplicated(subset=[time]).any()]
    if varying and len(losses) == 1:
        values = table.pivot_table(index=time, columns=varying, values=losses[0], aggfunc="mean")
    else:
        values = table.groupby(time)[losses].mean()
    recurring = values.loc[:, values.notna().mean(axis=0) >= LEAST_KNOWN]
    if not recurring.shape[1]:  # every checkpoint has items of its own: only their mean can be compared
        return values.mean(axis=1).dropna().to_frame()
    return recurring[recurring.notna().mean(axis=1) >= LEAST_KNOWN]


def _logs(path: Path, name: str, values: np.ndarray, *, raw: bool) -> np.ndarray:
    """ln of raw losses; what is an ln ratio already stays. NaN stays NaN."""
    if np.isinf(values).any() or (raw and (values <= 0).any()):
        hint = " (ln ratios to the base need its row, 0 at epoch 0, or columns _low and _high)"
        hint = hint if raw and name.lower() in LOSS_CHANNELS else ""
        raise MetricsError(f"{path}: {name} has values at or below 0, or infinite ones; losses are neither{hint}")
    return np.log(values) if raw else values


def _channel(path: Path, means: pandas.DataFrame, numeric: dict[str, str], name: str, *, raw: bool) -> np.ndarray:
    """[T, 3] value, low, high of a channel, NaN where not measured; raw losses as ln ratios to their first."""
    sides = (f"{name}_low", f"{name}_high")
    sides = sides if set(sides) <= numeric.keys() and not raw else (name, name)
    rows = means[[numeric[each] for each in (name, *sides)]].to_numpy(np.float64)
    rows = _logs(path, numeric[name], rows, raw=raw) if name in LOSS_CHANNELS else rows
    return rows - rows[np.isfinite(rows[:, 0]).argmax()] if raw else rows


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


def _effort(means: pandas.DataFrame, numeric: dict[str, str]) -> np.ndarray:
    """[T] our own column of it, or else learning rates summed, or else what has passed since the first checkpoint."""
    if "effort" in numeric and means[numeric["effort"]].notna().all():
        return means[numeric["effort"]].to_numpy(np.float64)
    epochs = means.index.to_numpy(np.float64)
    rate = next((numeric[key] for key in RATE_COLUMNS if key in numeric), None)
    if rate is None:
        return epochs - epochs[0]
    rates = means[rate].ffill().bfill().to_numpy(np.float64)
    return np.concatenate([[0.0], np.cumsum(rates[1:] * np.diff(epochs))])

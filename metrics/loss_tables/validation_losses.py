"""Reads other people's tables of validation losses: sd-scripts, TensorBoard and wandb exports, a spreadsheet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.errors import MetricsError
from metrics.loss_tables.column_names import (
    AVERAGES,
    IMAGE_FILE,
    LOSS_CHANNELS,
    UNSURE,
    VALIDATION,
    is_loss,
    is_training,
    listed,
    losses_among,
    rank_of,
    run_and_metric,
    stem_of,
    words_of,
)
from metrics.loss_tables.rows import (
    FALLS,
    TIME_COLUMNS,
    item_columns,
    keys_of,
    refuse_losses_of_the_training,
    refuse_mixed,
    refuse_several_runs,
    refuse_text,
    validation_rows,
    widened,
    without_summaries,
)
from metrics.trajectory.readings import CHANNELS, Reading, Readings
from metrics.trajectory.trajectory import Trajectory

if TYPE_CHECKING:
    import pandas

RATE_COLUMNS = ("lr", "learning_rate", "lr/unet", "lr/textencoder")
# Numbers in columns' names count photos behind these words, up to a hundred of them, runs behind others, and behind all
# the rest parts of a photo's loss.
USUAL = {*VALIDATION, "loss", "out"}  # "out" of held_out_loss
PHOTOS = {*USUAL, "image", "img", "photo", "pic", "sample", "item"}
NO_PHOTO = re.compile(r"\b[tq] \d|\b\d{3,}\b")
RUNS = re.compile(r"\b(runs?|trial|rank|fold|lr|alpha|dim|config|cfg|exp|experiment|version|model|lora( v)?) \d")

LEAST_KNOWN = 0.5  # of the checkpoints that an item, or of the items that a checkpoint, must have been measured at


def read_foreign_table(path: Path, table: pandas.DataFrame) -> Trajectory:
    """The held-out loss of one run as a trajectory of ln ratios to its first checkpoint.

    Long tables (one row per image, timestep or seed) and wide ones (one column per image) keep their photos, so that
    the onset's interval knows how many they are and how much they disagree; timesteps and seeds are averaged. A cell
    that is missing is filled in from its image and its checkpoint (ln loss = image + checkpoint), so that no image's
    absence looks like a change. Columns named like channels are read beside it; losses among them that are ln ratios to
    the base already stay as they are.

    Args:
        path: named in errors.
        table: a time column (epoch or step) and one or more loss columns, any other columns; or a row for each number
            and a column (`tag`, `metric`, `variable`) that says what it is.

    Raises:
        MetricsError: no time column, no loss column or training losses only, several losses or runs, rows that a mean
            would mix, no rows of a validation, fewer than three checkpoints, losses at or below zero.
    """
    table, averaged = widened(path, table)
    names = keys_of(table)
    refuse_several_runs(path, table, names)
    table, rows = validation_rows(path, table, names)
    numbers = set(table.select_dtypes("number").columns)
    numeric = {key: name for key, name in names.items() if name in numbers}
    ratios = _ratio_columns(table, numeric)
    named, drawn = item_columns(table, names)
    losses = _loss_columns(path, table, held_out=bool(rows or named))
    main = next((name for name, column in ratios.items() if [column] == losses), "heldout_loss")
    table = table.dropna(subset=losses, how="all")
    table, items = without_summaries(table, named), [*named, *drawn]
    key = _time_column(path, table, names, numeric, items)
    time = numeric[key]
    table = table.dropna(subset=[time]).astype({time: int})
    if max(averaged, refuse_mixed(path, table, time, items, measured=losses)) > 1:
        rows += f", the mean of the rows of one {time}"
    values = _pivot(table, time, losses, items)
    if len(values) < 3:
        many = f"{len(values)} checkpoint{'s' * (len(values) != 1)}"
        raise MetricsError(f"{path}: {many} with a loss; the onset needs at least 3")
    logs = _filled(_logs(path, losses[0], values.to_numpy(np.float64), raw=main not in ratios))
    logs = logs if main in ratios else logs - logs[:1]
    photos = _photos(table, values, named)
    owned = None if photos is None else _by_photo(logs, photos)
    means = table.groupby(time).mean(numeric_only=True).reindex(values.index)
    bounded = main in ratios and logs.shape[1] == 1  # then its interval, if it has one, is in the table
    others = {
        name: _channel(path, means, numeric, name, raw=name in LOSS_CHANNELS and name not in ratios)
        for name in CHANNELS
        if name in numeric and (numeric[name] not in losses or bounded)
    }
    readings = []
    for row, (epoch, effort) in enumerate(zip(values.index, _effort(means, numeric), strict=True)):
        channels = {main: _reading(logs[row] if owned is None else owned[row])}
        channels |= {name: Reading(*map(float, of[row])) for name, of in others.items() if np.isfinite(of[row, 0])}
        readings.append(Readings(int(epoch), float(effort), channels, {} if owned is None else {main: owned[row]}))
    unit = "epoch" if key.startswith("epoch") else "step"
    return Trajectory(tuple(readings), unit, _source(main, losses, rows, ratios))


def _source(main: str, losses: list[str], rows: str, ratios: dict[str, str]) -> str:
    text = f"column{'s' * (len(losses) > 1)} {listed(losses)}{rows}" if main == "heldout_loss" else "none"
    if not rows and main not in ratios and rank_of(losses[0]) >= UNSURE:
        text += ", taken for a validation loss: a training loss says nothing about overfitting"
    return text + (f"; ln ratios to the base: {listed(ratios.values())}" if ratios else "")


# Which rows and columns are read.


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


def _loss_columns(path: Path, table: pandas.DataFrame, *, held_out: bool) -> list[str]:
    """The surest validation loss, or else, where rows or photos say that they are held out, any loss."""
    losses = losses_among(table.columns)
    refuse_losses_of_the_training(path, losses, table.columns, held_out=held_out)
    left = [name for name in losses if not is_training(name)] or losses
    chosen = _one_loss(path, [name for name in left if rank_of(name) == min(map(rank_of, left))])
    if not chosen:  # TensorBoard's own export, whose file is named run-…-tag-loss_average.csv
        chosen = [name for name in table.columns if name.lower() == "value"]
        _, named, tag = path.stem.rpartition("tag-")
        training = rank_of(tag) >= UNSURE if named else is_training(tag)
        if chosen and is_loss(tag) and training:
            raise MetricsError(f"{path}: by its name, {words_of(tag).replace(' ', '_')} is of the training, {FALLS}")
    if not chosen:
        wanted = "a name with loss in it that is not its std, best or such, or Value"
        raise MetricsError(f"{path}: no numeric loss column ({wanted}); it has {listed(table.columns)}")
    refuse_text(path, table, chosen)
    return chosen


def _one_loss(path: Path, names: list[str]) -> list[str]:
    """One loss among equally sure ones: an average, a plain one, or all columns when they are its items."""
    if len({run_and_metric(name)[0] for name in names}) > 1:
        raise MetricsError(f"{path}: columns {listed(names)} are of several runs; keep one")
    averages = ([name for name in names if words_of(name).endswith(f" {ending}")] for ending in AVERAGES)
    names = next(filter(None, averages), names)
    plain = [name for name in names if set(words_of(name).split()) <= USUAL]
    numbered = [name for name in names if set(re.sub(r"\d+", " ", words_of(name)).split()) <= USUAL]  # eval0/loss
    plain = plain or (numbered if len(numbered) == 1 else [])
    if not plain and len(names) > 1 and any(RUNS.search(words_of(name)) for name in names):
        raise MetricsError(f"{path}: columns {listed(names)} are of several runs; keep one")
    stems = {stem_of(name) for name in names}
    if len(names) > 1 and not plain and (len(stems) > 1 or "#" not in stems.pop()):
        named = "named like items of one loss (val_loss_1, val_loss/dog.png)"
        raise MetricsError(f"{path}: columns {listed(names)} are not {named}; keep one")
    return plain[:1] or names


def _time_column(
    path: Path, table: pandas.DataFrame, names: dict[str, str], numeric: dict[str, str], items: list[str]
) -> str:
    """The key of the first time that with the items tells all rows apart, or else of the one with most checkpoints."""
    # A logger may note fractions of an epoch beside whole steps: only whole numbers name a checkpoint.
    found = [key for key in TIME_COLUMNS if key in numeric and _odd_time(table[numeric[key]]) is None]
    if not found:
        wanted, have = "epoch, step, global_step, iteration", listed(table.columns)
        odd = next(((names[key], _odd_time(table[names[key]])) for key in TIME_COLUMNS if key in names), None)
        has = f"column {odd[0]} has {odd[1]!r}" if odd else f"it has {have}"
        raise MetricsError(f"{path}: no column of whole epochs or steps from 0 on ({wanted}); {has}")
    # Steps that begin anew in every epoch name no checkpoint.
    first = numeric[found[0]]
    found = [key for key in found if not (table.groupby(numeric[key])[first].nunique() > 1).any()]
    unique = [key for key in found if not table.duplicated([numeric[key], *items]).any()]
    return unique[0] if unique else max(found, key=lambda key: int(table[numeric[key]].nunique()))


def _odd_time(times: pandas.Series) -> object | None:
    """The first of them that is no whole number from 0 on, as it was written."""
    found = times.dropna().tolist()
    written = next((time for time in found if isinstance(time, str) and not time.strip().isdecimal()), None)
    return written or next((time for time in found if isinstance(time, str) or time < 0 or time % 1), None)


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


def _photos(table: pandas.DataFrame, values: pandas.DataFrame, named: list[str]) -> list[object] | None:
    """Whose loss each column of `values` is; None where that is not known, as of batches, timesteps or an average."""
    if shared := [name for name in values.columns.names if name in named]:
        return list(zip(*(values.columns.get_level_values(name) for name in shared), strict=True))
    if any(table[name].nunique() == 1 and name.lower().startswith(("im", "photo")) for name in named):
        return [0] * values.shape[1]  # one photo, its draws perhaps
    kept = [str(name) for name in values.columns]
    said = [words_of(IMAGE_FILE.sub(" 0 ", name.lower())) for name in kept]
    photos = all(set(re.sub(r"\b(\d+|\w)\b", "", each).split()) <= PHOTOS for each in said)
    owned = len(kept) > 1 and values.columns.names == [None] and photos
    return list(kept) if owned and not any(map(NO_PHOTO.search, said)) else None


def _by_photo(logs: np.ndarray, photos: list[object]) -> np.ndarray:
    """[T, photos] means of each photo's columns of `logs`."""
    columns = {photo: [each == photo for each in photos] for photo in dict.fromkeys(photos)}
    return np.stack([logs[:, of].mean(axis=1) for of in columns.values()], axis=1)


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

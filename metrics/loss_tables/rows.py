"""Which rows of other people's tables are of one run's validation, and which of them would be mixed up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metrics.errors import MetricsError
from metrics.loss_tables.column_names import (
    BESIDE_TRAINING,
    IMAGE_FILE,
    UNSURE,
    is_training,
    is_validation,
    listed,
    losses_among,
    rank_of,
    words_of,
)

if TYPE_CHECKING:
    import pandas

# Names of columns as `keys_of` writes them.
TIME_COLUMNS = (
    *("epoch", "epochs", "train/epoch", "step", "steps", "global_step", "trainer/global_step", "train/global_step"),
    *("train_step", "_step", "iteration", "iter"),
)
FILE_COLUMNS = ("file", "filename", "file_name", "file_path", "path")  # of photos where they name images
PHOTO_COLUMNS = (
    *("image", "image_name", "image_file", "image_path", "image_id", "image_idx", "image_index", "img", "img_id"),
    *("photo", "photo_id", "item", "sample", "caption"),
)
DRAW_COLUMNS = ("timestep", "timesteps", "sigma", "noise", "noise_level", "draw", "seed", "batch", "batch_idx")
RUN_COLUMNS = (
    *("run", "run_name", "run_id", "trial", "trial_id", "trial_number", "experiment", "experiment_name", "dir_name"),
    *("config", "rank", "network_dim"),
)
NAME_COLUMNS = ("tag", "metric", "metric_name", "variable", "key", "name")  # of tables with one row for each number
VALUE_COLUMNS = ("value", "values")
SPLIT_COLUMNS = ("split", "phase", "set", "subset", "stage", "mode")
SUMMARIES = ("mean", "average", "avg", "all", "total", "overall")  # rows among those of photos
IMAGES = re.compile(r"\.(?:png|jpe?g|webp|bmp|avif|gif|tiff?)$", re.IGNORECASE)

FALLS = "which falls while a LoRA overfits; a validation loss is needed"
RECURS = 0.5  # of the checkpoints that one of a column's values is found at, from which on it names series


def keys_of(table: pandas.DataFrame) -> dict[str, str]:
    """Columns by their names in lower case, with "_" for spaces and signs other than "/"."""
    return {re.sub(r"[^\w/]+", "_", str(name).lower()).rstrip("_"): str(name) for name in table.columns}


def item_columns(table: pandas.DataFrame, names: dict[str, str]) -> tuple[list[str], list[str]]:
    """The columns that name photos, and those that name parts of a photo's loss (timesteps, noise draws)."""
    photos = [names[key] for key in PHOTO_COLUMNS if key in names]
    files = [names[key] for key in FILE_COLUMNS if key in names]
    photos += [name for name in files if table[name].dropna().astype(str).str.contains(IMAGES).mean() > 0.5]
    return photos, [names[key] for key in DRAW_COLUMNS if key in names]


def without_summaries(table: pandas.DataFrame, photos: list[str]) -> pandas.DataFrame:
    """Without rows that are no photo's but the mean of all."""
    for name in photos:
        summary = table[name].astype(str).str.lower().isin(SUMMARIES)
        table = table[~summary] if 0 < summary.sum() < len(table) else table
    return table


def widened(path: Path, table: pandas.DataFrame) -> tuple[pandas.DataFrame, int]:
    """A table that names what each row's number is (step, tag, value), with one column for each name instead; and the
    most rows that were averaged.

    Raises:
        MetricsError: none of the names is a loss, or its rows are of several runs.
    """
    names = keys_of(table)
    named = next((names[key] for key in NAME_COLUMNS if key in names), None)
    value = next((names[key] for key in VALUE_COLUMNS if key in names), None)
    if named is None or value is None:
        return table, 1
    tags = [str(tag) for tag in table[named].dropna().unique()]
    losses_named = losses_among(tags)
    if not losses_named:
        if len(tags) < 2 and named == names.get("name"):  # of a run, perhaps
            return table, 1
        raise MetricsError(f"{path}: column {named} has {listed(tags)}: none is a loss")
    photos, draws = item_columns(table, names)
    kept = [*(names[key] for key in TIME_COLUMNS if key in names), *photos, *draws]
    kept += [names[key] for key in (*RUN_COLUMNS, *SPLIT_COLUMNS) if key in names]
    kept = [name for name in kept if table[name].notna().all()]
    refuse_text(path, table, [value])
    times = [names[key] for key in TIME_COLUMNS if names.get(key) in kept]
    if not times:
        return table, 1
    refuse_several_runs(path, table, names)
    held_out = bool(photos) or says_validation(table, names)
    refuse_losses_of_the_training(path, losses_named, tags, held_out=held_out)
    ranks = {tag: rank_of(tag) for tag in losses_named if held_out or not is_training(tag)}
    losses = table[table[named].isin([tag for tag, rank in ranks.items() if rank == min(ranks.values())])]
    most = refuse_mixed(path, losses, times[0], [*kept[1:], named], measured=[value])
    return table.pivot_table(index=kept, columns=named, values=value).reset_index(), most


def refuse_losses_of_the_training(path: Path, losses: Iterable[str], beside: Iterable[str], *, held_out: bool) -> None:
    """Refuses a table none of whose losses is named as a validation's: trainers have many names for what they train on.

    Args:
        losses: names of losses. beside: names of all that is logged.
        held_out: something else says that the losses are of photos held out (a column of splits or of photos).
    """
    losses = list(losses)
    if not losses or held_out or any(is_validation(name) or IMAGE_FILE.search(name.lower()) for name in losses):
        return
    rename = "(if it is of photos that are not trained on, name it val_loss)"
    if sign := next((name for name in map(str, beside) if BESIDE_TRAINING.search(words_of(name))), None):
        raise MetricsError(f"{path}: {listed(losses)} beside {sign} is of the training, {FALLS} {rename}")
    if all(map(is_training, losses)):
        raise MetricsError(f"{path}: {listed(losses)} is of the training, {FALLS} {rename}")
    unsure = "does not say that it is of a validation, and may be of the training"
    raise MetricsError(f"{path}: {listed(losses)} {unsure}, {FALLS} {rename}")


def says_validation(table: pandas.DataFrame, names: dict[str, str]) -> bool:
    """Whether a column such as `split` tells a validation's rows."""
    columns = [names[key] for key in (*SPLIT_COLUMNS, *RUN_COLUMNS) if key in names]
    return any(rank_of(str(value)) < UNSURE for name in columns for value in table[name].dropna().unique())


def refuse_several_runs(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> None:
    for name in (names[key] for key in RUN_COLUMNS if key in names):
        if table[name].nunique() > 1 and not _is_split(table[name]):
            found = listed(table[name].unique())
            raise MetricsError(f"{path}: column {name} names several runs ({found}); keep the rows of one")


def _is_split(values: pandas.Series) -> bool:
    """Whether a column of runs tells training from validation, as TensorBoard's do."""
    said = [str(value) for value in values.dropna().unique()]
    return all(rank_of(each) < UNSURE or is_training(each) for each in said)


def refuse_mixed(path: Path, table: pandas.DataFrame, time: str, items: list[str], *, measured: list[str]) -> int:
    """Refuses rows of one checkpoint that a mean would mix: of other configurations, or measured again on resuming.

    Batches of a validation, as many at each checkpoint, are no such rows: their mean is what a trainer would have
    logged.

    Args:
        table: the validation's rows, in the file's order. time: the column that names checkpoints.
        items: columns that name photos, noise draws and such. measured: columns of the losses.

    Returns:
        The most rows that one item has at one checkpoint.

    Raises:
        MetricsError: with the column that tells the rows apart, or the row at which the table goes back.
    """
    _refuse_epochs_that_go_back(path, table, time)
    keys = [time, *items]
    most = int(table.groupby(keys, dropna=False).size().max()) if len(table) else 0
    if most < 2:
        return most
    if series := _series(table, keys, measured):
        name, at = series[0], listed(table[series[0]].dropna().unique())
        raise MetricsError(
            f"{path}: rows of one {time} differ in column {name} ({at}): keep the rows of one, "
            "or name the column image, timestep or seed if they are parts of one loss"
        )
    keep = f"of a run that was resumed, or of another one; keep one row for each {time}"
    for _, rows in table.groupby(items, dropna=False) if items else [("", table)]:
        times = rows[time]
        steps = np.diff(times.to_numpy(np.float64)) * (1 if times.iloc[-1] >= times.iloc[0] else -1)
        back = np.nonzero(steps < 0)[0]
        if times.duplicated().any() and back.size:
            row, again = times.index[back[0] + 1], times.iloc[back[0] + 1]
            raise MetricsError(f"{path}: row {row + 2} goes back to {time} {again:g}: {keep}")
        counts = rows.drop_duplicates([time, *measured]).groupby(time).size()  # the last is often measured twice
        if counts.max() > counts.min():
            more, fewer = f"{counts.idxmax():g} has {counts.max()} rows", f"{counts.idxmin():g} has {counts.min()}"
            raise MetricsError(f"{path}: {time} {more}, {time} {fewer}: {keep}")
    return most


def _refuse_epochs_that_go_back(path: Path, table: pandas.DataFrame, time: str) -> None:
    """A logger's own steps count on when a run is resumed from an earlier epoch."""
    names = keys_of(table)
    for name in (names[key] for key in ("epoch", "train/epoch") if key in names and names[key] != time):
        known = table[[time, name]].dropna().sort_values(time, kind="stable")
        numbers = known[name].to_numpy(np.float64) if known[name].dtype.kind in "iuf" else np.zeros(0)
        if (back := np.nonzero(np.diff(numbers) < 0)[0]).size:
            row = int(back[0])
            went = f"{name} goes back from {numbers[row]:g} to {numbers[row + 1]:g}"
            raise MetricsError(
                f"{path}: at {time} {known[time].iloc[row + 1]:g} {went}: of a run that was resumed; "
                f"keep the rows that go on, one for each {name}"
            )


def _series(table: pandas.DataFrame, keys: list[str], measured: list[str]) -> list[str]:
    """Columns that differ among the rows of one checkpoint and together tell them apart, one of whose values comes
    again at most checkpoints, as a rank or a configuration does and a measurement not."""
    time, found = keys[0], []
    times = {name for key, name in keys_of(table).items() if key in TIME_COLUMNS}
    for name in map(str, table.columns):
        if name in {*keys, *measured, *times} or "loss" in name.lower():
            continue
        spans = table.groupby(name)[time].nunique()
        differs = (table.groupby(keys, dropna=False)[name].nunique() > 1).any()
        if differs and spans.max() >= max(RECURS * table[time].nunique(), 2):
            found.append(name)
    return found if found and not table.duplicated([*keys, *found]).any() else []


def validation_rows(path: Path, table: pandas.DataFrame, names: dict[str, str]) -> tuple[pandas.DataFrame, str]:
    """The rows that a column such as `split` says are a validation's, and words that say so; else all, and ""."""
    said = ""
    runs = [names[key] for key in RUN_COLUMNS if key in names and table[names[key]].nunique() > 1]
    for name in [*(names[key] for key in SPLIT_COLUMNS if key in names), *runs]:
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

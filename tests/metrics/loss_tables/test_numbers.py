"""Numbers of tables: gaps, logarithms, learning rates, photos; and how a trajectory is shown on the command line."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from metrics.errors import MetricsError
from metrics.loss_tables.rows import (
    item_columns,
    keys_of,
    refuse_losses_of_the_training,
    refuse_text,
    says_validation,
    without_summaries,
)
from metrics.loss_tables.table_onset import MOST_ROWS, _cell, _plain, _rows, as_record, describe
from metrics.loss_tables.validation_losses import _by_photo, _effort, _filled, _logs, _odd_time, _reading
from metrics.onset.onset import find_onset
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

FILE = Path("a.csv")


def test_gaps_are_filled_by_their_item_and_their_checkpoint() -> None:
    whole = np.add.outer(np.array([0.0, -0.2, -0.5, 0.1]), np.array([1.0, 3.0, 2.0]))  # checkpoint + item
    holes = whole.copy()
    holes[1, 0] = holes[2, 2] = holes[3, 1] = np.nan
    np.testing.assert_allclose(_filled(holes), whole, atol=1e-6)
    assert _filled(whole) is whole


def test_an_interval_is_that_of_a_mean_and_of_one_item_nothing() -> None:
    items = np.array([0.1, 0.4, 0.7])
    found = _reading(items)
    assert found.value == pytest.approx(0.4)
    assert found.high - found.value == pytest.approx(1.645 * 0.3 / np.sqrt(3))
    assert found.value - found.low == pytest.approx(found.high - found.value)
    assert _reading(items[:1]) == Reading(0.1, 0.1, 0.1)


def test_columns_of_a_photo_are_averaged() -> None:
    logs = np.array([[1.0, 2.0, 5.0], [3.0, 4.0, 7.0]])
    np.testing.assert_array_equal(_by_photo(logs, ["a", "b", "a"]), [[3, 2], [5, 4]])


@pytest.mark.parametrize(
    ("times", "odd"),
    [
        ([0, 1, 2], None),
        ([0.0, 2.0, np.nan], None),
        ([1, 1.5], 1.5),
        ([-1, 2], -1),
        (["1", "2"], "1"),
        (["1", "b"], "b"),
        ([], None),
    ],
)
def test_times_are_whole_numbers_from_0_on(times: list[Any], odd: Any) -> None:
    assert _odd_time(pd.Series(times, dtype=object)) == odd


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"effort": [0.5, 1.5, 9.0], "lr": [1.0, 1, 1]}, [0.5, 1.5, 9.0]),
        ({"effort": [0.5, np.nan, 9.0], "lr": [1.0, 2, 4]}, [0, 2 * 2, 2 * 2 + 4 * 3]),
        ({"lr": [np.nan, 2, np.nan]}, [0, 4, 10]),
        ({"learning_rate": [9, 0.5, 1]}, [0, 1, 4]),
        ({}, [0, 2, 5]),
    ],
)
def test_effort_is_our_own_or_rates_summed_or_what_has_passed(
    columns: dict[str, list[float]], expected: list[float]
) -> None:
    table = pd.DataFrame(columns, index=[3, 5, 8], dtype=float)
    np.testing.assert_allclose(_effort(table, {name: name for name in columns}), expected)


@pytest.mark.parametrize(
    ("value", "raw", "good"),
    [(0.5, True, True), (0.0, True, False), (-0.5, True, False), (-0.5, False, True), (np.inf, False, False)],
)
def test_losses_are_above_0_and_ratios_are_not_infinite(value: float, raw: bool, good: bool) -> None:
    values = np.array([1.0, value, np.nan])
    if good:
        expected = np.log(values) if raw else values
        np.testing.assert_array_equal(_logs(FILE, "val_loss", values, raw=raw), expected)
        return
    with pytest.raises(MetricsError, match=r"val_loss has values at or below 0, or infinite ones; losses are neither$"):
        _logs(FILE, "val_loss", values, raw=raw)
    with pytest.raises(MetricsError) as caught:
        _logs(FILE, "Heldout_Loss", values, raw=raw)
    assert ("need its row, 0 at epoch 0" in str(caught.value)) is raw


def test_names_are_compared_in_small_letters() -> None:
    table = pd.DataFrame(columns=["Global Step", "train/Epoch", "lr (unet)", "_step"])
    assert keys_of(table) == {
        "global_step": "Global Step", "train/epoch": "train/Epoch", "lr_unet": "lr (unet)", "_step": "_step",
    }  # fmt: skip


@pytest.mark.parametrize(("images", "photos"), [(2, []), (3, ["file"])])  # of four
def test_files_are_photos_where_most_are_images(images: int, photos: list[str]) -> None:
    table = pd.DataFrame(
        {"file": ["a.png", "b.JPG", "c.webp", "d.gif"][:images] + ["x.txt"] * (4 - images), "timestep": 1}
    )
    assert item_columns(table, keys_of(table)) == (photos, ["timestep"])


@pytest.mark.parametrize(
    ("images", "left"),
    [
        (["a", "b", "Mean"], ["a", "b"]),
        (["mean", "all"], ["mean", "all"]),
        (["a", "TOTAL", "avg"], ["a"]),
        (["a"], ["a"]),
    ],
)
def test_means_among_photos_are_left_out_and_means_alone_stay(images: list[str], left: list[str]) -> None:
    assert without_summaries(pd.DataFrame({"image": images}), ["image"])["image"].tolist() == left


@pytest.mark.parametrize(
    ("losses", "beside", "line"),
    [
        (["val_loss"], [], None),
        (["loss"], [], "loss is of the training"),
        (["my_loss"], [], "my_loss does not say that it is of a validation"),
        (["my_loss"], ["lr"], "my_loss beside lr is of the training"),
        (["my_loss"], ["grad_norm", "speed"], "my_loss beside grad_norm is of the training"),
        (["my_loss", "val_loss"], ["lr"], None),
        (["loss/a.png"], ["lr"], None),
        ([], ["lr"], None),
    ],
)
def test_a_loss_that_may_be_of_the_training_is_refused(losses: list[str], beside: list[str], line: str | None) -> None:
    refuse_losses_of_the_training(FILE, losses, beside, held_out=True)
    if line is None:
        refuse_losses_of_the_training(FILE, losses, beside, held_out=False)
        return
    with pytest.raises(MetricsError, match=f"^a.csv: {re.escape(line)}"):
        refuse_losses_of_the_training(FILE, losses, beside, held_out=False)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("split", "val", True),
        ("split", "train", False),
        ("Phase", "Test", True),
        ("run", "eval", True),
        ("note", "val", False),
    ],
)
def test_a_column_may_say_that_rows_are_a_validation_s(column: str, value: str, says: bool) -> None:
    table = pd.DataFrame({column: ["other", value, None]})
    assert says_validation(table, keys_of(table)) is says


def test_text_among_numbers_is_shown() -> None:
    table = pd.DataFrame({"a": [1, None, 3], "b": ["1", "x", "y"]})
    refuse_text(FILE, table, ["a"])
    with pytest.raises(MetricsError, match=r"a\.csv: column b is not all numbers: 'x'"):
        refuse_text(FILE, table, ["a", "b"])


def trajectory(count: int, **more: Any) -> Trajectory:
    readings = [
        Readings(
            2 * n,
            float(n),
            {"heldout_loss": Reading(-0.01 * n, -0.02 * n, 0.0), "copying": Reading(0.5, 0.5, 0.5)},
            {},
            n / 100,
        )
        for n in range(count)
    ]
    return Trajectory(tuple(readings), **{"unit": "epoch", **more})


@pytest.mark.parametrize("count", [3, MOST_ROWS, MOST_ROWS + 1, 200])
def test_of_many_checkpoints_an_even_part_is_shown_with_those_that_are_marked(count: int) -> None:
    rows = _rows(trajectory(count), {1, count - 2})
    assert {0, 1, count - 2, count - 1} <= set(rows)
    assert rows == sorted(set(rows))
    if count <= MOST_ROWS:
        assert rows == list(range(count))
    else:
        assert MOST_ROWS <= len(rows) <= MOST_ROWS + 2
        assert max(np.diff(rows)) <= count / (MOST_ROWS - 1) + 1


@pytest.mark.parametrize(
    ("name", "value", "cell"),
    [
        ("heldout_loss", np.log(1.05), "+5.00 %"),
        ("heldout_loss", np.log(0.9), "-10.00 %"),
        ("copying", 0.51234, "0.512"),
        ("copying", np.nan, ""),
    ],
)
def test_losses_are_shown_as_changes(name: str, value: float, cell: str) -> None:
    assert _cell(name, value) == cell
    assert _plain(float("nan")) is None
    assert _plain(float("inf")) is None
    assert _plain(np.float64(1.5)) == 1.5


def test_a_table_is_shown_with_its_source_and_what_is_not_known() -> None:
    short = trajectory(6, source="column val_loss")
    text = describe(short, find_onset(short)).splitlines()
    assert text[0].split() == ["epoch", "heldout_loss", "copying", "score"]
    assert [line.split()[0] for line in text[1:7]] == ["0", "2", "4", "6", "8", "10"]
    assert text[3].split()[1:5] == ["-1.98", "%", "0.500", "0.020"]
    assert "heldout_loss: column val_loss." in text
    assert any("How many photos that loss is of" in line for line in text)
    assert not any("checkpoints are" in line for line in text)
    long = trajectory(60)
    told = describe(long, find_onset(long))
    assert re.search(r"(\d+) of 60 checkpoints are shown; --json FILE writes them all", told)
    assert "heldout_loss:" not in told
    grouped = trajectory(30, checkpoints=300)
    assert (
        "300 checkpoints are read as 30, each the mean of several in a row, at the epoch of the one in their middle."
        in describe(grouped, find_onset(grouped))
    )


def test_a_record_has_every_checkpoint_and_nothing_for_what_is_not_there() -> None:
    made = trajectory(5, unit="step")
    record = as_record(made, find_onset(made))
    assert (record["unit"], record["source"], record["checkpoints_read"]) == ("step", None, 5)
    assert record["checkpoints"][2] == {
        "epoch": 4, "score": 0.02, "heldout_loss": [-0.02, -0.04, 0.0], "copying": [0.5, 0.5, 0.5],
    }  # fmt: skip
    assert as_record(trajectory(5, checkpoints=50), find_onset(made))["checkpoints_read"] == 50
    assert record["context"]["status"] == "unmeasured"

"""What trainers log as they go, and what spreadsheets save: files of TensorBoard, ai-toolkit and Excel."""

import datetime
import os
import sqlite3
import sys

import numpy as np
import openpyxl
import pandas as pd
import pytest
from torch.utils.tensorboard import SummaryWriter

from metrics.errors import MetricsError
from metrics.loss_tables.any_table import from_table
from metrics.run import main

STEPS = np.arange(50, 450, 50)
LOSSES = 0.12 - 0.02 * STEPS / (STEPS + 150)


def log(folder, series: dict[str, np.ndarray], steps=STEPS, *, new_style=False):
    with SummaryWriter(str(folder)) as writer:
        for row, step in enumerate(steps):
            for tag, values in series.items():
                writer.add_scalar(tag, values[row], int(step), new_style=new_style)
            writer.add_text("note", "not a number", int(step))
            writer.add_histogram("weights", np.arange(10.0), int(step))
    return next(folder.glob("*tfevents*"))


def assert_reads(trajectory, losses=LOSSES, times=STEPS, unit="step"):
    assert (trajectory.unit, trajectory.epochs.tolist()) == (unit, list(times))
    np.testing.assert_allclose(trajectory.values("heldout_loss")[:, 0], np.log(losses / losses[0]), atol=1e-6)


@pytest.mark.parametrize("new_style", [False, True])
@pytest.mark.parametrize(
    ("training", "validation"),
    [
        (["loss/train_step", "smooth_loss/train_step", "lr/unet"], ["loss/validation_step/total_average"]),
        (["loss/current", "loss/average", "lr/unet"], ["loss/validation/step_average"]),
        (["train_loss", "loss", "lr"], ["loss/val/pooled", "loss/val/dogs"]),
    ],
)
def test_the_validation_loss_of_an_event_file_is_read(tmp_path, training, validation, new_style):
    series = dict.fromkeys(training, 0.5 - STEPS / 1000) | dict.fromkeys(validation[1:], 0.3 + STEPS / 9000)
    file = log(tmp_path / "logs", series | {validation[0]: LOSSES}, new_style=new_style)
    trajectory = from_table(file)
    assert_reads(trajectory)
    assert trajectory.source == f"column {validation[0]}"
    assert_reads(from_table(tmp_path / "logs"))
    assert_reads(from_table(tmp_path))  # sd-scripts lays them into logs/<time>/network_train
    file.rename(tmp_path / "renamed")
    assert_reads(from_table(tmp_path / "renamed"))


def test_an_event_file_of_a_training_alone_is_refused(tmp_path, capsys):
    log(tmp_path, {"loss/current": LOSSES, "loss/average": LOSSES, "lr/unet": LOSSES})
    assert main(["--trajectory", str(tmp_path)]) == 2
    assert "loss/current, loss/average beside lr/unet is of the training" in capsys.readouterr().err


def test_validations_that_sd_scripts_logs_per_epoch_are_epochs(tmp_path):
    log(tmp_path / "a", {"loss/average": 0.5 - STEPS / 1000})
    epochs = np.arange(1, 9)
    file = log(tmp_path / "b", {"loss/validation/epoch_average": LOSSES}, epochs)
    file.rename(tmp_path / "a" / f"{file.name}.2")
    (tmp_path / "b").rmdir()
    assert_reads(from_table(tmp_path), times=epochs, unit="epoch")


def test_what_a_resumed_run_measured_again_replaces_what_was_there(tmp_path):
    log(tmp_path, {"eval/loss": np.concatenate([LOSSES[:5], [0.9, 0.9]])}, STEPS[:7])
    with SummaryWriter(str(tmp_path), filename_suffix=".resumed") as writer:
        for step, loss in zip(STEPS[5:], LOSSES[5:], strict=True):
            writer.add_scalar("eval/loss", loss, int(step))
    assert_reads(from_table(tmp_path))


def test_logs_of_several_runs_are_named(tmp_path):
    for name in ("dog-a", "dog-b"):
        log(tmp_path / name, {"eval/loss": LOSSES})
    with pytest.raises(MetricsError, match=r"several runs \(dog-a, dog-b\); name one of them"):
        from_table(tmp_path)
    assert_reads(from_table(tmp_path / "dog-a"))


def test_an_event_file_cut_off_in_the_middle_is_read_so_far(tmp_path):
    file = log(tmp_path, {"eval/loss": LOSSES})
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.rindex(b"eval/loss") + 4])
    assert_reads(from_table(file), LOSSES[:-1], STEPS[:-1])


@pytest.mark.parametrize("package", ["tensorboard", "openpyxl"])
def test_without_its_package_a_file_says_how_to_read_it(tmp_path, monkeypatch, package):
    file = (
        log(tmp_path, {"eval/loss": LOSSES}) if package == "tensorboard" else workbook(tmp_path / "a.xlsx", {"a": ROWS})
    )
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(MetricsError, match=f"pip install {package}, or "):
        from_table(file)


SCHEMA = """
CREATE TABLE steps (step INTEGER PRIMARY KEY, wall_time REAL NOT NULL);
CREATE TABLE metric_keys (key TEXT PRIMARY KEY, first_seen_step INTEGER, last_seen_step INTEGER);
CREATE TABLE metrics (step INTEGER NOT NULL, key TEXT NOT NULL, value_real REAL, value_text TEXT,
  PRIMARY KEY (step, key), FOREIGN KEY (step) REFERENCES steps(step) ON DELETE CASCADE);
"""  # as ai-toolkit's UILogger makes it


def database(path, series: dict[str, dict[int, float | None]]) -> sqlite3.Connection:
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("PRAGMA synchronous=OFF")
    writer.executescript(SCHEMA)
    writer.execute("BEGIN")
    for step in sorted({step for values in series.values() for step in values}):
        writer.execute("INSERT INTO steps VALUES (?, 1.7e9)", (step,))
    for key, values in series.items():
        rows = [(step, key, value, None if value is not None else "nan") for step, value in values.items()]
        writer.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", rows)
    writer.execute("COMMIT")
    return writer


ALL = {step: 0.5 - step / 2000 for step in range(1, 401)}
AI_TOOLKIT = {"loss/loss": ALL, "learning_rate": dict.fromkeys(ALL, 1e-4)}


@pytest.mark.parametrize("under_way", [True, False])
def test_the_validation_in_ai_toolkits_database_is_read(tmp_path, under_way):
    validation = dict(zip(STEPS.tolist(), LOSSES.tolist(), strict=True))
    writer = database(tmp_path / "loss_log.db", AI_TOOLKIT | {"val/loss": validation | {10: None}})
    if not under_way:
        writer.close()
    there = sorted(os.listdir(tmp_path))
    for place in (tmp_path / "loss_log.db", tmp_path):
        trajectory = from_table(place)
        assert_reads(trajectory)
        assert trajectory.source == "column val/loss"
    assert sorted(os.listdir(tmp_path)) == there
    writer.close()


def test_other_databases_and_trainings_without_a_validation_are_named(tmp_path):
    database(tmp_path / "loss_log.db", AI_TOOLKIT).close()
    with pytest.raises(MetricsError, match="loss/loss beside learning_rate is of the training"):
        from_table(tmp_path)
    sqlite3.connect(tmp_path / "study.db").execute("CREATE TABLE t (x)").connection.commit()
    with pytest.raises(MetricsError, match=r"an SQLite database, and not ai-toolkit's loss_log\.db"):
        from_table(tmp_path / "study.db")
    whole = (tmp_path / "loss_log.db").read_bytes()
    (tmp_path / "cut.db").write_bytes(whole[:100] + bytes(4000))
    with pytest.raises(MetricsError, match="an SQLite database that cannot be read"):
        from_table(tmp_path / "cut.db")


ROWS = [
    ("step", "val_loss", "note"),
    *((int(step), float(loss), None) for step, loss in zip(STEPS, LOSSES, strict=True)),
]


def workbook(path, sheets: dict[str, list[tuple]]):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize(
    "sheets",
    [
        {"losses": ROWS},
        {"losses": [("my dog, third try",), (), *ROWS, (), ()]},
        {"empty": [], "losses": ROWS},
        {"numbers as text": [tuple(None if cell is None else str(cell) for cell in row) for row in ROWS]},
        {"with commas": [tuple(None if cell is None else str(cell).replace(".", ",") for cell in row) for row in ROWS]},
        {"settings": [("key", "value"), ("rank", 16)], "losses": ROWS, "made": [(datetime.date(2026, 1, 2),)]},
    ],
    ids=lambda sheets: " ".join(sheets),
)
def test_the_sheet_with_the_losses_is_read(tmp_path, sheets):
    assert_reads(from_table(workbook(tmp_path / "losses.xlsx", sheets)))
    assert_reads(from_table(workbook(tmp_path / "losses.csv", sheets)))  # whatever its name


def test_a_workbook_by_pandas_is_read_and_its_rows_are_counted_as_there(tmp_path):
    rows = [(step, f"{photo}.jpg", loss * photo) for step, loss in zip(STEPS, LOSSES, strict=True) for photo in (1, 2)]
    table = pd.DataFrame(rows, columns=["step", "image", "val_loss"])
    table.to_excel(tmp_path / "a.xlsx", index=False)
    assert from_table(tmp_path / "a.xlsx").items("heldout_loss").shape == (8, 2)
    workbook(tmp_path / "b.xlsx", {"a": [*ROWS, (50, 0.1, None)]})
    with pytest.raises(MetricsError, match="row 10 goes back to step 50"):
        from_table(tmp_path / "b.xlsx")


def test_workbooks_that_do_not_say_which_table_are_named(tmp_path):
    with pytest.raises(MetricsError, match=r"several sheets hold tables \(a, b\)"):
        from_table(workbook(tmp_path / "a.xlsx", {"a": ROWS, "b": ROWS}))
    with pytest.raises(MetricsError, match="the workbook is empty"):
        from_table(workbook(tmp_path / "a.xlsx", {"a": []}))

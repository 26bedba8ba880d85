"""Tables as programs and people leave them: other encodings, comments, Markdown, JSON, and what is no table at all."""

import json
import os
import re
import sqlite3
import zipfile

import numpy as np
import pandas as pd
import pytest

from metrics.errors import MetricsError
from metrics.loss_tables.any_table import from_table
from metrics.loss_tables.table_onset import describe
from metrics.onset.onset import find_onset
from metrics.run import main
from tests.metrics.planted_onsets import plant

EPOCHS = np.arange(1, 9)
LOSSES = np.round(0.12 - 0.02 * EPOCHS / (EPOCHS + 3), 6)
PLAIN = pd.DataFrame({"epoch": EPOCHS, "val_loss": LOSSES})


def read(folder, content: str | bytes, name: str = "t.csv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return from_table(folder / name)


def refusal(folder, content: str | bytes, name: str = "t.csv") -> str:
    with pytest.raises(MetricsError) as refused:
        read(folder, content, name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def assert_reads(trajectory):
    assert trajectory.epochs.tolist() == EPOCHS.tolist()
    np.testing.assert_allclose(trajectory.values("heldout_loss")[:, 0], np.log(LOSSES / LOSSES[0]), atol=1e-9)


def markdown(rule: str, *, framed: bool = True) -> str:
    rows = [" epoch | val_loss ", rule, *(f" {e} | {loss} " for e, loss in zip(EPOCHS, LOSSES, strict=True))]
    return "\n".join(f"|{row}|" if framed else row for row in rows) + "\n"


CSV = PLAIN.to_csv(index=False)
SEMICOLONS = PLAIN.to_csv(index=False, sep=";", decimal=",")


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\n" + SEMICOLONS,
        "sep=;\r\n" + SEMICOLONS.replace("\n", "\r\n"),
        '\ufeff"sep=;"\n' + SEMICOLONS,
        "sep=,\n" + CSV,
        "# run dog-v3\n# lr: 1e-4, 20 epochs\n" + CSV,
        CSV.replace("\n3,", "\n# resumed here\n3,"),
        "\n\n" + CSV.replace("\n", "\n\n"),
        "# " + CSV,
        "# made by numpy\n# epoch val_loss\n" + PLAIN.to_csv(index=False, header=False, sep=" "),
        CSV.replace("\n", "\r"),
        markdown(":---:|:---:"),
        markdown("---|---"),
        markdown(":-:|-"),
        "# Run 3\n\nlosses | of a run:\n\n" + markdown(":-:|:-:") + "\nThe best is | epoch 5.\n",
        "| rank | steps |\n|---|---|\n| 8 | 900 |\n\n" + markdown(":---:|:---:"),
        re.sub(r"(0\.\d+)", r"**\1**", markdown(":---:|:---:"), count=1).replace("val_loss", "`val_loss`"),
        markdown(" --- | ---: "),
        markdown("--- | ---:", framed=False),
        PLAIN.to_json(orient="records", lines=True),
        PLAIN.to_json(orient="records"),
        json.dumps({"best_metric": None, "log_history": PLAIN.to_dict("records")}),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_frames_a_table_is_passed_over(tmp_path, content):
    assert_reads(read(tmp_path, content))


def test_a_log_of_transformers_keeps_its_validation(tmp_path):
    rows = [{"epoch": int(e), "loss": 0.3 / e, "learning_rate": 1e-4, "extra": {"a": [1]}} for e in EPOCHS]
    rows += [{"epoch": int(e), "eval_loss": loss} for e, loss in zip(EPOCHS, LOSSES.tolist(), strict=True)]
    assert_reads(read(tmp_path, json.dumps({"log_history": rows}), "trainer_state.json"))
    assert_reads(read(tmp_path, "\n".join(map(json.dumps, rows)), "log.jsonl"))


@pytest.mark.parametrize("encoding", ["cp932", "gbk", "cp949", "big5", "cp1252", "utf-16", "utf-8"])
def test_names_of_photos_are_read_in_the_encodings_of_spreadsheets(tmp_path, encoding):
    names = {"cp932": "犬の写真 表", "cp1252": "café ‘été’", "cp949": "강아지 사진"}.get(encoding, "小狗照片")
    table = pd.DataFrame(
        [
            (e, f"{names} {k}.jpg", loss * (1 + k / 10))
            for e, loss in zip(EPOCHS, LOSSES, strict=True)
            for k in range(3)
        ],
        columns=["epoch", "image", "val_loss"],
    )
    trajectory = read(tmp_path, table.to_csv(index=False).encode(encoding))
    assert_reads(trajectory)
    assert trajectory.items("heldout_loss").shape == (8, 3)


def test_rows_are_numbered_as_in_the_file(tmp_path):
    lines = ["# a comment", "epoch,val_loss", *(f"{e},{x}" for e, x in zip(EPOCHS, LOSSES, strict=True))]
    assert "row 11 goes back to epoch 2" in refusal(tmp_path, "\n".join([*lines, "2,0.11"]))
    assert "row 12 goes back to epoch 2" in refusal(tmp_path, "\n".join([*lines, "", "2,0.11"]))


def test_what_is_no_table_is_named_with_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
        book.writestr("xl/workbook.xml", "<workbook/>")
    with zipfile.ZipFile(tmp_path / "logs.zip", "w") as archive:
        archive.writestr("a.csv", CSV)
    sqlite3.connect(tmp_path / "made.db").execute("create table t (x)").connection.commit()
    events = (
        b"\x18" + bytes(7) + b"\xa3\x7f\x4b\x22" + b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2" + bytes(range(200))
    )
    noise = np.random.default_rng(0).bytes(500)
    for name, content, wanted in (
        ("a.xlsx", (tmp_path / "book.xlsx").read_bytes(), "an Excel workbook that cannot be read (File"),
        ("losses.csv", (tmp_path / "book.xlsx").read_bytes(), "an Excel workbook"),
        ("logs.csv", (tmp_path / "logs.zip").read_bytes(), "an archive, not a table in text: unpack it"),
        ("old.xls", b"\xd0\xcf\x11\xe0" + noise, "an old Excel workbook"),
        ("events.out.tfevents.17.host", noise, "a TensorBoard log without numbers"),
        ("log", events, "a TensorBoard log without numbers"),
        ("study.db", (tmp_path / "made.db").read_bytes(), "an SQLite database, and not ai-toolkit's"),
        ("t.parquet", b"PAR1" + noise, "a Parquet or Arrow file"),
        ("t.png", b"\x89PNG\r\n" + noise, "a picture"),
        ("t.html", b"<!DOCTYPE html><html>", "a web page"),
        ("t.csv", b"\0" * 100, "not text"),
        ("t.csv", b"  \n", "not a table: the file is empty"),
        ("t.json", b'{"epoch": [1', "not a table"),
        ("t.json", b"[1, 2]", "not a table: JSON, but not an object for each row"),
        ("t.json", b"[" * 100_000, "not a table"),
        ("t.csv", b"# only\n# comments\n", ""),
    ):  # fmt: skip
        said = refusal(tmp_path, content, name)
        assert wanted in said
        assert said.startswith(f"{tmp_path / name}: ")
        assert main(["--trajectory", str(tmp_path / name)]) == 2
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "events.out.tfevents.17.host").write_bytes(noise)
    with pytest.raises(MetricsError, match="a TensorBoard log"):
        from_table(tmp_path / "logs")


@pytest.mark.parametrize(
    "name",
    ["loss/average", "loss/current", "loss/epoch_average", "avr_loss", "loss/train_step", "smooth_loss/train_step",
     "smooth loss", "loss/loss", "train_loss", "train/loss", "step_loss", "loss/epoch", "dog - train/loss",
     "loss", "Loss", "loss_simple", "mse_loss", "total_loss", "tr_loss", "average_loss", "epoch_loss", "loss/smoothed",
     "loss/unet_avg", "loss/avr", "loss_avg_100", "prior_loss", "instance_loss", "raw loss", "loss/img", "loss/base",
     "loss/preservation", "train_loss_ema", "loss (ema)", "running_loss", "diffusion_loss", "loss_2", "lossStep"],
)  # fmt: skip
def test_training_losses_are_refused_under_the_names_of_trainers(tmp_path, name):
    for table in (
        PLAIN.rename(columns={"val_loss": name}),
        pd.DataFrame({"step": EPOCHS, "tag": name, "value": LOSSES}),
    ):
        assert f"{name} is of the training, which falls" in refusal(tmp_path, table.to_csv(index=False))
    assert_reads(read(tmp_path, PLAIN.assign(**{name: 0.3 / EPOCHS}).to_csv(index=False)))


@pytest.mark.parametrize(
    "beside", ["lr", "learning_rate", "lr/unet", "lr/d*lr", "train/grad_norm", "samples_per_second"]
)
def test_a_loss_beside_what_only_training_logs_is_of_the_training(tmp_path, beside):
    table = PLAIN.rename(columns={"val_loss": "loss"}).assign(**{beside: 1e-4})
    assert f"loss beside {beside} is of the training" in refusal(tmp_path, table.to_csv(index=False))
    long = table.melt("epoch", var_name="tag")
    assert f"loss beside {beside} is of the training" in refusal(tmp_path, long.to_csv(index=False))
    assert_reads(read(tmp_path, PLAIN.assign(**{beside: 1e-4}).to_csv(index=False)))


def test_tensorboards_export_of_a_training_loss_is_known_by_its_name(tmp_path):
    export = pd.DataFrame({"Wall time": 1.7e9 + EPOCHS, "Step": EPOCHS, "Value": LOSSES}).to_csv(index=False)
    said = refusal(tmp_path, export, "run-dog_network_train-tag-loss_average.csv")
    assert "by its name, loss_average is of the training" in said
    assert_reads(read(tmp_path, export, "run-dog_network_train-tag-loss_validation_average.csv"))


def test_the_trainers_own_log_is_refused(tmp_path):
    header = "epoch,step,loss,learning_rate,seconds,memory_gib\n"
    rows = "".join(f"{e},{40 * e},{x},0.0001,1.00,1.000\n" for e, x in zip(EPOCHS, LOSSES, strict=True))
    assert "log.csv: loss beside learning_rate is of the training" in refusal(tmp_path, header + rows, "log.csv")


def test_thousands_of_checkpoints_are_read_as_means_of_neighbours(tmp_path):
    steps = np.arange(1, 6001)
    curve = np.log(0.12) - 0.3 * steps / (steps + 300) + 0.1 * (steps / 3000) ** 2
    noise = np.random.default_rng(0).normal(0, 0.01, steps.size)
    whole = from_table(write(tmp_path / "t.csv", steps, np.exp(curve + noise)))
    grouped = whole.grouped(400)
    assert len(whole) == 6000
    assert len(grouped) == 400
    assert grouped.checkpoints == 6000
    assert set(grouped.epochs) <= set(steps.tolist())
    value = grouped.values("heldout_loss")[:, 0]
    np.testing.assert_allclose(value[1], whole.values("heldout_loss")[15:30, 0].mean(), rtol=1e-12)
    onset = find_onset(grouped)
    low = curve.min() - curve[0]
    true = steps[curve.argmin() :][curve[curve.argmin() :] - curve[0] > low - 0.15 * low][0]
    assert abs(np.log2(onset.memory.epoch / true)) < 0.15
    assert "6000 checkpoints are read as 400, each the mean of several in a row" in describe(grouped, onset)


def test_few_checkpoints_stay_as_they_are_and_the_base_stays_alone():
    trajectory = plant("valley", 2).trajectory
    assert trajectory.grouped(len(trajectory)) is trajectory
    grouped = trajectory.grouped(8)
    assert len(grouped) <= 8
    assert grouped.epochs[0] == 0
    assert grouped.values("heldout_loss")[0].tolist() == trajectory.values("heldout_loss")[0].tolist()
    assert grouped.items("heldout_loss").shape[1] == trajectory.items("heldout_loss").shape[1]


def write(path, steps, losses):
    pd.DataFrame({"step": steps, "val_loss": losses}).to_csv(path, index=False)
    return path


def test_pipes_devices_and_endless_files_are_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with (tmp_path / "endless.csv").open("wb") as file:
        file.truncate(2**31)  # no block of it is on the disk
    for path, why in (("pipe.csv", "a pipe"), ("/dev/zero", "a device"), ("endless.csv", r"2\.0 GiB are too many")):
        with pytest.raises(MetricsError, match=why):
            from_table(tmp_path / path)


def _rewritten(folder, change, name: str):
    """A workbook whose sheet's XML is changed."""
    PLAIN.to_excel(folder / "whole.xlsx", index=False)
    with zipfile.ZipFile(folder / "whole.xlsx") as whole, zipfile.ZipFile(folder / name, "w", 8) as written:
        for part in whole.namelist():
            content = whole.read(part)
            written.writestr(part, change(content) if part.endswith("sheet1.xml") else content)
    return folder / name


def test_workbooks_that_swell_are_refused_in_one_line(tmp_path):
    entities = b'<!DOCTYPE l [<!ENTITY a "' + b"x" * 1000 + b'">'
    entities += b"".join(b'<!ENTITY %c "%s">' % (98 + i, (b"&%c;" % (97 + i)) * 20) for i in range(8)) + b"]>"

    def laughing(xml: bytes) -> bytes:
        return entities + xml.replace(b"<sheetData>", b"<sheetData>&i;", 1)

    def long(xml: bytes) -> bytes:
        return xml + b" " * (300 * 2**20)

    for change, why in ((laughing, "an Excel workbook that cannot be read"), (long, "MiB unpacked: at most 256")):
        with pytest.raises(MetricsError, match=why) as caught:
            from_table(_rewritten(tmp_path, change, "t.xlsx"))
        assert len(str(caught.value).splitlines()) == 1

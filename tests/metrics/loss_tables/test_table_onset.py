"""The onset of a table on the command line: text, JSON and picture."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metrics.loss_tables.table_onset import as_text, describe, main
from metrics.onset.onset import find_onset
from metrics.onset.plot import plot_onset
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory
from tests.metrics.planted_onsets import plant


def test_a_table_of_losses_gets_its_onset_json_and_picture(tmp_path, capsys):
    epochs = np.arange(0, 122, 2)
    losses = 0.12 * np.exp(-0.3 * epochs / (epochs + 6) + 0.1 * (epochs / 60) ** 2)
    pd.DataFrame({"epoch": epochs, "val_loss": losses}).to_csv(tmp_path / "run.csv", index=False)
    assert main(tmp_path / "run.csv", tmp_path / "out" / "onset.png", tmp_path / "out" / "onset.json") == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "onset.json").read_text())
    assert record["memory"]["status"] == "found"
    assert record["context"]["status"] == "unmeasured"
    assert (record["unit"], record["source"]) == ("epoch", "column val_loss")
    assert [each["epoch"] for each in record["checkpoints"]] == epochs.tolist()
    assert record["checkpoints"][-1]["heldout_loss"][0] == pytest.approx(np.log(losses[-1] / losses[0]))
    assert f"of {len(epochs)} checkpoints are shown" in said
    curve = np.log(losses / losses[0])
    true = epochs[curve.argmin() :][curve[curve.argmin() :] > curve.min() - 0.15 * curve.min()][0]
    assert abs(np.log2(record["memory"]["epoch"] / true)) < 0.1
    assert f"{record['sentence']}" in said
    assert "memory onset" in said
    assert (tmp_path / "out" / "onset.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["onset.json", "onset.png"]


def test_the_page_marks_what_happens_and_stays_short():
    trajectory = plant("valley", 2).trajectory
    onset = find_onset(trajectory)
    page = describe(trajectory, onset).splitlines()
    assert len(page) < 36
    marked = {word: line for line in page[:-2] for word in ("learned", "ship", "context onset") if word in line}
    assert int(marked["ship"].split()[0]) == onset.best
    assert int(marked["learned"].split()[0]) == onset.learned
    assert page[-1] == onset.sentence


def test_what_images_do_is_drawn_beside_the_onset(tmp_path, capsys):
    plant("valley", 2).trajectory.save(tmp_path)
    main(tmp_path / "trajectory.csv", tmp_path / "onset.png")
    assert "onset-behaviour.png" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["onset-behaviour.png", "onset.png"]


def test_the_picture_shows_thumbnails_and_truth(tmp_path):
    from PIL import Image

    trajectory = plant("valley", 2).trajectory
    onset = find_onset(trajectory)
    images = np.full((3, 20, 10, 3), [250, 0, 250], np.uint8)
    truth = {"shifted_loss": (trajectory.epochs, trajectory.values("shifted_loss")[:, 0])}
    plot_onset(tmp_path / "plain.png", trajectory, onset)
    plot_onset(
        tmp_path / "full.png", trajectory, onset, thumbnails=([0, 60, 120], images), truth=truth, title="trial 7"
    )
    plain, full = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("plain", "full"))
    assert full.shape[0] > plain.shape[0]
    magenta = (full == [250, 0, 250]).all(axis=2)
    assert magenta.sum() > 10_000
    assert not (plain == [250, 0, 250]).all(axis=2).any()


def test_a_table_without_a_trend_marks_no_checkpoint_anywhere(tmp_path, capsys):
    losses = 0.12 + 0.0002 * np.random.default_rng(0).normal(size=30)
    pd.DataFrame({"epoch": np.arange(1, 31), "val_loss": losses}).to_csv(tmp_path / "flat.csv", index=False)
    assert main(tmp_path / "flat.csv", tmp_path / "flat.png", tmp_path / "flat.json") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert len(rows) == 24
    assert not [row for row in rows if "ship" in row or "learned" in row or "onset" in row]
    record = json.loads((tmp_path / "flat.json").read_text())
    assert (record["status"], record["best"], record["learned"]) == ("never_learned", None, None)


@pytest.mark.parametrize(("count", "read"), [(400, 400), (401, 201)])
def test_more_than_400_checkpoints_are_read_in_groups(tmp_path, capsys, count, read):
    steps = np.arange(1, count + 1)
    losses = 0.1 + 0.05 * np.exp(-steps / 60)
    pd.DataFrame({"step": steps, "val_loss": losses}).to_csv(tmp_path / "t.csv", index=False)
    assert main(tmp_path / "t.csv", json_path="-") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["checkpoints_read"], len(record["checkpoints"])) == (count, read)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_plain_letters_where_a_console_knows_no_others(monkeypatch, encoding):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    text = {"source": "Verlust für 犬"}
    assert as_text(text) == as_text(text, for_console=encoding == "utf-8") == '{\n  "source": "Verlust für 犬"\n}'
    assert as_text(text, for_console=True).isascii() is (encoding == "ascii")
    assert json.loads(as_text(text, for_console=True)) == text


def test_without_scores_there_is_no_column_for_them(tmp_path):
    losses = [0.0, -0.1, -0.2, -0.15, -0.1]
    rows = [Readings(n, float(n), {"heldout_loss": Reading(v, v, v)}) for n, v in enumerate(losses)]
    plain = Trajectory(tuple(rows))
    text = describe(plain, find_onset(plain)).splitlines()
    assert text[0].split() == ["epoch", "heldout_loss"]
    assert text[2].split()[:3] == ["1", "-9.52", "%"]
    noted = [line for line in text[1:6] if not line.endswith("%")]
    assert noted
    assert all(re.search(r"%  \S", line) for line in noted)
    some = Trajectory((*rows[:-1], replace(rows[-1], score=0.5)))
    text = describe(some, find_onset(some)).splitlines()
    assert text[0].split() == ["epoch", "heldout_loss", "score"]
    assert "0.500" in text[5]
    assert not any("0.500" in line or "nan" in line for line in text[1:5])

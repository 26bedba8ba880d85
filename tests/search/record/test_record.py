"""What is written can be read again, whole, by a reader who has neither Optuna nor torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metrics.trajectory.readings import Reading, Readings
from search.record.added_prompts import AddedPrompts
from search.record.events import Checkpointed
from search.record.json_files import write_json
from search.record.record import StudyFolder, TrialRecord, write_samples
from search.study.settings import KeepSection
from search.verdict.disk_cleanup import drop_after, sweep_study, tidy_trial
from tests.search.any_config import CONFIG


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    record = TrialRecord(
        number=7, state="complete", config=CONFIG, params={"rank": 4}, epochs=10, value=np.float64(0.5)
    )
    record.save(folder.trial(7))
    assert folder.numbers() == [7]
    assert next(iter(folder.records())) == record


def test_a_record_has_a_line_for_each_of_its_names(tmp_path: Path) -> None:
    """Whatever is in them: what cannot be encoded, no number, an array's number, a path."""
    record = TrialRecord(
        number=7,
        state="failed",
        config=CONFIG,
        params={"rank": np.int64(4), "file": tmp_path},
        epochs=10,
        value=float("nan"),
        error="caption \udc8e\nis broken",
    )
    record.save(tmp_path)
    text = (tmp_path / "record.json").read_text(encoding="utf-8")
    assert text.splitlines()[0] + text.splitlines()[-1] == "{}"
    for line in text.splitlines()[1:-1]:
        (name,) = json.loads("{" + line.removesuffix(",") + "}")
        assert name == "version" or hasattr(record, name)
    kept = json.loads(text)
    assert kept["params"] == {"rank": 4, "file": str(tmp_path)}
    assert kept["error"] == record.error
    assert np.isnan(kept["value"])


def test_samples_come_back_by_prompt_and_seed(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    write_json(folder.cache / "probe" / "probe.json", {"prompts": ["a", "b", "c"], "seeds": [1, 2]})
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 16, 3), dtype=np.uint8)
    write_samples(folder.samples_file(0, 5), images, 2)
    assert folder.sampled_epochs(0) == [5]
    assert (folder.samples(0, 5) == images.reshape(3, 2, 8, 16, 3)).all()


def test_prompts_that_were_added_are_white_where_they_were_not_drawn_yet(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    about = {"prompts": ["a", "b"], "sets": ["A", "C"], "seeds": [1, 2], "size": [16, 8]}
    write_json(folder.cache / "probe" / "probe.json", about)
    images = np.random.default_rng(0).integers(0, 255, (6, 8, 16, 3), dtype=np.uint8)
    write_samples(folder.samples_file(0, 5), images[:4], 2)
    write_samples(folder.samples_file(1, 5), images, 2)
    AddedPrompts(("{class} at night",), ("toy at night",)).save(folder)
    assert folder.probe().prompts == ("a", "b", "toy at night")
    assert folder.probe().sets == ("A", "C", "C")
    assert (folder.samples(1, 5) == images.reshape(3, 2, 8, 16, 3)).all()
    earlier = folder.samples(0, 5)
    assert (earlier[:2] == images[:4].reshape(2, 2, 8, 16, 3)).all()
    assert (earlier[2] == 255).all()


def test_readings_come_back_exactly(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 2))
    readings = Readings(5, 0.1 + 0.2, {"fidelity": Reading(1 / 3, -np.inf, 2.0)}, {"heldout_loss": values}, 1 / 7)
    Checkpointed(3, 5, readings, {"train": 1.5}, {"rss_gib": 0.25}).save(tmp_path)
    again = Checkpointed.load(tmp_path, 3, 5)
    assert again.readings.effort == readings.effort
    assert again.readings.channels == readings.channels
    assert again.readings.score == readings.score
    assert (again.readings.items["heldout_loss"] == values).all()
    assert again.timings == {"train": 1.5}
    assert Checkpointed.epochs(tmp_path) == [5]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A trial's folder with checkpoints, readings and samples of four epochs."""
    for epoch in (2, 4, 6, 8):
        checkpoint = tmp_path / "checkpoints" / f"{epoch:04d}"
        checkpoint.mkdir(parents=True)
        for name in ("lora.safetensors", "state.safetensors", "state.json"):
            (checkpoint / name).write_text("x")
        for name in (f"readings/{epoch:04d}.npz", f"samples/{epoch:04d}.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("x")
    return tmp_path


def kept(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_what_was_trained_beyond_the_end_is_dropped(trained: Path) -> None:
    drop_after(trained, 4)
    assert {p.split("/")[1].split(".")[0] for p in kept(trained)} == {"0002", "0004"}


@pytest.mark.parametrize(
    ("state", "checkpoints", "expected"),
    [
        ("complete", "best", {"checkpoints/0004/lora.safetensors"}),
        ("pruned", "best", set()),
        ("pruned", "all", {f"checkpoints/000{e}/lora.safetensors" for e in (2, 4, 6)}),
    ],
)
def test_what_is_kept_is_a_setting(trained: Path, state: str, checkpoints: str, expected: set[str]) -> None:
    record = TrialRecord(number=0, state=state, config=CONFIG, params={}, epochs=8, epochs_trained=6, epoch_shipped=4)
    tidy_trial(trained, record, KeepSection(checkpoints=checkpoints, samples=False), in_detail=False)
    assert kept(trained) == expected


def test_what_kills_left_half_written_goes_and_what_is_whole_stays(tmp_path: Path) -> None:
    look, twins = tmp_path / "finalists" / "0002", tmp_path / "finalists" / "0002" / "twins-3"
    whole = [tmp_path / ".coordinator.lock", look / "0006.png", twins / "0.npz", twins / "1" / "losses" / "0002.npy"]
    cut_off = [
        tmp_path / ".verdict.json.0123456789ab",
        tmp_path / "finalists" / ".strengths.json.0123456789ab",
        look / ".3513ec14d691f4ed.part",
        look / "retrained" / ".0006.npz.0123456789ab",
        twins / ".1.npz.0123456789ab",
        twins / ".3513ec14d691f4ed.part" / "checkpoints" / "0002" / "lora.safetensors",  # half deleted
        twins / "1" / "losses" / ".0004.npy.0123456789ab",
    ]
    for path in (*whole, *cut_off):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    sweep_study(StudyFolder(tmp_path))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(whole)


def test_reading_a_study_folder_loads_nothing_heavy() -> None:
    heavy = "torch", "optuna", "pandas", "numpy"
    script = f"import search.record.record, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""A final run through the command: all photos beside a twin, the average of its checkpoints, killed and resumed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from search import export
from search.record.events import Checkpointed
from search.record.final_run import TWIN, Average
from search.record.record import StudyFolder
from search.verdict.verdict import Verdict
from tests.search.study_processes import STUDIES, finish, start, wait_until
from trainer.lora.kohya_file import load_lora, read_metadata

pytestmark = pytest.mark.slow
DEMO = STUDIES / "demo"
EPOCHS = 5


def study_file(home: Path, name: str, **more: Any) -> Path:
    """A study of the demo's photos, as small as it can be."""
    score = {
        "encoder": str(DEMO / "clip"),
        "holdout": 8,
        "probe": {"seeds": 1, "steps": 3, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class} on grass"]},
        "losses": {"levels": 2, "draws": 1},
        "shifted": {"composites": 0},
        "precision": "fp32",
    }
    values = {
        "study": name,
        "base": str(DEMO / "base"),
        "data": str(DEMO / "photos"),
        "train": {"resolution": 64, "rank": 8, "alpha": 4, "optimizer": "Adafactor", "learning_rate_scale": 40},
        "score": score,
        "workers": {"threads": 1},
        "keep": {"checkpoints": "all"},
    }
    values["train"] |= more.pop("train", {})
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | more))
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("final")


@pytest.fixture(scope="module")
def final(home: Path) -> StudyFolder:
    finish(start(study_file(home, "final", final={"epoch": 4}), home / "runs"))
    return StudyFolder(home / "runs" / "final")


def readings(folder: StudyFolder, channel: str) -> np.ndarray:
    return np.array([r.channels[channel].value for r in folder.trajectory(0).readings])


def test_it_ships_a_lora_that_has_seen_all_photos(final: StudyFolder) -> None:
    (record,) = final.records()
    assert (record.state, record.epochs_trained, record.final.epoch) == ("complete", EPOCHS, 4)
    assert not (final.trial(0) / TWIN).exists(), "what its twin needed to go on is deleted at the end"
    metadata = read_metadata(final.checkpoint(0, EPOCHS) / "lora.safetensors")
    assert metadata["ss_num_train_images"] == "30"
    assert metadata["ss_steps"] == str(EPOCHS * 22), "an epoch is one of the twin's"
    verdict = Verdict.load(final.verdict_file)
    told = json.dumps(verdict.sentences)
    assert verdict.photos == (22, 8)
    assert verdict.on_all_photos is None
    assert "held out here" not in told
    if verdict.decision.ships:
        assert "trained on all 30 photos" in told
        assert (final.path / verdict.files["LoRA"]).is_file()


def test_its_losses_are_those_of_a_run_without_the_photos_held_out(home: Path, final: StudyFolder) -> None:
    stop = {"onset": False, "prune": False}
    finish(start(study_file(home, "border", train={"epochs": EPOCHS}, stop=stop), home / "runs"))
    border = StudyFolder(home / "runs" / "border")
    np.testing.assert_allclose(
        readings(final, "heldout_loss"), readings(border, "heldout_loss"), rtol=0.02, atol=1e-4
    )  # two runs share each pass: the last bits differ
    drawn = [folder.samples(0, EPOCHS) for folder in (final, border)]
    assert not np.array_equal(*drawn), "its images are those of a LoRA that has seen more"


def test_the_average_is_that_of_its_checkpoints_and_is_judged_like_them(final: StudyFolder) -> None:
    (record,) = final.records()
    average = record.final.average
    if average is None:
        pytest.fail("make the study long enough for two checkpoints that score alike")
    assert 0 <= average.score <= 1
    assert record.epoch_shipped in average.epochs
    assert average.best == record.score
    made = load_lora(Average.lora(final.trial(0)))
    parts = [load_lora(final.checkpoint(0, epoch) / "lora.safetensors") for epoch in average.epochs]
    site = next(iter(made.modules))
    mean = sum(p.modules[site].up.flatten(1) @ p.modules[site].down.flatten(1) for p in parts) / len(parts)
    ours = made.modules[site].up.flatten(1) @ made.modules[site].down.flatten(1)
    assert float((ours - mean).norm() / mean.norm()) < max(0.1, 2 * average.lost)
    assert Average.samples(final.trial(0)).is_file()


def test_an_export_counts_in_passes_over_all_photos(final: StudyFolder, tmp_path: Path, capsys) -> None:
    epoch = ["--epoch", "4"]
    assert export.main([str(final.path), "--to", str(tmp_path / "out"), *epoch]) == 0
    assert "In passes over all 30 photos, as the files here count, that is epoch 3." in capsys.readouterr().out
    written = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())
    assert (written["epochs"], written["output"]["ship_epoch"]) == (4, 3)


@pytest.mark.parametrize("moment", ["a checkpoint was measured", "one of two checkpoints was saved"])
def test_killed_and_resumed_it_ends_with_the_same_numbers(
    home: Path, final: StudyFolder, tmp_path: Path, moment: str
) -> None:
    study, runs = study_file(tmp_path, "final", final={"epoch": 4}), tmp_path / "runs"
    trial = runs / "final" / "trials" / "0000"
    process = start(study, runs)

    def happened() -> bool:
        if moment.startswith("one"):
            return (trial / TWIN / "checkpoints" / "0003").is_dir()
        return Checkpointed.file(trial, 2).is_file()

    wait_until(happened, process)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in family:
        os.kill(each.pid, signal.SIGKILL)
    process.wait()
    finish(start(study, runs))
    resumed = StudyFolder(runs / "final")
    for name in ("trajectory.csv", "items.npz"):
        assert (resumed.trial(0) / name).read_bytes() == (final.trial(0) / name).read_bytes(), name
    one, other = (next(iter(folder.records())) for folder in (resumed, final))
    assert (one.final, one.onset, one.score) == (other.final, other.onset, other.score)

"""Records of other versions: earlier ones are read, later ones are refused in a line and left as they are."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from metrics.onset.turns import Disagreement, Onset, Turn
from search import run, status
from search.errors import DamagedError, VersionError
from search.record.record import StudyFolder, TrialRecord
from search.record.versions import installed
from search.verdict.decision import decide
from tests.messages import refusal
from trainer.config.config import TrainConfig, parse_train_config
from trainer.config.recorded import recorded_config

EARLIER: dict[str, Any] = {
    "number": 0,
    "state": "complete",
    "config": {
        "base": "/models/base", "family": "auto", "data": "/photos", "reg_data": None, "resolution": [512, 768],
        "rank": 8, "alpha": None, "alpha_ratio": 0.5, "optimizer": "Lion", "learning_rate": None,
        "learning_rate_scale": 3.0, "optimizer_args": {"betas": [0.9, 0.98]}, "lr_scheduler": "cosine_with_restarts",
        "num_cycles": 2, "cycle_epochs": None, "warmup_steps": 0, "epochs": 40, "save_every_n_epochs": 2, "seed": 3,
        "a_setting_that_is_gone": True,
    },
    "params": {"rank": 8, "optimizer": "Lion"},
    "epochs": 40,
    "epochs_trained": 32,
    "epoch_shipped": 14,
    "stopped": "onset",
    "onset": {
        "status": "found",
        "context": {"status": "found", "epoch": 18.5, "low": 12.0, "high": None, "channels": ["shifted_loss"]},
        "memory": {"status": "beyond", "epoch": None, "low": None, "high": None, "channels": ["heldout_loss"]},
        "learned": 6,
        "best": 14,
        "turned": {"shifted_loss": 18.5},
        "sentence": "New contexts get worse from epoch 18.5 on.",
        "a_finding_that_is_gone": 1,
    },
    "score": 0.8,
    "value": 0.8,
    "startup": True,
    "versions": {"onset": "0.1.0"},
    "seeds": {"train": 3, "probe": 1},
    "timings": {"train": 6.0},
    "error": None,
    "a_name_that_is_gone": [],
}  # fmt: skip
"""`record.json` as the first versions wrote it: no version, fewer settings, names that are gone."""


def written(folder: StudyFolder, number: int = 0, **changes: Any) -> Path:
    home = folder.trial(number)
    home.mkdir(parents=True, exist_ok=True)
    (home / "record.json").write_text(json.dumps({**EARLIER, "number": number, **changes}))
    return home


def test_a_record_of_the_first_version_is_read_with_its_config_and_onset(tmp_path: Path) -> None:
    record = TrialRecord.load(written(StudyFolder(tmp_path)))
    config = record.config
    assert (config.size, config.optimizer, config.lr_scheduler, config.seed) == (
        (512, 768), "Lion", "cosine_with_restarts", 3,
    )  # fmt: skip
    assert (config.effective_alpha, config.effective_learning_rate) == (4.0, pytest.approx(6e-5))
    assert config.batch_size == 1, "newer than the file"
    assert record.onset == Onset(
        "found", Turn("found", 18.5, 12.0, None, ("shifted_loss",)), Turn("beyond", channels=("heldout_loss",)), 6, 14,
        {"shifted_loss": 18.5}, EARLIER["onset"]["sentence"],
    )  # fmt: skip
    found = decide(record)
    assert (found.outcome, found.epoch, found.learned, found.learned_by) == ("ship", 14, 6, "images")


def test_what_is_read_is_written_in_the_same_form_and_read_again_alike(tmp_path: Path) -> None:
    onset = Onset(
        "found", Turn("found", 5.0, 4.0, 6.5, ("context_loss",)), Turn("unmeasured"), 2, 4,
        disagreement=Disagreement(4, 8, 0.1, -0.2, moved_rises=True), likeness=0.7,
    )  # fmt: skip
    config = parse_train_config({"base": "b", "data": "d", "resolution": [64, 128], "optimizer_args": {"eps": 1e-8}})
    record = TrialRecord(3, "complete", config, {"rank": 16}, 10, onset=onset)
    home = tmp_path / "0003"
    record.save(home)
    kept = json.loads((home / "record.json").read_text())
    assert kept["version"] == 1
    assert (kept["config"]["resolution"], kept["config"]["optimizer_args"]) == ([64, 128], {"eps": 1e-8})
    assert list(kept["config"]) == list(TrainConfig.model_fields)
    assert kept["onset"]["context"] == {
        "status": "found", "epoch": 5.0, "low": 4.0, "high": 6.5, "channels": ["context_loss"],
    }  # fmt: skip
    assert TrialRecord.load(home) == record


def test_what_was_trained_is_not_held_against_todays_rules(tmp_path: Path) -> None:
    config = {**EARLIER["config"], "cycle_epochs": 5, "learning_rate_scale": 1e9}  # beside num_cycles; out of range
    record = TrialRecord.load(written(StudyFolder(tmp_path), config=config))
    assert (record.config.num_cycles, record.config.cycle_epochs, record.config.learning_rate_scale) == (2, 5, 1e9)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {**EARLIER["config"], "rank": "wide"}},
        {"config": {**EARLIER["config"], "optimizer": "AnotherOne"}},
        {"config": {}},
        {"config": [1]},
        {"onset": {"status": "found"}},
        {"onset": {**EARLIER["onset"], "context": {"status": "found", "epoch": "late"}}},
        {"version": "one"},
        {"version": 0},
    ],
)
def test_what_no_version_wrote_is_damaged(tmp_path: Path, changes: dict[str, Any]) -> None:
    home = written(StudyFolder(tmp_path), **changes)
    with pytest.raises(DamagedError, match=r"record\.json: damaged"):
        TrialRecord.load(home)


def test_a_record_of_a_later_version_is_refused_in_a_line_that_names_it(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    written(folder)
    later = written(folder, 1, version=2, config="of another form") / "record.json"
    with pytest.raises(VersionError) as refused:
        list(folder.records())
    assert re.match(refusal("version", 2, "at most 1", later) + ": a later version of Onset", str(refused.value))
    assert "\n" not in str(refused.value)


def test_commands_refuse_a_later_version_before_anything_is_done(write_study, tmp_path, capsys) -> None:
    study = write_study()
    folder = StudyFolder(tmp_path / "runs" / "small")
    earlier, later = (written(folder, n, version=n + 1) / "record.json" for n in (0, 1))
    before = later.read_bytes()
    runs = str(tmp_path / "runs")
    for main, arguments in ((run.main, [str(study), "--runs", runs]), (status.main, [str(folder.path)])):
        assert main(arguments) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert re.search(refusal("version", 2, file=later), said[0])
    assert later.read_bytes() == before
    assert {path for path in folder.path.rglob("*") if path.is_file()} == {earlier, later}


def test_a_recorded_config_is_the_one_that_was_written() -> None:
    config = parse_train_config(
        {"base": "b", "data": "d", "resolution": [64, 96], "optimizer_args": {"betas": [0.9, 0.99]}, "alpha": 3}
    )
    assert recorded_config(config.model_dump(mode="json")) == config


def test_versions_are_those_of_the_packages_that_are_there() -> None:
    found = installed()
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert (found["optuna"], found["numpy"]) == (optuna.__version__, np.__version__)
    assert found.keys() <= {
        "onset-lora", "torch", "diffusers", "transformers", "peft", "open_clip_torch", "optuna", "numpy"
    }  # fmt: skip

"""The export command: every file of the production run is there, loads where it is meant to, and says the same run."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from search.export import export, main
from search.record import StudyFolder, TrialRecord
from search.verdict import finish
from tests.search.made import PLANS, make_study, shared_study
from trainer.config import load_train_config, parse_train_config


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_photos: Path) -> StudyFolder:
    return shared_study(tmp_path_factory.getbasetemp() / "made", tiny_sd15, tiny_photos)


@pytest.fixture(scope="module")
def exported(study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("exported")
    assert main([str(study.path), "--to", str(to)]) == 0
    return to


def test_all_files_are_there(exported):
    found = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert found == {
        "train.yaml", "toy.safetensors", "kohya_ss.json",
        "sd-scripts/config.toml", "sd-scripts/dataset.toml", "sd-scripts/train.sh",
    }  # fmt: skip


def test_train_yaml_is_the_trials_run_with_its_full_horizon(study, exported):
    record = TrialRecord.load(study.trial(2))
    config = load_train_config(exported / "train.yaml")
    assert config == parse_train_config(record.config)
    assert config.epochs == 40
    assert f"The epoch to ship is {record.epoch_shipped}" in (exported / "train.yaml").read_text()


def test_the_three_trainers_are_told_the_same_run(exported):
    ours = load_train_config(exported / "train.yaml")
    theirs = tomllib.loads((exported / "sd-scripts" / "config.toml").read_text())
    gui = json.loads((exported / "kohya_ss.json").read_text())
    assert theirs["max_train_epochs"] == gui["epoch"] == ours.epochs
    assert theirs["network_dim"] == gui["network_dim"] == ours.rank
    assert theirs["network_alpha"] == gui["network_alpha"] == ours.effective_alpha == 4.0
    assert theirs["unet_lr"] == gui["unet_lr"] == ours.effective_learning_rate == pytest.approx(6e-4)
    assert theirs["lr_scheduler"] == gui["lr_scheduler"] == "cosine_with_restarts"
    assert theirs["lr_scheduler_num_cycles"] == gui["lr_scheduler_num_cycles"] == 2
    assert Path(theirs["dataset_config"]).is_file()


def test_the_command_runs_the_right_script_on_the_right_file(exported):
    command = (exported / "sd-scripts" / "train.sh").read_text().splitlines()[-1].split()
    assert command[:2] == ["accelerate", "launch"]
    assert "train_network.py" in command
    assert command[-1] == f"--config_file={exported / 'sd-scripts' / 'config.toml'}"


def test_diffusers_loads_the_lora_completely_and_it_changes_the_image(exported, tiny_sd15):
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors import safe_open

    torch.set_num_threads(2)
    with safe_open(exported / "toy.safetensors", "pt") as file:
        metadata, keys = file.metadata(), list(file.keys())
        assert file.get_tensor(keys[0]).dtype == torch.float16
    assert metadata["ss_output_name"] == "toy"
    assert metadata["sshs_model_hash"][:8] != "e3b0c442", "the hash of nothing"
    pipe = StableDiffusionPipeline.from_pretrained(tiny_sd15, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)

    def draw() -> np.ndarray:
        generator = torch.Generator().manual_seed(3)
        return pipe("sks toy", num_inference_steps=2, generator=generator, height=64, width=64, output_type="np").images

    before = draw()
    pipe.load_lora_weights(exported, weight_name="toy.safetensors")
    adapted = [n for n, _ in pipe.unet.named_modules() if n.endswith("lora_A.default_0")]
    assert len(adapted) == sum(k.startswith("lora_unet_") and k.endswith(".alpha") for k in keys) > 0
    scales = {m.scaling["default_0"] for m in pipe.unet.modules() if getattr(m, "scaling", None)}
    assert scales == {0.5}, "alpha 4 of rank 8 arrives as a scale of one half"
    assert np.abs(draw() - before).max() > 0.02


def test_another_trial_without_a_kept_checkpoint_is_exported_without_a_lora_and_says_so(study, tmp_path):
    done = export(study, tmp_path / "out", trial=3)
    assert done.trial == 3
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert any("no LoRA" in notice for notice in done.notices)
    config = tomllib.loads((tmp_path / "out" / "sd-scripts" / "config.toml").read_text())
    assert config["optimizer_type"] == "Prodigy"
    assert "d_coef=2.0" in config["optimizer_args"]


def test_it_follows_the_verdict_when_there_is_one(tmp_path, tiny_photos, tiny_sd15):
    folder = make_study(tmp_path, tiny_sd15, tiny_photos, PLANS[:1])
    verdict = finish(folder)
    assert main([str(tmp_path / "toy.yaml"), "--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "out")]) == 0
    assert f"trial {verdict.trial}, epoch {verdict.epoch}" in (tmp_path / "out" / "train.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--trial", "99"], ("99", "trials here are 0, 1, 2")),
        (["--trial", "2", "--epoch", "13"], ("13", "checkpoints kept of trial 2")),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(study, tmp_path, capsys, arguments, named):
    assert main([str(study.path), "--to", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert all(word in error for word in named)
    assert not (tmp_path / "out").exists()


def test_a_study_that_does_not_exist_is_refused_in_one_line(tmp_path):
    command = [sys.executable, "-m", "search.export", str(tmp_path / "no.yaml"), "--to", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no.yaml" in done.stderr


def test_photos_that_are_gone_are_named(tmp_path, tiny_sd15, capsys):
    from tests import tiny

    data = tiny.make_photos(tmp_path / "photos")
    folder = make_study(tmp_path, tiny_sd15, data, PLANS[:1])
    data.rename(tmp_path / "moved")
    assert main([str(folder.path), "--to", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert str(data) in error
    assert "\n" not in error


def test_the_base_says_which_script_and_which_parameterisation(tmp_path, tiny_photos, tiny_sdxl, tiny_sd15_v):
    xl = make_study(tmp_path / "xl", tiny_sdxl, tiny_photos, PLANS[:1])
    export(xl, tmp_path / "xl-out")
    assert "sdxl_train_network.py" in (tmp_path / "xl-out" / "sd-scripts" / "train.sh").read_text()
    assert json.loads((tmp_path / "xl-out" / "kohya_ss.json").read_text())["sdxl"] is True
    v = make_study(tmp_path / "v", tiny_sd15_v, tiny_photos, PLANS[:1])
    export(v, tmp_path / "v-out")
    config = tomllib.loads((tmp_path / "v-out" / "sd-scripts" / "config.toml").read_text())
    assert config["v_parameterization"] is True
    assert config["zero_terminal_snr"] is True
    gui = json.loads((tmp_path / "v-out" / "kohya_ss.json").read_text())
    assert gui["v_parameterization"] is True
    assert "--zero_terminal_snr" in gui["additional_parameters"]

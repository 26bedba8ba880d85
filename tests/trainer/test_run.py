"""`python -m trainer.run`: trains, samples, resumes, tells what it will take, and says in one line what is wrong."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.messages import refusal
from trainer import run
from trainer.lora.kohya_file import load_lora, read_metadata

# one step an epoch
SETTINGS = {"resolution": 64, "batch_size": 16, "rank": 2, "epochs": 4, "save_every_n_epochs": 2, "learning_rate": 1e-2}
OUTPUT = {"name": "toy", "sample_prompts": ["a photo of sks toy", "snow"], "sample_steps": 2}


def write(folder: Path, base: str | Path, photos: Path, **changes) -> Path:
    path = folder / "train.yaml"
    settings = {"base": str(base), "data": str(photos), **SETTINGS, "output": OUTPUT} | changes
    path.write_text(yaml.safe_dump({key: value for key, value in settings.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    "name", ["sd15", pytest.param("sdxl", marks=pytest.mark.slow), pytest.param("sd3", marks=pytest.mark.slow)]
)
def test_a_run_leaves_a_lora_samples_and_a_log(name: str, request, tiny_photos, tmp_path, capsys) -> None:
    path = write(tmp_path, request.getfixturevalue(f"tiny_{name}"), tiny_photos)
    assert run.main([str(path)]) == run.DONE
    folder = tmp_path / "train"
    files = sorted(file.name for file in (folder / "samples").iterdir())
    assert [name[:7] for name in files if name[0].isdigit()] == [
        f"{e}_0{k}" for e in ("0000", "0002", "0004") for k in "01"
    ]
    assert files[-3:] == ["strip_0000.png", "strip_0002.png", "strip_0004.png"]
    with Image.open(folder / "samples" / "strip_0004.png") as strip, Image.open(folder / "samples" / files[5]) as last:
        assert strip.size == (128, 64)
        assert strip.crop((64, 0, 128, 64)).tobytes() == last.tobytes()
    drawn = [Image.open(folder / "samples" / files[row]).tobytes() for row in (0, 4)]
    assert drawn[0] != drawn[1]
    lora = load_lora(folder / "toy.safetensors")
    assert lora.family == name
    assert any(module.up.abs().max() > 0 for module in lora.modules.values())
    assert read_metadata(folder / "toy.safetensors")["ss_output_name"] == "toy"
    rows = (folder / "log.csv").read_text().splitlines()
    assert len(rows) == 5
    assert rows[0].startswith("epoch,step,loss")
    out = capsys.readouterr().out
    assert "epoch 4/4" in out
    assert "it/s" in out
    assert all(0.1 < float(peak) < 64 for peak in re.findall(r"([0-9.]+) GiB", out))
    assert "GiB" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16", "gradient_checkpointing": True, "train_text_encoder": True},
        {"precision": "bf16", "dora": True},
    ],
)
def test_settings_for_small_cards_train(changes, tiny_sd15, tiny_photos, tmp_path) -> None:
    path = write(tmp_path, tiny_sd15, tiny_photos, epochs=2, **changes)
    assert run.main([str(path), "--device", "cpu"]) == run.DONE
    lora = load_lora(tmp_path / "train" / "toy.safetensors")
    assert all(module.up.isfinite().all() for module in lora.modules.values())
    moved = [site for site, module in lora.modules.items() if module.up.abs().max() > 1e-4]
    assert len(moved) == len(lora.modules)


@pytest.mark.slow
def test_a_folder_of_another_run_is_not_gone_on_with(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    assert run.main([str(write(tmp_path, tiny_sd15, tiny_photos, epochs=2))]) == run.DONE
    path = write(tmp_path, tiny_sd15, tiny_photos, learning_rate=1e-3)
    assert run.main([str(path)]) == run.WRONG_INPUT
    assert re.search(refusal("learning_rate", 0.001, "as the run in"), capsys.readouterr().err)
    assert run.main([str(path), "--out", str(tmp_path / "new")]) == run.DONE


def test_a_base_that_cannot_be_had_is_told_by_file_and_key(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    absent = write(tmp_path, "onset-tests/none-such", tiny_photos)
    assert run.main([str(absent)]) == run.WRONG_INPUT
    wanted = "base: expected a base that LoRAs can be trained on, got 'onset-tests/none-such': no such folder here"
    assert capsys.readouterr().err.startswith(f"error: {absent}: {wanted}")
    other = write(tmp_path, tiny_sd15, tiny_photos, family="sdxl")
    assert run.main([str(other)]) == run.WRONG_INPUT
    told = capsys.readouterr().err
    assert told.startswith(f"error: {other}: base: expected a base of the family sdxl, got '{tiny_sd15}'")
    assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.yaml"]


def test_other_photos_another_base_or_fewer_epochs_are_another_run(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    assert run.main([str(write(tmp_path, tiny_sd15, tiny_photos, epochs=1, output=None))]) == run.DONE
    other = tmp_path / "photos"
    shutil.copytree(tiny_photos, other)
    moved = write(tmp_path, tiny_sd15, other, epochs=2, output=None)
    assert run.main([str(moved)]) == run.DONE  # the same photos in another place
    next(other.rglob("*.txt")).write_text("something else")
    recoloured = tmp_path / "base"
    shutil.copytree(tiny_sd15, recoloured)
    scheduler = json.loads((recoloured / "scheduler" / "scheduler_config.json").read_text())
    scheduler["prediction_type"] = "v_prediction"
    (recoloured / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    revoiced = shutil.copytree(tiny_sd15, tmp_path / "revoiced")
    weights = load_file(revoiced / "text_encoder" / "model.safetensors")
    weights["final_layer_norm.weight"][-1] += 0.25  # one weight: the next version of a checkpoint
    save_file(weights, revoiced / "text_encoder" / "model.safetensors", {"format": "pt"})
    capsys.readouterr()
    for changes, message in (
        ({"base": revoiced}, refusal("base", str(revoiced), "of the run in")),
        ({"photos": other}, refusal("data", str(other), "the photos and captions of the run in")),
        ({"base": recoloured}, refusal("base", str(recoloured), "of the run in")),
        ({"epochs": 1}, refusal("epochs", 1, "at least 2")),
    ):
        settings = {"base": tiny_sd15, "photos": tiny_photos, "epochs": 4, "output": None} | changes
        assert run.main([str(write(tmp_path, **settings))]) == run.WRONG_INPUT
        out, error = capsys.readouterr()
        assert re.search(message, error)
        assert error.count("\n") == 1
        assert "loading" not in out


def test_time_spent_on_samples_is_no_training_time(tiny_sd15, tiny_photos, tmp_path, monkeypatch) -> None:
    from trainer.production import production, progress

    drawn = [0.0]  # seconds that a clock of the test's own adds to the real one

    def draw(*args: object, **keywords: object) -> None:
        drawn[0] += 10_000.0

    monkeypatch.setattr(production._Sampler, "draw", draw)
    own = SimpleNamespace(perf_counter=lambda: time.perf_counter() + drawn[0])
    monkeypatch.setattr(progress, "time", own)
    assert run.main([str(write(tmp_path, tiny_sd15, tiny_photos, save_every_n_epochs=1, epochs=2))]) == run.DONE
    assert drawn[0] == 30_000.0
    with (tmp_path / "train" / "log.csv").open() as file:
        assert all(0 < float(row["seconds"]) < 10_000.0 for row in csv.DictReader(file))


def test_the_rate_that_is_logged_was_used(tiny_sd15, tiny_photos, tmp_path) -> None:
    path = write(tmp_path, tiny_sd15, tiny_photos, lr_scheduler="cosine", epochs=2, batch_size=8, output=None)
    assert run.main([str(path)]) == run.DONE
    with (tmp_path / "train" / "log.csv").open() as file:
        last = float(list(csv.DictReader(file))[-1]["learning_rate"])
    assert last == pytest.approx(0.5 * 1e-2 * (1 + math.cos(math.pi * 3 / 4)), rel=1e-4)  # of step 4 of 4


def test_the_dry_run_measures_and_keeps_nothing(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    path = write(tmp_path, tiny_sd15, tiny_photos, epochs=30, batch_size=8)
    assert run.main([str(path), "--dry-run"]) == run.DONE
    out = capsys.readouterr().out
    assert "60 = 30 epochs × 2" in out
    for word in ("photos   8", "speed", "time", "memory", "disk"):
        assert word in out
    assert {file.name for file in (tmp_path / "train").iterdir()} == {"cache"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rnk": 4}, refusal("rnk", "rnk", "did you mean rank?")),
        (
            {"output": {"sample_prompt": "x"}},
            refusal("output.sample_prompt", "sample_prompt", "sample_prompts?"),
        ),
        (
            {"output": {"sample_scheduler": "heun"}},
            refusal("output.sample_scheduler", "heun", "'dpmpp_2m', 'unipc'"),
        ),
        (
            {"output": {"sample_steps": 0}},
            refusal("output.sample_steps", 0, "at least 1"),
        ),
        ({"data": "nowhere"}, refusal("data", "nowhere")),
        (
            {"output": {"name": "styles/dog"}},
            refusal("output.name", "styles/dog", "a name that a folder can have"),
        ),
        ({"enable_bucket": True}, refusal("min_bucket_resolution", 256, "at most the resolution's shorter side")),
        ({"optimizer_args": {"betas": 3}}, refusal("optimizer_args", {"betas": 3}, "two numbers")),
        ({"clip_skip": 9}, refusal("clip_skip", 9, "this text encoder")),
        ({"family": "sdxl"}, refusal("family", "sdxl", "sd15")),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(
    changes, message: str, tiny_sd15, tiny_photos, tmp_path, capsys
) -> None:
    assert run.main([str(write(tmp_path, tiny_sd15, tiny_photos, **changes))]) == run.WRONG_INPUT
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1


def test_a_run_that_diverges_says_so(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    path = write(tmp_path, tiny_sd15, tiny_photos, learning_rate=1000.0, max_grad_norm=0.0, batch_size=4, output=None)
    assert run.main([str(path)]) == run.FAILED
    said = capsys.readouterr().err.splitlines()
    (error,) = (line for line in said if not line.startswith("note: learning_rate: 1000 will not work"))
    assert "NaN or infinite" in error
    assert "learning_rate" in error


def test_settings_without_effect_are_said(tiny_sd3, tiny_photos, tmp_path, capsys) -> None:
    asked = {"clip_skip": 2, "min_snr_gamma": 5.0, "debiased_estimation_loss": True, "keep_tokens": 1}
    path = write(tmp_path, tiny_sd3, tiny_photos, epochs=1, output=None, **asked)
    assert run.main([str(path)]) == run.DONE
    said = capsys.readouterr()
    assert "clip_skip: 2 takes no effect" in said.out
    assert "min_snr_gamma: 5.0 takes no effect" in said.out
    assert "debiased_estimation_loss: True takes no effect" in said.out
    assert "keep_tokens: 1 takes no effect" in said.err


def test_words_that_no_caption_holds_and_endless_warmups_are_said(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    path = write(
        tmp_path,
        tiny_sd15,
        tiny_photos,
        epochs=1,
        output=None,
        trigger="zorp",
        class_word="toy",
        lr_scheduler="cosine",
        warmup_steps=99,
        batch_size=8,
    )
    assert run.main([str(path)]) == run.DONE
    said = capsys.readouterr().out
    assert "trigger: 'zorp' takes no effect" in said
    assert "class_word" not in said
    assert "warmup_steps: 99 is not less than the run's 2 steps" in said


def test_an_interrupt_keeps_what_is_finished(tiny_sd15, tiny_photos, tmp_path, capsys, monkeypatch) -> None:
    from trainer.packing.pack import Pack

    path = write(tmp_path, tiny_sd15, tiny_photos, epochs=3, save_every_n_epochs=1, output=None)
    train_epoch = Pack.train_epoch

    def interrupted(self, on_step=None):
        if self.runs[0].epoch == 2:
            raise KeyboardInterrupt
        train_epoch(self, on_step)

    monkeypatch.setattr(Pack, "train_epoch", interrupted)
    assert run.main([str(path)]) == run.INTERRUPTED
    assert (tmp_path / "train" / "checkpoints" / "0002" / "lora.safetensors").exists()
    monkeypatch.undo()
    capsys.readouterr()
    assert run.main([str(path)]) == run.DONE
    assert "from epoch 2" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_named(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    assert run.main([str(write(tmp_path, tiny_sd15, tiny_photos)), "--device", "cuda:77"]) == run.WRONG_INPUT
    assert re.search(refusal("--device", "cuda:77"), capsys.readouterr().err)


def test_help_loads_no_torch() -> None:
    code = "import sys, trainer.run\ntry: trainer.run.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m trainer.run train.yaml" in done.stdout


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(tiny_sd15, tiny_photos, tmp_path) -> None:
    """Two shares of the batches with averaged gradients are the same steps as accumulation over two."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = write(tmp_path / "one", tiny_sd15, tiny_photos, gradient_accumulation_steps=2, output=None)
    assert run.main([str(one), "--device", "cpu"]) == run.DONE
    two = write(tmp_path / "two", tiny_sd15, tiny_photos, output=None)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*launcher, "-m", "trainer.run", str(two), "--device", "cpu"],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )
    settings = json.loads((tmp_path / "two" / "train" / "train.json").read_text())
    assert settings["gradient_accumulation_steps"] == 1
    expected = load_lora(tmp_path / "one" / "train" / "train.safetensors")
    found = load_lora(tmp_path / "two" / "train" / "train.safetensors")
    for site, module in expected.modules.items():
        torch.testing.assert_close(found.modules[site].up, module.up, rtol=2e-3, atol=2e-5)

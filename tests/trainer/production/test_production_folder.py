"""A production run's folder: one trainer at a time, the same run or none, and whole whatever fails."""

import csv
import functools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.messages import refusal
from trainer import checkpoint, run
from trainer.errors import TrainerError
from trainer.lora.kohya_file import load_lora
from trainer.production.production_folder import claimed, deliver, forget_epochs_after, log_epoch

SETTINGS = {"resolution": 32, "batch_size": 8, "rank": 2, "epochs": 2, "learning_rate": 1e-3}  # two steps an epoch
SAMPLES = {"name": "toy", "sample_prompts": ["snow"], "sample_steps": 1}


@pytest.fixture(scope="module")
def train_in(tiny_sd15: Path, tiny_photos: Path) -> Callable[..., int]:
    """Runs a train.yaml with these changes into `home/name`; returns the exit code."""

    def started(home: Path, name: str = "a", **changes) -> int:
        path = home / f"{name}.yaml"
        settings = {"base": str(tiny_sd15), "data": str(tiny_photos), **SETTINGS, "output": {"name": "toy"}} | changes
        path.write_text(yaml.safe_dump(settings))
        return run.main([str(path), "--device", "cpu"])

    return started


@pytest.fixture
def train(train_in: Callable[..., int], tmp_path: Path) -> Callable[..., int]:
    """The same in the test's own folder."""
    return functools.partial(train_in, tmp_path)


@pytest.fixture(scope="module")
def trained(train_in: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Lays the folder of a run that has ended at `to`: `trained(tmp_path / "a", epochs=1)`; each is trained once."""

    @functools.cache
    def made(**changes) -> Path:
        home = tmp_path_factory.mktemp("trained")
        assert train_in(home, **changes) == run.DONE
        return home / "a"

    return lambda to, **changes: shutil.copytree(made(**changes), to)


def assert_same_lora(one: Path, other: Path) -> None:
    first, second = load_lora(one / "toy.safetensors"), load_lora(other / "toy.safetensors")
    assert first.modules.keys() == second.modules.keys()
    assert any(bool(module.up.any()) for module in first.modules.values()), "nothing was trained"
    for site, module in first.modules.items():
        assert torch.equal(module.down, second.modules[site].down)
        assert torch.equal(module.up, second.modules[site].up)


def logged(folder: Path) -> list[int]:
    with (folder / "log.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def test_a_schedule_with_a_horizon_is_neither_prolonged_nor_cut_short(train, trained, tmp_path, capsys) -> None:
    trained(tmp_path / "a", lr_scheduler="cosine", epochs=2)
    for epochs in (4, 1):
        capsys.readouterr()
        assert train(lr_scheduler="cosine", epochs=epochs) == run.WRONG_INPUT
        error = capsys.readouterr().err
        assert re.search(refusal("epochs", epochs, "2, as the run in"), error)
        assert "cosine" in error
        assert "start a new run with --out DIR" in error
        assert error.count("\n") == 1
        assert logged(tmp_path / "a") == [1, 2]
    assert train(lr_scheduler="cosine", epochs=2) == run.DONE  # nothing else is in its way


@pytest.mark.parametrize(
    "schedule",
    [
        {"lr_scheduler": "constant_with_warmup", "warmup_steps": 3, "output": SAMPLES},
        {"lr_scheduler": "cosine_with_restarts", "cycle_epochs": 1},
        {"lr_scheduler": "adafactor", "optimizer": "Adafactor", "relative_step": True, "learning_rate": None},
    ],
)
def test_a_schedule_without_a_horizon_is_prolonged_to_the_same_bits(schedule, train, tmp_path) -> None:
    assert train("halves", **schedule, epochs=1) == run.DONE
    assert train("halves", **schedule, epochs=2) == run.DONE
    assert train("whole", **schedule, epochs=2) == run.DONE
    assert_same_lora(tmp_path / "halves", tmp_path / "whole")


def test_a_second_trainer_in_the_same_folder_is_refused_in_one_line(train, tmp_path, capsys) -> None:
    with claimed(tmp_path / "a"):
        assert train() == run.FAILED
    error = capsys.readouterr().err
    assert f"another trainer (pid {os.getpid()}) is at work in this folder" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "a" / "checkpoints").exists()
    assert train(epochs=1) == run.DONE


def test_a_trainer_that_was_killed_holds_nothing_and_leaves_nothing_half_written(tmp_path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from trainer.production.production_folder import claimed\n"
        "folder = Path(sys.argv[1])\n"
        "with claimed(folder):\n"
        "    (folder / 'checkpoints' / '.0123456789abcdef.part').mkdir(parents=True)\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(TrainerError, match=rf"\(pid {process.pid}\)"), claimed(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with claimed(tmp_path):
        assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_damaged_newest_state_is_said_and_the_run_ends_the_same(train, trained, tmp_path, capsys) -> None:
    trained(tmp_path / "whole", epochs=3)
    trained(tmp_path / "a", epochs=2)
    newest = tmp_path / "a" / "checkpoints" / "0002" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    capsys.readouterr()
    assert train("a", epochs=3) == run.DONE
    out = capsys.readouterr().out
    assert f"warning: {newest.parent}: state.safetensors is damaged: this checkpoint is passed over" in out
    assert "from epoch 1" in out
    assert logged(tmp_path / "a") == [1, 2, 3]
    assert all(checkpoint.is_whole(path) for path in checkpoint.checkpoints(tmp_path / "a" / "checkpoints"))
    assert_same_lora(tmp_path / "whole", tmp_path / "a")


def test_a_damaged_lora_is_written_again_from_its_state(train, trained, tmp_path) -> None:
    trained(tmp_path / "a", epochs=2)
    first = (tmp_path / "a" / "toy.safetensors").read_bytes()
    (tmp_path / "a" / "checkpoints" / "0002" / "lora.safetensors").write_bytes(first[: len(first) // 2])
    assert train() == run.DONE
    assert checkpoint.is_whole(tmp_path / "a" / "checkpoints" / "0002")


def test_a_lora_that_is_damaged_beyond_that_is_not_delivered(train, trained, tmp_path) -> None:
    trained(tmp_path / "a", epochs=3)
    kept = tmp_path / "a" / "checkpoints" / "0001" / "lora.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(TrainerError, match=r"0001: lora\.safetensors is damaged"):
        deliver(tmp_path / "a", 1, "toy")
    assert train(epochs=3, output={"name": "toy", "ship_epoch": 1}) == run.WRONG_INPUT


def test_a_disk_that_fills_up_leaves_earlier_checkpoints_to_go_on_from(train, trained, tmp_path, capsys) -> None:
    trained(tmp_path / "whole", epochs=3)
    trained(tmp_path / "a", epochs=1)
    size = (tmp_path / "a" / "checkpoints" / "0001" / "state.safetensors").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    capsys.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        assert train("a", epochs=3) == run.FAILED
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = capsys.readouterr().err
    assert "the checkpoint of epoch 1 is kept: mend that and run the same command again" in error
    assert error.count("\n") == 1
    folder = tmp_path / "a" / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["0001"]
    assert checkpoint.is_whole(folder / "0001")
    assert train("a", epochs=3) == run.DONE
    assert logged(tmp_path / "a") == [1, 2, 3]
    assert_same_lora(tmp_path / "whole", tmp_path / "a")


def test_a_run_writes_and_goes_on_under_the_rules_of_windows(train, tmp_path, windows_rules) -> None:
    assert train(epochs=1, output=SAMPLES) == run.DONE
    assert train(epochs=2) == run.DONE
    assert {"lora.safetensors", "state.json", "state.safetensors"} <= set(windows_rules)
    assert checkpoint.is_whole(tmp_path / "a" / "checkpoints" / "0002")


def test_a_file_in_place_of_the_folder_and_damaged_settings_are_told(train, trained, tmp_path, capsys) -> None:
    (tmp_path / "b").write_text("a file")
    assert train("b") == run.WRONG_INPUT
    assert re.search(refusal("--out", str(tmp_path / "b"), "a folder"), capsys.readouterr().err)
    trained(tmp_path / "a", epochs=2)
    (tmp_path / "a" / "train.json").write_bytes(b'{"epochs": 2')
    assert train() == run.WRONG_INPUT
    assert "its train.json is damaged; delete that file to go on" in capsys.readouterr().err
    (tmp_path / "a" / "train.json").unlink()
    assert train() == run.DONE


def test_rows_that_are_trained_again_or_cut_off_leave_the_log(tmp_path) -> None:
    for epoch in (1, 2, 3):
        log_epoch(tmp_path, {"epoch": epoch, "step": 4 * epoch, "loss": "0.5"})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("4,1")
    forget_epochs_after(tmp_path, 2)
    log_epoch(tmp_path, {"epoch": 3, "step": 12, "loss": "0.5"})
    assert logged(tmp_path) == [1, 2, 3]
    (tmp_path / "log.csv").write_bytes(b"epoch,st")
    forget_epochs_after(tmp_path, 2)
    log_epoch(tmp_path, {"epoch": 1, "step": 4, "loss": "0.5"})
    assert logged(tmp_path) == [1]


def test_a_run_begun_before_a_setting_existed_goes_on_with_its_default(train, trained, tmp_path) -> None:
    trained(tmp_path / "a", epochs=1)
    file = tmp_path / "a" / "train.json"
    settings = json.loads(file.read_text())
    del settings["d_coef"]
    file.write_text(json.dumps(settings))
    assert train(epochs=2) == run.DONE
    assert train(epochs=2, d_coef=2.0) == run.WRONG_INPUT

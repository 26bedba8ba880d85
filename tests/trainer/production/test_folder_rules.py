"""With which settings, photos and epochs a run's folder is gone on with, and what is said where its disk fails."""

import errno
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.messages import refusal
from trainer import checkpoint
from trainer.config.config import TrainConfig
from trainer.errors import ConfigError, TrainerError
from trainer.production.production_folder import (
    check_content,
    check_settings,
    check_ship_epoch,
    claimed,
    deliver,
    forget_epochs_after,
    log_epoch,
    note_settings,
    saying_what_is_kept,
)

FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
CONTENT = {"photos and captions": "abc", "base": "def"}


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"base": "b", "data": "d", "epochs": 4, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run that has trained two of its four epochs."""
    note_settings(_config(), tmp_path, CONTENT)
    for epoch in (1, 2):
        checkpoint.write_checkpoint(tmp_path / "checkpoints", epoch, lambda path: None)
    return tmp_path


def test_the_same_run_goes_on_wherever_its_photos_lie_now(folder: Path, tmp_path_factory) -> None:
    for free in (
        {},
        {"epochs": 9},
        {"save_every_n_epochs": 3},
        {"base": "b2", "data": "d2", "reg_data": "r"},
        {"family": "sd15"},
    ):
        check_settings(_config(**free), folder)
        check_content(_config(**free), folder, CONTENT)
    new = tmp_path_factory.mktemp("new")
    check_settings(_config(rank=7), new)
    check_content(_config(epochs=1), new, {"photos and captions": "other", "base": "other"})
    note_settings(_config(), new, CONTENT)
    check_settings(_config(rank=7), new)  # nothing is trained yet
    (folder / "train.json").unlink()
    check_settings(_config(rank=7), folder)


@pytest.mark.parametrize("changes", [{"rank": 7}, {"seed": 5}, {"learning_rate": 0.5}, {"train_text_encoder": True}])
def test_another_setting_is_another_run(folder: Path, changes: dict[str, Any]) -> None:
    ((key, value),) = changes.items()
    with pytest.raises(ConfigError, match=refusal(key, str(value).lower(), f"{getattr(_config(), key)!r}, as the run")):
        check_settings(_config(**changes), folder)


def test_a_schedule_over_all_epochs_keeps_their_number(folder: Path) -> None:
    note_settings(_config(lr_scheduler="cosine"), folder, CONTENT)
    check_settings(_config(lr_scheduler="cosine"), folder)
    with pytest.raises(ConfigError, match=refusal("epochs", 5, "4, as the run")):
        check_settings(_config(lr_scheduler="cosine", epochs=5), folder)


def test_other_photos_another_base_and_fewer_epochs_than_trained_are_refused(folder: Path) -> None:
    for what, key, value in (("photos and captions", "data", "d"), ("base", "base", "b")):
        with pytest.raises(ConfigError, match=refusal(key, value, f"the {what} of the run")):
            check_content(_config(), folder, CONTENT | {what: "other"})
    check_content(_config(epochs=2), folder, CONTENT)
    with pytest.raises(ConfigError, match=refusal("epochs", 1, "at least 2")):
        check_content(_config(epochs=1), folder, CONTENT)
    settings = json.loads((folder / "train.json").read_text())
    del settings["content"]
    (folder / "train.json").write_text(json.dumps(settings))
    check_content(_config(), folder, {"photos and captions": "other", "base": "other"})


@pytest.mark.parametrize("content", ["[]", "{", "7", "[" * 100_000])
def test_damaged_settings_are_told_while_there_is_something_trained(folder: Path, content: str) -> None:
    (folder / "train.json").write_text(content)
    with pytest.raises(ConfigError, match=r"--out: .*its train\.json is damaged"):
        check_settings(_config(), folder)


def test_an_epoch_to_ship_is_ahead_or_kept(folder: Path) -> None:
    for free in (None, 3, 9):
        check_ship_epoch(free, folder)
    with pytest.raises(ConfigError, match=refusal("output.ship_epoch", 2, "has kept (none)")):
        check_ship_epoch(2, folder)
    lora = folder / "checkpoints" / "0002" / "lora.safetensors"
    save_file({"up": np.ones((2, 3), np.float32)}, lora)
    check_ship_epoch(2, folder)
    with pytest.raises(ConfigError, match=refusal("output.ship_epoch", 1, "has kept (2)")):
        check_ship_epoch(1, folder)
    check_ship_epoch(1, folder / "new")
    assert deliver(folder, 2, "toy") == folder / "toy.safetensors"
    assert (folder / "toy.safetensors").read_bytes() == lora.read_bytes()
    with pytest.raises(TrainerError, match=r"0001: lora\.safetensors is missing"):
        deliver(folder, 1, "one")
    assert not (folder / "one.safetensors").exists()


@pytest.mark.parametrize("number", FAULTS)
def test_a_disk_that_fails_is_one_line_with_what_is_kept(folder: Path, number: int) -> None:
    with pytest.raises(TrainerError) as told, saying_what_is_kept(folder):
        raise OSError(number, os.strerror(number), "/disk/file")
    assert str(told.value).startswith("/disk/file: ")
    assert "is kept" not in str(told.value)  # no state to go on from
    (folder / "checkpoints" / "0001" / "state.json").write_text("{}")
    with pytest.raises(TrainerError) as told, saying_what_is_kept(folder):
        raise OSError(number, os.strerror(number))
    assert str(told.value).startswith(f"{folder}: ")
    assert "the checkpoint of epoch 1 is kept: mend that and run the same command again" in str(told.value)


def test_what_is_no_fault_of_the_machine_is_not_taken_for_one(folder: Path) -> None:
    with pytest.raises(FileNotFoundError), saying_what_is_kept(folder):
        raise FileNotFoundError(errno.ENOENT, "gone")
    with pytest.raises(ValueError, match=r"^other$"), saying_what_is_kept(folder):
        raise ValueError("other")


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        ({"pid": 12, "host": platform.node()}, "trainer (pid 12) is"),
        ({"pid": 12, "host": "elsewhere"}, "trainer (pid 12 on elsewhere) is"),
        ({"pid": 12}, "trainer is"),
        ({"pid": "x", "host": "a"}, "trainer is"),
        ([1], "trainer is"),
        (None, "trainer is"),
    ],
)
def test_who_holds_a_folder_is_told_as_far_as_it_is_known(tmp_path: Path, holder: Any, said: str) -> None:
    with claimed(tmp_path / "a"):
        file = tmp_path / "a" / ".train.holder"
        assert json.loads(file.read_text()) == {"pid": os.getpid(), "host": platform.node()}
        file.unlink()
        if holder is not None:
            file.write_text(json.dumps(holder))
        with pytest.raises(TrainerError) as refused, claimed(tmp_path / "a"):
            pass
    assert f"another {said} at work in this folder" in str(refused.value)
    with claimed(tmp_path / "a"):
        pass


def test_leftovers_go_from_the_folder_its_checkpoints_and_its_samples(tmp_path: Path) -> None:
    left = [tmp_path / place / ".0123456789abcdef.part" for place in (".", "checkpoints", "samples")]
    for path in left:
        path.mkdir(parents=True)
    (tmp_path / "samples" / "mine.png").write_bytes(b"")
    with claimed(tmp_path):
        assert not any(path.exists() for path in left)
        assert (tmp_path / "samples" / "mine.png").exists()


def test_the_log_has_one_head_and_a_row_for_each_epoch(tmp_path: Path) -> None:
    forget_epochs_after(tmp_path, 0)
    assert not (tmp_path / "log.csv").exists()
    for epoch in (1, 2, 3):
        log_epoch(tmp_path, {"epoch": epoch, "loss": f"0.{epoch}"})
    whole = (tmp_path / "log.csv").read_bytes()
    assert whole == b"epoch,loss\r\n1,0.1\r\n2,0.2\r\n3,0.3\r\n"
    forget_epochs_after(tmp_path, 3)
    assert (tmp_path / "log.csv").read_bytes() == whole
    (tmp_path / "log.csv").write_bytes(whole + b"4,0.4,7\r\nx,0.5\r\n3,0.3")
    forget_epochs_after(tmp_path, 4)
    assert (tmp_path / "log.csv").read_bytes() == whole
    forget_epochs_after(tmp_path, 0)
    assert (tmp_path / "log.csv").read_bytes() == b"epoch,loss\r\n"

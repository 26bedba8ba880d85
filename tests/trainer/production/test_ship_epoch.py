"""A production run ends with the LoRA of the epoch to ship, whether training ends there or goes on."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from tests.messages import refusal
from trainer import run
from trainer.lora.kohya_file import load_lora, read_metadata

# one step an epoch
SETTINGS = {"resolution": 32, "batch_size": 16, "rank": 2, "epochs": 4, "learning_rate": 1e-2, "lr_scheduler": "cosine"}


def _write(folder: Path, base: Path, photos: Path, output: dict, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump({"base": str(base), "data": str(photos), **SETTINGS, **changes, "output": output}))
    return path


def _same(one: Path, other: Path) -> bool:
    first, second = load_lora(one).modules, load_lora(other).modules
    return all(torch.equal(first[site].up, second[site].up) for site in first)


def _trained(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "train" / "checkpoints").iterdir())


def test_the_run_ends_with_the_epoch_to_ship_on_the_schedule_of_all_epochs(tiny_sd15, tiny_photos, tmp_path, capsys):
    output = {"name": "toy", "ship_epoch": 2}
    assert run.main([str(_write(tmp_path / "stops", tiny_sd15, tiny_photos, output))]) == run.DONE
    assert _trained(tmp_path / "stops") == ["0001", "0002"]
    assert "toy.safetensors, epoch 2 of 4" in capsys.readouterr().out
    output["stop_at_ship_epoch"] = False
    assert run.main([str(_write(tmp_path / "goes_on", tiny_sd15, tiny_photos, output))]) == run.DONE
    assert _trained(tmp_path / "goes_on") == ["0001", "0002", "0003", "0004"]
    shipped = tmp_path / "goes_on" / "train" / "toy.safetensors"
    checkpoints = tmp_path / "goes_on" / "train" / "checkpoints"
    assert _same(shipped, checkpoints / "0002" / "lora.safetensors")
    assert not _same(shipped, checkpoints / "0004" / "lora.safetensors")
    assert _same(shipped, tmp_path / "stops" / "train" / "toy.safetensors"), "stopping changes no step before"
    assert read_metadata(shipped)["ss_epoch"] == "2"
    assert read_metadata(shipped)["ss_num_epochs"] == "4"


def test_an_epoch_to_ship_between_checkpoints_gets_one(tiny_sd15, tiny_photos, tmp_path):
    output = {"name": "toy", "ship_epoch": 1, "stop_at_ship_epoch": False}
    path = _write(tmp_path, tiny_sd15, tiny_photos, output, epochs=2, save_every_n_epochs=2)
    assert run.main([str(path)]) == run.DONE
    assert _trained(tmp_path) == ["0001", "0002"]


def test_a_finished_run_ships_another_of_its_epochs_without_training(tiny_sd15, tiny_photos, tmp_path, capsys):
    settings = {"epochs": 2, "save_every_n_epochs": 2}
    assert run.main([str(_write(tmp_path, tiny_sd15, tiny_photos, {"name": "toy"}, **settings))]) == run.DONE
    lora = tmp_path / "train" / "checkpoints" / "0002" / "lora.safetensors"
    written = lora.stat().st_mtime_ns
    path = _write(tmp_path, tiny_sd15, tiny_photos, {"name": "two", "ship_epoch": 2}, **settings)
    assert run.main([str(path)]) == run.DONE
    assert _same(tmp_path / "train" / "two.safetensors", lora)
    assert lora.stat().st_mtime_ns == written
    capsys.readouterr()
    path = _write(tmp_path, tiny_sd15, tiny_photos, {"name": "one", "ship_epoch": 1}, **settings)
    assert run.main([str(path)]) == run.WRONG_INPUT
    error = capsys.readouterr().err
    assert re.search(refusal("output.ship_epoch", 1, "has kept (2)"), error)


@pytest.mark.parametrize(
    ("output", "changes", "said"),
    [
        ({"ship_epoch": 5}, {}, refusal("output.ship_epoch", 5, "at most epochs (4)")),
        ({}, {"ship_epoch": 2}, refusal("ship_epoch", 2, "the section output")),
    ],
)
def test_an_epoch_to_ship_that_cannot_be_is_refused(tiny_sd15, tiny_photos, tmp_path, capsys, output, changes, said):
    assert run.main([str(_write(tmp_path, tiny_sd15, tiny_photos, output, **changes))]) == run.WRONG_INPUT
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "train").exists()

"""A base's fingerprint: the same wherever it lies, another with any weight, setting or token."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.base_model.fingerprint import fingerprint_base, fingerprint_folder
from trainer.errors import ModelError


@pytest.fixture
def copied(tiny_sd15, tmp_path) -> Path:
    return shutil.copytree(tiny_sd15, tmp_path / "elsewhere")


def _nudge(file: Path, name: str) -> None:
    tensors = load_file(file)
    tensors[name].view(-1)[-1] += 0.25  # one weight of the last, so that no sample of a few would see it
    save_file(tensors, file, {"format": "pt"})


def test_it_is_of_the_content_alone(tiny_sd15, copied) -> None:
    before = fingerprint_base(tiny_sd15)
    (copied / "README.md").write_text("notes")
    (copied / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    index = json.loads((copied / "unet" / "config.json").read_text()) | {"_diffusers_version": "0.1"}
    (copied / "unet" / "config.json").write_text(json.dumps(index))
    weights = copied / "vae" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(weights), weights, {"format": "pt", "note": "saved again"})
    assert fingerprint_base(copied) == before


@pytest.mark.parametrize(
    ("part", "file", "tensor"),
    [
        ("unet", "diffusion_pytorch_model.safetensors", "conv_out.weight"),
        ("vae", "diffusion_pytorch_model.safetensors", "encoder.conv_in.weight"),
        ("text_encoder", "model.safetensors", "final_layer_norm.weight"),
    ],
)
def test_one_weight_of_any_part_changes_it(part, file, tensor, tiny_sd15, copied) -> None:
    names = load_file(copied / part / file)
    size = (copied / part / file).stat().st_size
    _nudge(copied / part / file, next(name for name in names if name.endswith(tensor)))
    assert (copied / part / file).stat().st_size == size
    assert fingerprint_base(copied) != fingerprint_base(tiny_sd15)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}),
        ("vae/config.json", {"scaling_factor": 0.5}),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 16}),
    ],
)
def test_settings_and_tokens_change_it(file, change, tiny_sd15, copied) -> None:
    (copied / file).write_text(json.dumps(json.loads((copied / file).read_text()) | change))
    assert fingerprint_base(copied) != fingerprint_base(tiny_sd15)


def test_a_remembered_file_that_was_replaced_is_read_again(copied, tmp_path) -> None:
    remember, weights = tmp_path / "cache", copied / "unet" / "diffusion_pytorch_model.safetensors"
    before, about = fingerprint_base(copied, remember=remember), weights.stat()
    kept = json.loads((remember / "base-fingerprints.json").read_text())
    assert fingerprint_base(copied, remember=remember) == before == fingerprint_base(copied)
    _nudge(weights, "conv_out.weight")
    os.utime(weights, ns=(about.st_atime_ns, about.st_mtime_ns))  # as cp -p and rsync -t leave it
    changed = fingerprint_base(copied, remember=remember)
    assert changed == fingerprint_base(copied) != before
    (remember / "base-fingerprints.json").write_text("{ torn")
    assert fingerprint_base(copied, remember=remember) == changed
    assert json.loads((remember / "base-fingerprints.json").read_text()).keys() == kept.keys()


def test_single_files_too(tmp_path) -> None:
    from safetensors import safe_open

    keys = ["conditioner.embedders.1.model.a", "b"]
    save_file({key: torch.ones(3, 3) for key in keys}, tmp_path / "one.safetensors", {"title": "one"})
    save_file({key: torch.ones(3, 3) for key in keys}, tmp_path / "two.safetensors", {"title": "two"})
    with safe_open(tmp_path / "two.safetensors", "pt") as file:
        assert file.metadata() == {"title": "two"}
    assert fingerprint_base(tmp_path / "one.safetensors") == fingerprint_base(tmp_path / "two.safetensors")
    _nudge(tmp_path / "two.safetensors", "b")
    assert fingerprint_base(tmp_path / "one.safetensors") != fingerprint_base(tmp_path / "two.safetensors")
    save_file({keys[0]: torch.ones(3, 3), "b": torch.ones(3, 3), "v_pred": torch.zeros(0)}, tmp_path / "v.safetensors")
    assert fingerprint_base(tmp_path / "one.safetensors") != fingerprint_base(tmp_path / "v.safetensors")


def test_a_base_that_is_not_whole_has_none(copied) -> None:
    (copied / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights here"):
        fingerprint_base(copied)


def test_a_folders_is_of_names_and_contents_and_of_nothing_hidden(tmp_path: Path) -> None:
    (tmp_path / "eyes" / "parts").mkdir(parents=True)
    (tmp_path / "eyes" / "model.bin").write_bytes(b"weights")
    (tmp_path / "eyes" / "parts" / "config.json").write_text("{}")
    before = fingerprint_folder(tmp_path / "eyes")
    (tmp_path / "eyes" / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / "eyes" / ".cache" / "huggingface" / "model.lock").touch()
    (tmp_path / "eyes" / ".DS_Store").write_text("x")
    (tmp_path / "eyes").rename(tmp_path / "elsewhere")
    there = tmp_path / "elsewhere"
    assert fingerprint_folder(there) == before
    (there / "parts" / "config.json").rename(there / "parts" / "other.json")
    renamed = fingerprint_folder(there)
    (there / "parts" / "other.json").write_text("[]")
    assert len({before, renamed, fingerprint_folder(there)}) == 3

"""Bases whose files the tests change, and how their refusal is looked at."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.base_model.load import load_base
from trainer.errors import ModelError

WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}


def weights_of(base: Path, part: str) -> Path:
    """The file of a component's weights."""
    return base / part / f"{WEIGHTS.get(part, 'model')}.safetensors"


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Saves what `change` makes of a file's tensors in its place."""
    save_file(change(load_file(file)), file, {"format": "pt"})


def refused(base: Path, *reasons: str) -> None:
    """Asserts that loading fails in one line with the base's path and these words."""
    with pytest.raises(ModelError) as caught:
        load_base(base)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    for reason in (str(base), *reasons):
        assert reason in text


def configs_of(folder: Path, name: str, to: Path) -> Path:
    """The component configs and tokenizers of a tiny base, to stand in for the shipped ones of the full size."""
    return shutil.copytree(folder, to / name, ignore=shutil.ignore_patterns("*.safetensors")).parent

"""What lies in a base's folder and would keep a library waiting or building for ever is refused at a look."""

import json
import os
import shutil
from pathlib import Path

import pytest

from trainer.base_model.load import check_family
from trainer.errors import ModelError

DEMO_BASE = Path(__file__).parents[3] / "studies" / "demo" / "base"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return shutil.copytree(DEMO_BASE, tmp_path / "base")


FILES = ["unet/diffusion_pytorch_model.safetensors", "unet/config.json", "tokenizer/merges.txt", "model_index.json"]


@pytest.mark.parametrize("name", FILES)
def test_pipes_in_place_of_files_are_refused_unread(name: str, base: Path) -> None:
    (base / name).unlink()
    os.mkfifo(base / name)
    with pytest.raises(ModelError, match=r"a device or a pipe|no model_index\.json"):
        check_family(base)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("unet", "layers_per_block", 10**9),
        ("unet", "transformer_layers_per_block", [1, 10**5]),
        ("text_encoder", "num_hidden_layers", 10**6),
        ("text_encoder", "vocab_size", 10**12),
        ("vae", "block_out_channels", [32, 10**30]),
        ("scheduler", "num_train_timesteps", 10**12),
    ],
)
def test_numbers_that_no_model_has_are_refused(part: str, key: str, value: object, base: Path) -> None:
    file = base / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ModelError, match=rf"config\.json: {key}: expected at most 1\d*, got 10+"):
        check_family(base)

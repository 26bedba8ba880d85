"""`python -m trainer.draw`: own prompts over LoRA files, folders and trials, in one picture."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.messages import refusal
from trainer import draw
from trainer.families import FAMILIES
from trainer.inference.checkpoint_choice import chosen
from trainer.lora.kohya_file import save_lora
from trainer.lora.lora import LoraModule, LoraWeights

PROMPTS = ("a photo of sks toy", "sks toy in the snow")


def lora(path: Path, scale: float = 1.0, width: int = 32) -> Path:
    """A LoRA of one layer of the tiny SD1.5, strong enough to be seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    site = FAMILIES["sd15"].module_path(name)
    assert site is not None
    stream = torch.Generator().manual_seed(0)
    down, up = torch.randn(2, width, generator=stream), torch.randn(width, 2, generator=stream) * scale
    return save_lora(path, LoraWeights({site: LoraModule(down, up, alpha=2.0)}, "sd15"))


@pytest.fixture(scope="module")
def width(tiny_sd15: Path) -> int:
    """Channels of the tiny base's first block."""
    return int(json.loads((tiny_sd15 / "unet" / "config.json").read_text())["block_out_channels"][0])


def test_a_row_for_each_prompt_and_seed_a_column_for_each_strength(tiny_sd15, width, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = lora(tmp_path / "dog.safetensors", 4.0, width)
    drawn = ["--prompt", *PROMPTS, "--strength", "0", "1", "--seeds", "2", "--steps", "2", "--images", "each"]
    assert draw.main([str(file), "--base", str(tiny_sd15), *drawn]) == draw.DONE
    images = {
        folder.name: [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
        for folder in (tmp_path / "each").iterdir()
    }
    assert {name: len(found) for name, found in images.items()} == {"base": 4, "dog_0": 4, "dog_1": 4}
    assert all((a == b).all() for a, b in zip(images["base"], images["dog_0"], strict=True))
    assert all((a != b).any() for a, b in zip(images["base"], images["dog_1"], strict=True))
    with Image.open(tmp_path / "drawn-1.png") as picture:
        assert json.loads(picture.info["onset"]) == {"kind": "figure"}  # metrics.run takes it for no sample
        shown = np.asarray(picture)
    face = np.asarray(Image.fromarray(images["dog_1"][0]).resize((256, 256), Image.Resampling.NEAREST))
    places = np.argwhere((shown[:, :, :] == face[0, 0]).all(axis=-1))
    assert any((shown[y : y + 256, x : x + 256] == face).all() for y, x in places if y + 256 <= shown.shape[0])
    said = capsys.readouterr().out
    assert "drawn-1.png: 3 columns, 4 rows" in said
    assert draw.main([str(file), "--base", str(tiny_sd15), "--prompt", "x", "--steps", "1", "--no-base"]) == draw.DONE
    assert (tmp_path / "drawn-2.png").is_file()  # nothing is overwritten
    assert "drawn-2.png: 1 column, 1 row; seed 0" in capsys.readouterr().out


def test_a_trial_knows_its_base_and_its_epochs(tiny_sd15, width, tmp_path, capsys):
    trial = tmp_path / "trials" / "0007"
    for epoch in (2, 4, 6):
        lora(trial / "checkpoints" / f"{epoch:04d}" / "lora.safetensors", epoch, width)
    (trial / "config.yaml").write_text(yaml.safe_dump({"base": str(tiny_sd15)}))
    command = [str(trial), "--prompt", "sks toy", "--steps", "1", "--to", str(tmp_path / "new" / "sheet.png")]
    assert draw.main([*command, "--epochs", "6", "2"]) == draw.DONE
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:3]] == ["base", "epoch 6", "epoch 2"]
    assert draw.main([*command, "--epochs", "3"]) == 2
    assert re.search(refusal("--epochs", 3, "a checkpoint in"), capsys.readouterr().err)


def test_a_trial_whose_base_has_moved_asks_for_it(width, tmp_path, capsys):
    trial = tmp_path / "0003"
    (trial / "checkpoints" / "0002").mkdir(parents=True)
    lora(trial / "checkpoints" / "0002" / "lora.safetensors", 1, width)
    (trial / "config.yaml").write_text(yaml.safe_dump({"base": str(tmp_path / "moved")}))
    assert draw.main([str(trial), "--prompt", "x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --base: expected the base that the LoRA was trained on")
    assert f"it was {tmp_path / 'moved'}" in said


def test_of_a_long_run_eight_files_are_taken_with_the_first_and_the_last(tmp_path):
    for epoch in range(1, 31):
        lora(tmp_path / "run" / f"dog-{epoch:06d}.safetensors", epoch)
    lora(tmp_path / "run" / "dog.safetensors")
    names = [each.name for each in chosen([tmp_path / "run"])]
    assert len(names) == 8
    assert (names[0], names[-1]) == ("epoch 1", "final")
    both = chosen([tmp_path / "run", tmp_path / "run" / "dog.safetensors"], [5])
    assert [(each.name, each.of) for each in both] == [("epoch 5", ""), ("dog", "")]
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    assert {each.of for each in chosen([tmp_path / "run", tmp_path / "other"], [5])} == {"run", "other"}


def test_a_number_that_does_not_say_what_it_counts_is_taken_for_the_epoch(tmp_path):
    for number in (2, 10):
        lora(tmp_path / "run" / f"dog-{number}.safetensors", number)
    assert [each.name for each in chosen([tmp_path / "run"])] == ["epoch 2", "epoch 10"]


@pytest.mark.parametrize(
    ("arguments", "key", "given", "expected"),
    [
        (["--strength", "a"], "--strength", "a", "a number from -4 to 4"),
        (["--size", "big"], "--size", "big", "a side from 64"),
        (["--to", "sheet.jpg"], "--to", "sheet.jpg", "the name of a .png file"),
        (["--seeds", "0"], "--seeds", 0, "a whole number from 1"),
        (["--device", "gpu"], "--device", "gpu", "auto, cpu"),
        ([], "--base", None, "the base"),
    ],
)
def test_wrong_input_is_told_before_anything_is_loaded(arguments, key, given, expected, tmp_path, capsys):
    file = lora(tmp_path / "dog.safetensors")
    try:
        code = draw.main([str(file), "--prompt", "x", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    said = capsys.readouterr().err
    assert key in said
    assert expected in said
    assert said.count("\n") == 1


def test_a_file_that_does_not_fit_is_named_before_anything_is_drawn(tiny_sd15, width, tmp_path, capsys):
    right, wrong = lora(tmp_path / "a.safetensors", 1, width), lora(tmp_path / "b.safetensors", 1, width + 1)
    command = [str(right), str(wrong), "--base", str(tiny_sd15), "--prompt", "x", "--to", str(tmp_path / "x.png")]
    assert draw.main(command) == 2
    out, error = capsys.readouterr()
    assert str(wrong) in error
    assert not out
    assert draw.main([str(tmp_path / "c.safetensors"), *command[2:]]) == 2
    assert "no such file" in capsys.readouterr().err

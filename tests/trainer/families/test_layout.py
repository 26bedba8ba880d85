"""Which files of a base are read, and what in them is refused, from names and numbers alone."""

import json
import shutil
from pathlib import Path

import pytest

from trainer.errors import ModelError
from trainer.families import layout

UNET, TEXT = "diffusion_pytorch_model", "model"
SHARDS = tuple(f"{TEXT}-0000{number}-of-00002.safetensors" for number in (1, 2))
INDEX = f"{TEXT}.safetensors.index.json"


@pytest.mark.parametrize(
    ("names", "library", "chosen"),
    [
        ((), "diffusers", ()),
        ((f"{UNET}.bin", "config.json"), "diffusers", ()),
        ((f"{UNET}.fp16.safetensors", f"{UNET}.safetensors"), "diffusers", (f"{UNET}.safetensors",)),
        ((f"{UNET}.fp16.safetensors", f"{UNET}.bin"), "diffusers", (f"{UNET}.fp16.safetensors",)),
        ((f"{UNET}.non_ema.safetensors",), "diffusers", ()),
        ((*SHARDS, INDEX), "transformers", (INDEX, *SHARDS)),
        ((*SHARDS,), "transformers", ()),
        ((*SHARDS, INDEX, "model.safetensors"), "transformers", ("model.safetensors",)),
        ((*SHARDS, INDEX, "model.safetensors"), "diffusers", (INDEX, *SHARDS)),
        (("model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors"), "diffusers",
         ("model.safetensors.index.fp16.json", "model.fp16-00001-of-00001.safetensors")),
        (("model.safetensors.index.fp16.json", "model.safetensors"), "diffusers", ("model.safetensors",)),
    ],
)  # fmt: skip
def test_one_file_or_an_index_with_its_shards_is_chosen(names, library, chosen) -> None:
    assert layout.choose_weights(names, library) == chosen
    assert layout.choose_weights(reversed(names), library) == chosen


def test_of_a_repository_the_parts_that_are_read_are_needed_and_nothing_else() -> None:
    names = [
        "model_index.json", "README.md", "v1-5-pruned.safetensors", "model.safetensors",
        "unet/config.json", f"unet/{UNET}.safetensors", f"unet/{UNET}.fp16.safetensors", f"unet/{UNET}.bin",
        "unet/model.onnx", "unet/model.onnx_data", "unet/flax.msgpack",
        "text_encoder/config.json", *(f"text_encoder/{name}" for name in (*SHARDS, INDEX, "model.safetensors")),
        "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json", "tokenizer/merges.txt",
        "tokenizer_2/vocab.json", "unet/more/config.json", "scheduler/scheduler_config.json",
    ]  # fmt: skip
    small = {"model_index.json", "unet/config.json", "text_encoder/config.json", f"text_encoder/{INDEX}",
             "tokenizer/merges.txt", "tokenizer_2/vocab.json", "scheduler/scheduler_config.json"}  # fmt: skip
    whole, light = layout._needed(names, weights=True), layout._needed(names, weights=False)
    assert set(light) == small
    assert set(whole) == small | {f"unet/{UNET}.safetensors", "text_encoder/model.safetensors"}
    assert (len(whole), len(light)) == (len(set(whole)), len(set(light)))
    assert layout._needed(["unet/config.json"], weights=True) == ["unet/config.json"]


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"a": 10_000_000, "num_layers": 1000, "b": -10_000_000, "c": 1e30, "d": "9" * 30}, None),
        ({"a": 10_000_001}, "a"),
        ({"a": -10_000_001}, "a"),
        ({"num_layers": 1001}, "num_layers"),
        ({"layers_per_block": [1, 2, 1001]}, "layers_per_block"),
        ({"inner": {"a": [[10_000_001]]}}, "a"),
        ({"inner": {"a": [{"num_hidden_layers": 1001}]}}, "num_hidden_layers"),
    ],
)
def test_a_number_that_no_model_has_is_told_with_its_key(content, key, tmp_path: Path) -> None:
    if key is None:
        layout._check_sizes(tmp_path / "config.json", content)
        return
    with pytest.raises(ModelError, match=f"config.json.*{key}.*100[01]") as told:
        layout._check_sizes(tmp_path / "config.json", content)
    assert f"at most {1000 if 'layers' in key else 10_000_000}" in str(told.value)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("unet", "b: the base's U-Net (unet)"),
        ("text_encoder_3", "b: the base's third text encoder (text_encoder_3)"),
        ("transformer", "b: the base's transformer"),
    ],
)
def test_a_part_is_called_by_its_name(part: str, said: str) -> None:
    assert layout.title("b", part) == said


@pytest.mark.parametrize(
    ("entry", "refused"),
    [(["diffusers", "X", "Y"], True), (["diffusers"], True), (["diffusers", 1], True), ("X", True),
     ([None, None], False), (None, False)],
)  # fmt: skip
def test_an_entry_of_the_index_is_a_library_and_a_class(entry, refused: bool, tiny_sd15: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_sd15, tmp_path / "base")
    index = json.loads((base / "model_index.json").read_text())
    others = {"safety_checker": ["stable_diffusion", "Checker"], "requires_safety_checker": True}
    (base / "model_index.json").write_text(json.dumps(others | index | {"unet_2": entry}))
    if refused:
        with pytest.raises(ModelError, match=r"model_index.json: unet_2: not a library and a class: "):
            layout.read_parts(base)
        return
    parts = layout.read_parts(base, ("unet",))
    assert set(parts) == {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    assert {name for name, part in parts.items() if part.has_weights} == {"unet", "vae", "text_encoder"}
    assert {part.config_file.name for part in parts.values()} == {"config.json", "scheduler_config.json"}
    assert all(part.folder == base / name for name, part in parts.items())


def test_a_snapshot_is_whole_with_each_file_that_is_asked_for(tiny_sd15: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_sd15, tmp_path / "base")
    assert layout._whole(base, True)
    (base / "vae" / f"{UNET}.safetensors").unlink()
    assert not layout._whole(base, True)
    assert layout._whole(base, False)
    shutil.rmtree(base / "vae")
    assert not layout._whole(base, False)
    assert not layout._whole(tmp_path, False)


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        (None, "names no files"),
        ({}, "names no files"),
        ({"a": 1}, "names no files"),
        ([SHARDS[0]], "names no files"),
        ({"a": SHARDS[0], "b": SHARDS[1], "c": "other.safetensors"},
         r"model-00002-of-00002.safetensors, other.safetensors is missing, which model.safetensors.index.json names"),
    ],
)  # fmt: skip
def test_an_index_names_files_that_are_there(shards, said: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": shards}))
    (tmp_path / SHARDS[0]).touch()
    part = layout.Part("text_encoder", "transformers", "CLIPTextModel", tmp_path)
    with pytest.raises(ModelError, match=said):
        layout.weight_files(part)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"b": SHARDS[0], "a": SHARDS[0]}}))
    assert layout.weight_files(part) == ((tmp_path / SHARDS[0],), None)
    (tmp_path / INDEX).rename(tmp_path / "model.fp16.safetensors")
    assert layout.weight_files(part) == ((tmp_path / "model.fp16.safetensors",), "fp16")

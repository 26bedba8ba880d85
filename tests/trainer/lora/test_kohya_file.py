"""LoRA files: keys, shapes, types, metadata and hashes as kohya writes them; diffusers draws the same images."""

import hashlib
import io
import json
import re
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from benchmarks.parity.ours import full_size_base
from tests.trainer.lora.made_loras import random_lora
from tests.trainer.packing.run_metadata import metadata
from trainer.base_model.load import load_base
from trainer.errors import ModelError
from trainer.inference.sample import initial_noise, sample
from trainer.lora.kohya_file import load_lora, read_metadata, save_lora
from trainer.lora.lora import LoraModule, LoraWeights


@pytest.mark.parametrize(("family", "counts"), [("sd15", (192, 72, 0)), ("sdxl", (722, 72, 192))])
def test_a_full_size_file_has_kohyas_keys_shapes_and_types(family: str, counts: tuple[int, ...], tmp_path) -> None:
    base = full_size_base(family)
    modules = {}
    for component in ("denoiser", *base.text_components):
        for path in base.family.lora_targets(base, component, "kohya", False):
            weight = base.component(component).get_submodule(path).weight
            down, up = (1, *weight.shape[1:]), (weight.shape[0], 1, *[1] * (weight.ndim - 2))
            modules[component, path] = LoraModule(torch.zeros(down), torch.zeros(up), 1.0)
    tensors = load_file(save_lora(tmp_path / "x.safetensors", LoraWeights(modules, family)))
    assert len(tensors) == 3 * sum(counts)
    prefixes = ("lora_unet_", "lora_te_" if family == "sd15" else "lora_te1_", "lora_te2_")
    for prefix, count in zip(prefixes, counts, strict=True):
        assert len({key.split(".")[0] for key in tensors if key.startswith(prefix)}) == count
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert all(value.shape == () for key, value in tensors.items() if key.endswith(".alpha"))
    if family == "sd15":
        name = "lora_unet_down_blocks_0_attentions_0"
        assert tensors[f"{name}_proj_in.lora_down.weight"].shape == (1, 320, 1, 1)
        assert tensors[f"{name}_proj_in.lora_up.weight"].shape == (320, 1, 1, 1)
        assert tensors[f"{name}_transformer_blocks_0_ff_net_0_proj.lora_up.weight"].shape == (2560, 1)
        assert tensors["lora_te_text_model_encoder_layers_11_mlp_fc1.lora_up.weight"].shape == (3072, 1)
    else:
        assert tensors["lora_unet_input_blocks_4_1_proj_in.lora_down.weight"].shape == (1, 640)
        assert tensors["lora_unet_middle_block_1_transformer_blocks_9_attn2_to_k.lora_down.weight"].shape == (1, 2048)
        assert tensors["lora_te2_text_model_encoder_layers_31_mlp_fc2.lora_down.weight"].shape == (1, 5120)


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_what_is_saved_is_loaded(name: str, request, tmp_path) -> None:
    base = load_base(request.getfixturevalue(f"tiny_{name}"))
    lora = random_lora(base, alpha=3.0, conv=name != "sd3")
    back = load_lora(save_lora(tmp_path / "x.safetensors", lora))
    assert back.family == name
    assert back.modules.keys() == lora.modules.keys()
    for site, module in lora.modules.items():
        assert back.modules[site].alpha == 3.0
        torch.testing.assert_close(back.modules[site].down, module.down.half().float(), rtol=0, atol=0)
        torch.testing.assert_close(back.modules[site].up, module.up.half().float(), rtol=0, atol=0)


def test_alpha_is_kept_exactly_and_zero_means_rank(tiny_sd15, tmp_path) -> None:
    base = load_base(tiny_sd15)
    lora = random_lora(base, alpha=4 * 2**0.5, text=False)
    path = save_lora(tmp_path / "x.safetensors", lora)
    assert next(iter(load_lora(path).modules.values())).alpha == pytest.approx(4 * 2**0.5, rel=1e-7)
    tensors = load_file(path)
    zero = {key: value * 0 if key.endswith(".alpha") else value for key, value in tensors.items()}
    save_file(zero, tmp_path / "zero.safetensors")
    absent = {key: value for key, value in tensors.items() if not key.endswith(".alpha")}
    save_file(absent, tmp_path / "absent.safetensors")
    for name in ("zero", "absent"):
        assert next(iter(load_lora(tmp_path / f"{name}.safetensors").modules.values())).alpha == 4.0


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_diffusers_draws_the_same_image_from_the_file(name: str, request, tmp_path) -> None:
    base = load_base(request.getfixturevalue(f"tiny_{name}"))
    path = save_lora(tmp_path / "x.safetensors", random_lora(base, rank=4, alpha=1.0))
    lora = load_lora(path)
    settings = {"steps": 4, "guidance": 5.0, "size": (64, 64)}
    ours = sample(base, lora, ["a photo of sks toy"], [3], **settings)
    plain = sample(base, None, ["a photo of sks toy"], [3], **settings)

    theirs = base.family.pipeline(load_base(base.source), "dpmpp_2m")
    theirs.set_progress_bar_config(disable=True)
    theirs.load_lora_weights(str(tmp_path), weight_name="x.safetensors")
    loaded = [
        module_name
        for component in (theirs.unet, theirs.text_encoder, getattr(theirs, "text_encoder_2", None))
        if component is not None
        for module_name, _ in component.named_modules()
        if module_name.endswith(".lora_A.default_0")
    ]
    assert len(loaded) == len(lora.modules)
    image = theirs(
        "a photo of sks toy",
        negative_prompt="",
        latents=initial_noise(base, [3], (64, 64)),
        num_inference_steps=4,
        guidance_scale=5.0,
        width=64,
        height=64,
        output_type="np",
    ).images[0]
    expected = (image * 255).round().astype(np.int64)
    assert np.abs(ours[0].astype(int) - expected).max() <= 1
    assert np.abs(ours.astype(int) - plain).mean() > 3  # the LoRA is seen at all


def test_the_metadata_is_kohyas(tiny_sd15, tiny_photos, tmp_path) -> None:
    base = load_base(tiny_sd15)
    path = save_lora(tmp_path / "x.safetensors", random_lora(base), metadata(base, tiny_photos, clip_skip=2))
    found = read_metadata(path)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == found
    expected = {
        "ss_v2": "False",
        "ss_base_model_version": "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2.0",
        "ss_network_args": "{}",
        "ss_output_name": "toy",
        "ss_sd_model_name": "tiny-sd15",
        "ss_clip_skip": "2",
        "ss_training_started_at": "1700000000.0",
        "ss_resolution": "(64, 64)",
        "ss_num_train_images": "16",
        "ss_num_batches_per_epoch": "8",
        "ss_num_epochs": "10",
        "ss_epoch": "3",
        "ss_steps": "24",
        "ss_seed": "7",
        "ss_optimizer": "AdamW",
        "ss_lr_scheduler": "constant",
        "ss_unet_lr": "0.0001",
        "ss_text_encoder_lr": "None",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "toy",
        "modelspec.resolution": "64x64",
        "modelspec.prediction_type": "epsilon",
        "modelspec.date": "2023-11-14T22:13:20",
    }
    assert {key: found.get(key) for key in expected} == expected
    assert json.loads(found["ss_dataset_dirs"]) == {"2_sks toy": {"n_repeats": 2, "img_count": 8}}
    assert json.loads(found["ss_tag_frequency"])["2_sks toy"]["a photo of sks toy"] == 8
    assert json.loads(found["ss_bucket_info"])["buckets"] == {"0": {"resolution": [64, 64], "count": 16}}


def test_hashes_are_those_of_the_addnet_extension(tiny_sdxl, tiny_photos, tmp_path) -> None:
    """The reference reads the file as sd-scripts does: tensors and ss_* keys saved anew, header skipped."""
    base = load_base(tiny_sdxl)
    path = save_lora(tmp_path / "x.safetensors", random_lora(base, rank=64), metadata(base, tiny_photos))
    found = read_metadata(path)
    own = {key: value for key, value in found.items() if key.startswith("ss_")}
    stream = io.BytesIO(save(load_file(path), own))
    (length,) = struct.unpack("<Q", stream.read(8))
    stream.seek(8 + length)
    assert found["sshs_model_hash"] == hashlib.sha256(stream.read()).hexdigest()
    stream.seek(0x100000)
    legacy = hashlib.sha256(stream.read(0x10000)).hexdigest()
    assert not legacy.startswith("e3b0c442")
    assert found["sshs_legacy_hash"] == legacy[:8]
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert hashlib.sha256(content[8 + length :]).hexdigest() == found["sshs_model_hash"]
    assert found["modelspec.hash_sha256"] == "0x" + found["sshs_model_hash"]


def test_no_hash_of_nothing_is_written(tiny_sd15, tmp_path) -> None:
    path = save_lora(tmp_path / "x.safetensors", random_lora(load_base(tiny_sd15), rank=1, text=False))
    assert path.stat().st_size < 0x100000
    assert not any(value.startswith("e3b0c442") for value in read_metadata(path).values())


def test_nothing_is_left_when_writing_fails(tiny_sd15, tmp_path, monkeypatch) -> None:
    lora = random_lora(load_base(tiny_sd15), text=False)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_lora(tmp_path / "x.safetensors", lora)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"unet.weight": torch.zeros(1)}, "expected a LoRA"),
        ({"lora_unet_what.lora_down.weight": torch.zeros(1, 1)}, "none has any of its 1 tensors (lora_unet_what"),
        (
            {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(1, 1)},
            "expected both halves",
        ),
    ],
)
def test_files_that_are_no_lora_are_named(tensors, reason: str, tmp_path) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=re.escape(reason)) as caught:
        load_lora(tmp_path / "x.safetensors")
    assert "x.safetensors" in str(caught.value)


def test_a_lora_for_sdxl_with_diffusers_names_is_told_from_sd15(tiny_sdxl, tmp_path) -> None:
    name = "lora_unet_down_blocks_2_attentions_0_transformer_blocks_5_attn1_to_q"
    tensors = {f"{name}.lora_down.weight": torch.zeros(1, 4), f"{name}.lora_up.weight": torch.zeros(4, 1)}
    save_file(tensors, tmp_path / "x.safetensors")
    lora = load_lora(tmp_path / "x.safetensors")
    assert lora.family == "sdxl"
    assert list(lora.modules) == [("denoiser", "down_blocks.2.attentions.0.transformer_blocks.5.attn1.to_q")]

"""Loading: families are detected, mismatches told in one line, single files read without a network."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.parity.ours import full_size_base
from tests.trainer.original_format import to_original_format
from tests.trainer.packs import join, new_pack
from trainer.base_model.load import check_family, detect_family, load_base
from trainer.data.dataset import scan_dataset
from trainer.errors import ModelError
from trainer.families import layout, tokenizers


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_family_is_told_by_the_index(name: str, request) -> None:
    assert detect_family(request.getfixturevalue(f"tiny_{name}")) == name


def test_a_mismatch_is_one_line(tiny_sdxl) -> None:
    with pytest.raises(ModelError, match="family: expected sdxl, which this base is, or auto, got 'sd15'") as caught:
        check_family(tiny_sdxl, "sd15")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["lora_unet_x.lora_down.weight"], "this is a LoRA, not a base model"),
        (["something.weight"], "not a whole checkpoint of a known family"),
    ],
)
def test_files_that_are_no_base_are_named(keys: list[str], reason: str, tmp_path) -> None:
    save_file({key: torch.zeros(1) for key in keys}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=reason):
        detect_family(tmp_path / "x.safetensors")


def test_broken_sources_are_named_in_one_line(tmp_path, tiny_sd15) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    (tmp_path / "old.ckpt").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    half = shutil.copytree(tiny_sd15, tmp_path / "half")
    (half / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    for name, reason in (
        ("cut.safetensors", "cut short"),
        ("old.ckpt", ".safetensors only"),
        ("empty", "model_index.json"),
        ("missing.safetensors", "no such file"),
        ("half", "no weights here"),
    ):
        with pytest.raises(ModelError, match=reason) as caught:
            load_base(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_everything_is_frozen_and_the_vae_stays_in_fp32(tiny_sdxl) -> None:
    base = load_base(tiny_sdxl, precision="bf16")
    assert {p.dtype for p in base.denoiser.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in base.vae.parameters()} == {torch.float32}
    modules = (base.denoiser, base.vae, *base.text_encoders)
    assert not any(p.requires_grad for module in modules for p in module.parameters())


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_a_single_file_is_read_offline(name: str, request, tmp_path, monkeypatch) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{name}")
    whole = load_base(folder)
    # what published files hold besides the weights
    extra = {
        "betas": torch.zeros(3),
        "model_ema.decay": torch.zeros(1),
        "first_stage_model.loss.logvar": torch.zeros(1),
    }
    text = "cond_stage_model" if name == "sd15" else "conditioner.embedders.0"
    extra[f"{text}.transformer.text_model.embeddings.position_ids"] = torch.arange(4)[None]
    save_file(to_original_format(whole) | extra, tmp_path / "model.safetensors")
    # the tiny model's own component configs stand in for the shipped ones of the full size
    monkeypatch.setattr(layout, "CONFIGS", _named(folder, name, tmp_path))
    single = load_base(tmp_path / "model.safetensors")
    assert single.family.name == name
    for ours, theirs in zip(
        (single.denoiser, single.vae, *single.text_encoders),
        (whole.denoiser, whole.vae, *whole.text_encoders),
        strict=True,
    ):
        expected = theirs.state_dict()
        found = ours.state_dict()
        assert found.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)


@pytest.mark.slow
def test_a_full_size_file_is_read_with_the_shipped_configs(tmp_path) -> None:
    """SD1.5's 1,130 tensors at their real shapes, each filled with a number of its own."""
    base = full_size_base("sd15")
    modules = (base.denoiser, base.vae, *base.text_encoders)
    for module in modules:
        module.half().to_empty(device="cpu")
        for index, tensor in enumerate(module.state_dict().values()):
            tensor.fill_((1 + index % 97) / 1e6)  # small: each part is asked once, and must not overflow in fp16
    expected = [{key: (t.shape, t.flatten()[0].item()) for key, t in m.state_dict().items()} for m in modules]
    save_file(to_original_format(base), tmp_path / "model.safetensors")
    del base, modules
    loaded = load_base(tmp_path / "model.safetensors", precision="fp16")
    for module, values in zip((loaded.denoiser, loaded.vae, *loaded.text_encoders), expected, strict=True):
        assert {key: (t.shape, t.flatten()[0].item()) for key, t in module.state_dict().items()} == values
    assert loaded.tokenizers[0]("a cat").input_ids == [49406, 320, 2368, 49407]


def test_a_hub_id_is_found_in_the_hubs_cache(tiny_sd15, tmp_path, monkeypatch) -> None:
    import huggingface_hub.constants
    from transformers.utils import hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--onset--tiny"
    shutil.copytree(tiny_sd15, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    if hasattr(hub, "TRANSFORMERS_CACHE"):
        monkeypatch.setattr(hub, "TRANSFORMERS_CACHE", str(tmp_path))
    base = load_base("onset/tiny")
    assert base.family.name == "sd15"
    expected = load_base(tiny_sd15).denoiser.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in base.denoiser.state_dict().items())
    with pytest.raises(ModelError, match="onset/absent") as caught:
        load_base("onset/absent")
    assert "\n" not in str(caught.value)


def test_marker_keys_of_v_prediction_files_are_honoured(tiny_sd15, tmp_path, monkeypatch) -> None:
    tensors = to_original_format(load_base(tiny_sd15)) | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file(tensors, tmp_path / "model.safetensors")
    monkeypatch.setattr(layout, "CONFIGS", _named(tiny_sd15, "sd15", tmp_path))
    base = load_base(tmp_path / "model.safetensors")
    assert base.noise_scheduler.config.prediction_type == "v_prediction"
    assert base.noise_scheduler.alphas_cumprod[-1] < 1e-6


def test_clips_vocabulary_needs_no_download() -> None:
    tokenizer = tokenizers.clip_tokenizer()
    assert len(tokenizer) == 49408
    # ids as published for openai/clip-vit-large-patch14
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    padded = tokenizers.clip_tokenizer(pad_token="!")("a", padding="max_length", max_length=5).input_ids
    assert padded == [49406, 320, 49407, 0, 0]


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_quantised_denoiser_stays_close_to_the_base(kind: str, tiny_sd15) -> None:
    plain, small = load_base(tiny_sd15), load_base(tiny_sd15, quantize=kind)
    generator = torch.Generator().manual_seed(0)
    noisy, timesteps = torch.randn(2, 4, 16, 16, generator=generator), torch.tensor([100, 800])
    with torch.no_grad():
        conditioning = plain.family.encode_prompts(plain, ["a toy", "snow"])
        exact = plain.family.predict(plain, noisy, timesteps, conditioning)
        near = small.family.predict(small, noisy, timesteps, conditioning)
    error = (near - exact).norm() / exact.norm()
    assert 0 < error < 0.3


@pytest.mark.parametrize(
    ("kind", "gradient_checkpointing"), [("nf4", False), pytest.param("int8", True, marks=pytest.mark.slow)]
)
def test_a_lora_is_trained_on_a_quantised_base(kind, gradient_checkpointing, tiny_sd15, tiny_photos, tmp_path) -> None:
    """On a CPU, where commands refuse it; on a GPU in test_cuda.py."""
    base = load_base(tiny_sd15, quantize=kind)
    pack = new_pack(base, scan_dataset(tiny_photos), resolution=(64, 64), gradient_checkpointing=gradient_checkpointing)
    run = join(pack, run_dir=tmp_path, rank=4, epochs=1)
    pack.train_epoch()
    modules = run.lora_weights().modules.values()
    assert all(module.up.isfinite().all() and module.up.abs().max() > 1e-4 for module in modules)


def _named(folder: Path, name: str, tmp_path: Path) -> Path:
    configs = tmp_path / "configs"
    shutil.copytree(
        folder, configs / name, ignore=lambda _, files: [file for file in files if file.endswith(".safetensors")]
    )
    return configs

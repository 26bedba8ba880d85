"""LoRA files as diffusers, PEFT, old attention processors, ComfyUI and LyCORIS write them, read as kohya's."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from tests.trainer.lora.made_loras import diffusers_name, in_diffusers
from trainer.base_model.load import Base, load_base
from trainer.errors import ModelError
from trainer.families import FAMILIES
from trainer.lora.kohya_file import load_lora, save_lora, state_dict
from trainer.lora.lora import AdapterSettings, LoraModule, LoraWeights, create_adapters
from trainer.lora.merge import check_fits, delta

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


@pytest.fixture(scope="module")
def sd15(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


@pytest.fixture(scope="module")
def sdxl(tiny_sdxl: Path) -> Base:
    return load_base(tiny_sdxl)


def made(base: Base, **settings: Any) -> LoraWeights:
    """A LoRA, text encoders too, that changes every module."""
    adapter = AdapterSettings(**{"rank": 4, "alpha": 2.0, **settings})
    fresh = create_adapters(base, adapter, train_text_encoder=True).weights()
    torch.manual_seed(0)
    modules = {
        site: LoraModule(m.down, torch.randn_like(m.up), m.alpha, m.magnitude) for site, m in fresh.modules.items()
    }
    return LoraWeights(modules, fresh.family)


def assert_same(read: LoraWeights, wanted: LoraWeights) -> None:
    assert read.modules.keys() == wanted.modules.keys()
    for site, module in wanted.modules.items():
        other = read.modules[site]
        assert other.alpha == pytest.approx(module.alpha)
        assert torch.equal(other.down, module.down)
        assert torch.equal(other.up, module.up)
        assert (other.magnitude is None) == (module.magnitude is None)
        if module.magnitude is not None and other.magnitude is not None:
            assert torch.equal(other.magnitude.flatten(), module.magnitude.flatten())


STYLES = [
    # before a module's path, behind its halves
    ("", ".lora_A.weight", ".lora_B.weight"),
    ("", ".lora.down.weight", ".lora.up.weight"),
    ("", ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    ("base_model.model.", ".lora_A.default.weight", ".lora_B.default.weight"),
]


@pytest.mark.parametrize("kind", [{}, {"conv_rank": 2, "conv_alpha": 1.0}, {"dora": True}])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_every_style_is_the_same_lora(
    family: str, request: pytest.FixtureRequest, tmp_path: Path, kind: dict[str, Any]
) -> None:
    base: Base = request.getfixturevalue(family)
    wanted = made(base, **kind)
    for prefix, down, up in STYLES:
        tensors = in_diffusers(wanted, lambda where, before=prefix: before + diffusers_name(where), down, up)
        save_file(tensors, tmp_path / "lora.safetensors")
        read = load_lora(tmp_path / "lora.safetensors", family=base.family.name)
        assert_same(read, wanted)
        check_fits(base, read)


def test_comfyui_writes_diffusion_model_before_stability_names(sdxl: Base, tmp_path: Path) -> None:
    whole = made(sdxl)
    wanted = LoraWeights({s: m for s, m in whole.modules.items() if s[0] == "denoiser"}, "sdxl")
    tensors = {}
    for (_, path), module in wanted.modules.items():
        name = FAMILIES["sdxl"].kohya_name("denoiser", path).removeprefix("lora_unet_")
        tensors |= {
            f"diffusion_model.{name}.lora_A.weight": module.down,
            f"diffusion_model.{name}.lora_B.weight": module.up,
        }
        tensors[f"diffusion_model.{name}.alpha"] = torch.tensor(module.alpha)
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "lora.safetensors")
    assert_same(load_lora(tmp_path / "lora.safetensors", family="sdxl"), wanted)


def trained_by_peft(base: Base, **settings: Any) -> Any:
    """A U-Net with adapters as diffusers' and PEFT's training scripts put them there."""
    unet: Any = copy.deepcopy(base.denoiser)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=ATTENTION, init_lora_weights=False, **settings)
    return get_peft_model(unet, config)


def merged_by_peft(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Module path → the change that PEFT itself makes of it."""
    return {
        name.removeprefix("base_model.model."): layer.get_delta_weight("default")
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }


def assert_changes(read: LoraWeights, wanted: dict[str, torch.Tensor]) -> None:
    assert {path for _, path in read.modules} == wanted.keys()
    for (_, path), module in read.modules.items():
        torch.testing.assert_close(delta(module, tuple(wanted[path].shape)), wanted[path])


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"alpha_pattern": {"attn2.to_q": 1}}])
def test_a_folder_that_peft_saved_is_read_with_its_alphas(sd15: Base, tmp_path: Path, settings: dict[str, Any]) -> None:
    model = trained_by_peft(sd15, **settings)
    model.save_pretrained(tmp_path)
    assert_changes(load_lora(tmp_path / "adapter_model.safetensors"), merged_by_peft(model))


@pytest.mark.parametrize("rslora", [False, True])
def test_a_file_that_diffusers_saved_is_read_with_its_alphas(sd15: Base, tmp_path: Path, *, rslora: bool) -> None:
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers

    model = trained_by_peft(sd15, use_rslora=rslora)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    layers = {key.removeprefix("base_model.model."): value for key, value in layers.items()}
    config = model.peft_config["default"].to_dict()
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=config)
    assert_changes(load_lora(tmp_path / "pytorch_lora_weights.safetensors"), merged_by_peft(model))


def test_old_attention_processors_are_read(sd15: Base, tmp_path: Path) -> None:
    site = ("denoiser", "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0")
    module = made(sd15).modules[site]
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora"
    save_file({f"{name}.down.weight": module.down, f"{name}.up.weight": module.up}, tmp_path / "lora.safetensors")
    assert load_lora(tmp_path / "lora.safetensors").modules.keys() == {site}


def test_a_factorised_convolution_is_multiplied_out(sd15: Base, tmp_path: Path) -> None:
    path = "down_blocks.0.resnets.0.conv1"
    layer: Any = sd15.denoiser.get_submodule(path)
    out, into = layer.weight.shape[:2]
    down, mid, up = torch.randn(3, into, 1, 1), torch.randn(3, 3, 3, 3), torch.randn(out, 3, 1, 1)
    name = FAMILIES["sd15"].kohya_name("denoiser", path)
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_mid.weight": mid, f"{name}.lora_up.weight": up}
    save_file({**tensors, f"{name}.alpha": torch.tensor(1.5)}, tmp_path / "lora.safetensors")
    (module,) = load_lora(tmp_path / "lora.safetensors").modules.values()
    # LyCORIS: the product as three convolutions, one after the other
    x = torch.randn(1, into, 5, 5)
    conv = torch.nn.functional.conv2d
    wanted = conv(conv(conv(x, down), mid, padding=1), up) * 1.5 / 3
    torch.testing.assert_close(conv(x, delta(module, (out, into, 3, 3)), padding=1), wanted, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_placed_is_counted(sd15: Base, tmp_path: Path) -> None:
    tensors = state_dict(made(sd15), torch.float32)
    tensors["lora_unet_strange_place.lora_down.weight"] = torch.zeros(4, 8)
    save_file(tensors, tmp_path / "lora.safetensors")
    count = len(tensors)
    with pytest.raises(ModelError, match=rf"1 of {count} tensors .*lora_unet_strange_place"):
        load_lora(tmp_path / "lora.safetensors")


@pytest.mark.parametrize(
    ("key", "kind"), [("lora_unet_mid_block.hada_w1_a", "LoHa"), ("lora_unet_mid_block.lokr_w1", "LoKr")]
)
def test_other_kinds_are_told(tmp_path: Path, key: str, kind: str) -> None:
    save_file({key: torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match=f"expected a LoRA, LoCon or DoRA, got a {kind}"):
        load_lora(tmp_path / "lora.safetensors")


def test_settings_that_cannot_be_read_are_told(sd15: Base, tmp_path: Path) -> None:
    save_lora(tmp_path / "lora.safetensors", made(sd15))
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config\.json: expected the settings of an adapter as JSON"):
        load_lora(tmp_path / "lora.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "use_rslora": True}))
    own = load_lora(tmp_path / "lora.safetensors")  # alphas in the file come before those beside it
    assert {module.alpha for module in own.modules.values()} == {2.0}

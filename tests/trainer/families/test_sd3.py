"""Stable Diffusion 3: its timesteps in closed form, its names, and what is not read."""

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from trainer.base_model.load import load_base
from trainer.errors import ModelError
from trainer.families import FAMILIES, sd3


def test_fixed_timesteps_are_shifted_quantiles_in_closed_form(tiny_sd3: Path) -> None:
    base = load_base(tiny_sd3)
    for shift, number in ((1.0, 1000), (3.0, 1000), (6.0, 500)):
        base.noise_scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=number, shift=shift)
        times = 1 / (1 + torch.exp(-torch.special.ndtri(torch.tensor([1 / 6, 1 / 2, 5 / 6], dtype=torch.float64))))
        expected = (number / (1 + (1 / times - 1) / shift)).float()  # the odds of noise grow by the shift
        torch.testing.assert_close(sd3.fixed_timesteps(base, 3), expected)
        assert sd3.fixed_timesteps(base, 1).item() == pytest.approx(number * shift / (1 + shift))
        drawn = sd3.sample_timesteps(base, 4, torch.Generator().manual_seed(1))
        odds = torch.exp(torch.randn(4, generator=torch.Generator().manual_seed(1))) * shift
        torch.testing.assert_close(drawn, number * odds / (1 + odds))
        # noise and target at a timestep count from the same number
        one, noise = torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
        mixed = sd3.add_noise(base, one, noise, torch.tensor([number / 4]))
        torch.testing.assert_close(mixed, torch.full_like(one, 0.75))


def test_nothing_is_said_of_sizes(tiny_sd3: Path) -> None:
    assert sd3.size_conditioning(load_base(tiny_sd3), (64, 32), (1, 2), (64, 32), 3) == {}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("lora_transformer_transformer_blocks_3_attn_to_q", ("denoiser", "transformer_blocks.3.attn.to_q")),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", ("text_encoder_0", "text_model.encoder.layers.0.mlp.fc1")),
        ("lora_te2_text_model_encoder_layers_4_mlp_fc2", ("text_encoder_1", "text_model.encoder.layers.4.mlp.fc2")),
        ("lora_te3_encoder_block_0", None),
        ("lora_unet_down_blocks_0", None),
        ("lora_transformer_nothing_of_it", None),
    ],
)
def test_a_name_in_a_file_says_where_it_belongs(name: str, place: tuple[str, str] | None) -> None:
    found = sd3.module_path(name)
    assert (found and (found[0], found[1].removeprefix("text_model."))) == (
        place and (place[0], place[1].removeprefix("text_model."))
    )


@pytest.mark.parametrize(
    ("keys", "families"),
    [
        (("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",), {"sd3"}),
        (("first_stage_model.x", "joint_blocks.0.x_block.attn.qkv.weight"), {"sd3"}),
        (("model.diffusion_model.double_blocks.0.img_attn.qkv.weight",), set()),
        ((), set()),
    ],
)
def test_joint_blocks_are_what_it_is_recognised_by(keys: tuple[str, ...], families: set[str]) -> None:
    assert {name for name, family in FAMILIES.items() if family.recognises(frozenset(keys))} == families


def test_a_single_file_is_refused_with_what_to_use(tmp_path: Path) -> None:
    file = tmp_path / "sd3.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="use the diffusers folder"):
        sd3.load(file, torch.device("cpu"), torch.float32)

"""A base whose parts give the same whatever they are given is told before training."""

import json
import shutil

import pytest
import torch

from tests.trainer.families.changed_bases import refused, rewrite, weights_of


@pytest.mark.parametrize(
    ("family", "part", "said"),
    [
        ("sd15", "unet", "the base's denoiser gives nothing but zeros"),
        ("sdxl", "vae", "the base's VAE gives nothing but zeros"),
        ("sd15", "text_encoder", "the base's text encoder gives the same for every caption"),
    ],
)
def test_weights_that_are_all_zeros_are_told(family, part, said, request, tmp_path) -> None:
    """A download that reserves its place first and is cut short leaves a file of the right size."""
    base = shutil.copytree(request.getfixturevalue(f"tiny_{family}"), tmp_path / "base")
    rewrite(weights_of(base, part), lambda tensors: {name: torch.zeros_like(t) for name, t in tensors.items()})
    refused(base, said)


def test_a_vae_that_scales_to_nothing_is_told(tiny_sd15, tmp_path) -> None:
    base = shutil.copytree(tiny_sd15, tmp_path / "base")
    file = base / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scaling_factor": 0}))
    refused(base, "the base's VAE gives nothing but zeros")


def test_one_channel_that_grows_beyond_all_numbers_is_told(tiny_sd15, tmp_path) -> None:
    """The weights are finite, and so is what the part gives in its other channels."""
    base = shutil.copytree(tiny_sd15, tmp_path / "base")

    def damaged(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["conv_out.weight"][0] = torch.finfo(torch.float32).max
        return tensors

    rewrite(weights_of(base, "unet"), damaged)
    refused(base, "the base's denoiser gives NaN or infinite values in torch.float32")

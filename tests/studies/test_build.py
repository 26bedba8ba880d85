"""The build at toy scale: an interrupted stage goes on exactly, and what it writes loads."""

from pathlib import Path

import pytest
import torch
from torch import nn

from studies.demo import build, models, quality
from studies.demo.boxes import Box, finished, train

CPU = torch.device("cpu")


def _train(work: Path, steps: int, *, stop_at: int | None = None, save_every_seconds: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    taken = [0]

    def loss(module: nn.Module, generator: torch.Generator) -> torch.Tensor:
        if stop_at is not None and taken[0] == stop_at:
            raise KeyboardInterrupt
        taken[0] += 1
        x = torch.randn(8, 3, generator=generator)
        return (module(x) - x.sum(1, keepdim=True)).square().mean()

    box, module = Box(1, steps), nn.Linear(3, 1)
    return train(
        "line", work, box, module, loss, learning_rate=0.1, device=CPU, save_every_seconds=save_every_seconds
    )  # fmt: skip


def test_an_interrupted_stage_takes_the_same_steps(tmp_path) -> None:
    whole = _train(tmp_path / "whole", 9)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "cut", 9, stop_at=4)
    assert not finished("line", tmp_path / "cut", Box(1, 9))
    resumed = _train(tmp_path / "cut", 9)
    assert finished("line", tmp_path / "cut", Box(1, 9))
    assert torch.equal(whole.weight, resumed.weight)
    assert not torch.equal(whole.weight, _train(tmp_path / "short", 5).weight)


@pytest.mark.slow
def test_the_build_writes_what_diffusers_loads_and_stops_when_done(tmp_path, capsys) -> None:
    folders = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    toy = ["--steps", "2", "--counts", "vae=8", "painter=8", "--batches", "vae=3", "painter=2"]
    arguments = [*folders, *toy, "--stages", "vae", "painter"]
    assert build.main(arguments) == 0
    weights = (tmp_path / "out/base/unet/diffusion_pytorch_model.safetensors").read_bytes()
    picture = quality.draw(quality.open_pipeline(tmp_path / "out/base"), ["red cube"], [0], steps=2)
    assert picture.shape == (1, 64, 64, 3)
    capsys.readouterr()
    assert build.main(arguments) == 0
    assert "painter8: goes on from step 2" in capsys.readouterr().out
    assert (tmp_path / "out/base/unet/diffusion_pytorch_model.safetensors").read_bytes() == weights


def test_an_unknown_stage_is_refused(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        build.main(["--minutes", "pianter=3"])
    assert "'pianter' is not one of" in capsys.readouterr().err


@torch.no_grad()
def test_whitening_changes_the_latents_scale_and_not_the_picture() -> None:
    torch.manual_seed(0)
    vae = models.make_vae().eval()
    pixels = torch.rand(16, 3, 64, 64) * 2 - 1
    before = vae.encode(pixels).latent_dist
    picture = vae.decode(before.mean).sample
    models.whiten(vae, before.mean.mean((0, 2, 3)), before.mean.std((0, 2, 3)))
    after = vae.encode(pixels).latent_dist
    assert (after.mean * vae.config.scaling_factor).std((0, 2, 3)).allclose(torch.ones(4), atol=1e-3)
    assert (after.mean * vae.config.scaling_factor).mean((0, 2, 3)).allclose(torch.zeros(4), atol=1e-3)
    assert (after.std / before.std).std((0, 2, 3)).max() < 1e-3 * (after.std / before.std).max()
    assert vae.decode(after.mean).sample.allclose(picture, atol=1e-3)

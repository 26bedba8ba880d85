"""Noise, targets and weights of discrete-time diffusion, number by number."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.families import ddpm

ALPHAS = torch.tensor([0.9996, 0.9, 0.5, 0.2, 0.0])
TIMES = torch.arange(5)


def _base(kind: str) -> Any:
    scheduler = SimpleNamespace(
        alphas_cumprod=ALPHAS, config=SimpleNamespace(prediction_type=kind, num_train_timesteps=5)
    )
    return SimpleNamespace(noise_scheduler=scheduler, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_noise_and_target_have_the_shares_of_their_timestep(kind: str) -> None:
    latents, noise = torch.full((5, 1, 2, 2), 3.0), torch.full((5, 1, 2, 2), 5.0)
    noisy = ddpm.add_noise(_base(kind), latents, noise, TIMES)
    target = ddpm.target(_base(kind), latents, noise, TIMES)
    for row, alpha in enumerate(ALPHAS.tolist()):
        signal, sigma = alpha**0.5, (1 - alpha) ** 0.5
        assert noisy[row].unique().item() == pytest.approx(3 * signal + 5 * sigma, rel=1e-5)
        wanted = {"epsilon": 5.0, "sample": 3.0, "v_prediction": 5 * signal - 3 * sigma}[kind]
        assert target[row].unique().item() == pytest.approx(wanted, rel=1e-5)
    half = ddpm.add_noise(_base(kind), latents.double(), noise.double(), TIMES)
    assert half.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "gamma", "debiased", "weight"),
    [
        ("epsilon", None, False, lambda snr: 1.0),
        ("sample", None, False, lambda snr: 1.0),
        ("epsilon", 5.0, False, lambda snr: min(snr, 5) / snr),
        ("v_prediction", 5.0, False, lambda snr: min(snr, 5) / (snr + 1)),
        ("sample", 5.0, False, lambda snr: min(snr, 5)),
        ("epsilon", None, True, lambda snr: min(snr, 1000) ** -0.5),
        ("v_prediction", None, True, lambda snr: 1 / (min(snr, 1000) + 1)),
        ("sample", None, True, lambda snr: min(snr, 1000) ** -0.5 * snr),
        ("epsilon", 5.0, True, lambda snr: min(snr, 5) / snr * min(snr, 1000) ** -0.5),
        ("v_prediction", 5.0, True, lambda snr: min(snr, 5) / (snr + 1) / (min(snr, 1000) + 1)),
        ("sample", 5.0, True, lambda snr: min(snr, 5) * min(snr, 1000) ** -0.5),
    ],
)
def test_a_weight_is_the_product_of_those_asked_for(kind, gamma, debiased, weight) -> None:
    found = ddpm.loss_weight(_base(kind), TIMES, gamma, debiased_estimation=debiased)
    for value, alpha in zip(found[:4].tolist(), ALPHAS[:4].tolist(), strict=True):
        assert value == pytest.approx(weight(alpha / (1 - alpha)), rel=2e-3)
    assert found[4].isfinite(), "pure noise has no signal to divide by"


def test_fixed_timesteps_are_middles_and_drawn_ones_a_seeds() -> None:
    base = _base("epsilon")
    base.noise_scheduler.config.num_train_timesteps = 1000
    assert ddpm.fixed_timesteps(base, 4).tolist() == [125, 375, 625, 875]
    assert ddpm.fixed_timesteps(base, 3).tolist() == [166, 500, 833]
    drawn = ddpm.sample_timesteps(base, 2000, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, torch.randint(0, 1000, (2000,), generator=torch.Generator().manual_seed(1)))

"""What a run learns from at one step: noisy latents, timesteps, targets and weights, drawn from its own streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.packing.settings import LossSettings
from trainer.streams import stream

if TYPE_CHECKING:
    from trainer.families.family import Base


@dataclass(frozen=True)
class Examples:
    """B noisy latents and what the denoiser should say about them.

    noisy, target: [B, C, h, w]; timesteps: [B]; weight: [B].
    """

    noisy: Tensor
    timesteps: Tensor
    target: Tensor
    weight: Tensor


def draw_examples(
    base: Base,
    mean: Tensor,
    std: Tensor,
    prior: Tensor,
    *,
    settings: LossSettings,
    seed: int,
    epoch: int,
    batch: int,
) -> Examples:
    """The examples of a batch: the same for every run with the same seed and settings.

    Args:
        epoch, batch: which pass over the photos it is of, and its number there.
        mean, std: posterior of the latents [B, C, h, w]; a fresh sample is drawn, as the base was trained.
        prior: [B] bool, true for regularisation images.
    """

    def normal(name: str, *shape: int) -> Tensor:
        draws = torch.randn(shape, generator=stream(seed, name, epoch, batch), dtype=torch.float32)
        return draws.to(device=mean.device, dtype=mean.dtype, non_blocking=True)

    latents = mean + std * normal("latents", *mean.shape)
    noise = normal("noise", *mean.shape)
    if settings.noise_offset:
        noise = noise + _offset(settings, seed, epoch, batch) * normal("noise offset", *mean.shape[:2], 1, 1)
    seen = noise
    if settings.ip_noise_gamma:
        seen = noise + settings.ip_noise_gamma * normal("input perturbation", *mean.shape)
    family = base.family
    timesteps = family.sample_timesteps(base, mean.shape[0], stream(seed, "timesteps", epoch, batch))
    weight = family.loss_weight(
        base, timesteps, settings.min_snr_gamma, debiased_estimation=settings.debiased_estimation_loss
    ).to(mean.dtype)
    if settings.prior_loss_weight != 1.0:
        weight = torch.where(prior, weight * settings.prior_loss_weight, weight)
    return Examples(
        noisy=family.add_noise(base, latents, seen, timesteps),
        timesteps=timesteps,
        target=family.target(base, latents, noise, timesteps),
        weight=weight,
    )


def _offset(settings: LossSettings, seed: int, epoch: int, batch: int) -> float:
    """The size of a batch's noise offset; with a random strength the same share of it for all runs of a seed."""
    if not settings.noise_offset_random_strength:
        return settings.noise_offset
    drawn = torch.rand((), generator=stream(seed, "noise offset strength", epoch, batch), dtype=torch.float32)
    return settings.noise_offset * float(drawn)


def run_losses(prediction: Tensor, target: Tensor, weight: Tensor, runs: int) -> Tensor:
    """Each run's loss [K]: the weighted mean square error of its own rows of a run-major batch [K·B, C, h, w]."""
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    squares = (prediction.to(dtype) - target.to(dtype)).square().flatten(1).mean(1)
    return (squares * weight.to(dtype)).view(runs, -1).mean(1)

"""Discrete-time diffusion as Stable Diffusion trains it: noise, targets, weights, and samplers of the same noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError
from trainer.families.prediction import NOISE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainer.families.family import Base

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {"solver_order": 2}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
}


def training_scheduler(settings: dict[str, Any]) -> Any:
    """DDPMScheduler with the betas and prediction type of a base (`traits.noise_settings`)."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(**settings, clip_sample=False)


def sampler(base: Base, name: str) -> Any:
    """A fresh diffusers scheduler for `name`, with the base's betas, prediction type and zero terminal SNR.

    Steps are spaced from the last training timestep down ("trailing"): with a dozen steps the first one must start
    from pure noise (Lin et al., 2023, "Common diffusion noise schedules and sample steps are flawed").

    Raises:
        ModelError: there is no sampler of this name.
    """
    import diffusers

    if name not in SAMPLERS:
        raise ModelError(f"scheduler: {name!r} is not a sampler: allowed are {', '.join(SAMPLERS)}")
    class_name, settings = SAMPLERS[name]
    kept = (*NOISE, "prediction_type", "rescale_betas_zero_snr")
    config = {key: base.noise_scheduler.config[key] for key in kept}
    # an offset plays no part in trailing steps; diffusers' pipelines warn about any other than 1
    return getattr(diffusers, class_name)(**config, timestep_spacing="trailing", steps_offset=1, **settings)


def sample_timesteps(base: Base, batch: int, generator: torch.Generator) -> Tensor:
    """Uniform training timesteps, int64 [batch]; drawn on the generator's device so that a seed means the same."""
    import torch

    steps = base.noise_scheduler.config.num_train_timesteps
    return torch.randint(0, steps, (batch,), generator=generator, device=generator.device).to(
        base.device, non_blocking=True
    )


def fixed_timesteps(base: Base, levels: int) -> Tensor:
    """The middles of `levels` equal shares of the training timesteps, int64 [levels], ascending."""
    import torch

    steps = base.noise_scheduler.config.num_train_timesteps
    return ((torch.arange(levels, device=base.device) + 0.5) * steps / levels).long()


def add_noise(base: Base, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """√ᾱ x + √(1−ᾱ) ε (Ho et al., 2020, eq. 4)."""
    signal, sigma = _signal_and_sigma(base, latents, timesteps)
    return signal * latents + sigma * noise


def target(base: Base, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """ε, v = √ᾱ ε − √(1−ᾱ) x (Salimans & Ho, 2022), or x, as the base predicts."""
    kind = base.noise_scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return latents
    signal, sigma = _signal_and_sigma(base, latents, timesteps)
    return signal * noise - sigma * latents


def loss_weight(base: Base, timesteps: Tensor, min_snr_gamma: float | None) -> Tensor:
    """1, or min-SNR's weight [B]: min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1) for v (Hang et al., 2023)."""
    import torch

    if min_snr_gamma is None:
        return torch.ones(timesteps.shape, device=timesteps.device)
    alphas = _alphas(base, timesteps.device)[timesteps]
    snr = alphas / (1 - alphas)
    clipped = snr.clamp(max=min_snr_gamma)
    kind = base.noise_scheduler.config.prediction_type
    if kind == "v_prediction":
        return clipped / (snr + 1)
    if kind == "sample":
        return clipped
    return clipped / snr.clamp(min=1e-8)  # zero terminal SNR: the limit is 1, not 0/0


def _alphas(base: Base, device: torch.device) -> Tensor:
    """ᾱ of all training timesteps; moved to the device once, so that steps do not wait for a copy."""
    scheduler = base.noise_scheduler
    if scheduler.alphas_cumprod.device != device:
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)
    return scheduler.alphas_cumprod


def _signal_and_sigma(base: Base, like: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    alphas = _alphas(base, like.device)[timesteps].to(like.dtype)
    alphas = alphas.view(-1, *[1] * (like.ndim - 1))
    return alphas.sqrt(), (1 - alphas).sqrt()

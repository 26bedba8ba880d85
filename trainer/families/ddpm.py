"""Discrete-time diffusion as Stable Diffusion trains it: noise, targets, weights, and samplers of the same noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError, mistake, nearest
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
_MOST_SNR = 1000.0  # sd-scripts' bound, as the SNR of timestep 0 may be infinite


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
        raise ModelError(mistake(None, "scheduler", name, f"one of {', '.join(SAMPLERS)}{nearest(name, SAMPLERS)}"))
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


def loss_weight(
    base: Base, timesteps: Tensor, min_snr_gamma: float | None, *, debiased_estimation: bool = False
) -> Tensor:
    """1, or the product [B] of the weights asked for.

    min-SNR: min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1) for v (Hang et al., 2023). Debiased estimation: 1/√SNR for ε
    (Yu et al., 2023) and, as in sd-scripts' `apply_debiased_estimation`, 1/(SNR + 1) for v, the SNR never above 1000.
    For x both are those for ε, times SNR: an error of x is one of ε, scaled.
    """
    import torch

    weight = torch.ones(timesteps.shape, device=timesteps.device)
    if min_snr_gamma is None and not debiased_estimation:
        return weight
    alphas = _alphas(base, timesteps.device)[timesteps]
    snr, kind = alphas / (1 - alphas), base.noise_scheduler.config.prediction_type
    if min_snr_gamma is not None:
        weight = _min_snr_weight(snr, min_snr_gamma, kind)
    if debiased_estimation:
        weight = weight * _debiased_weight(snr, kind)
    if kind == "sample" and min_snr_gamma is None:
        weight = weight * snr
    return weight


def _min_snr_weight(snr: Tensor, gamma: float, kind: str) -> Tensor:
    clipped = snr.clamp(max=gamma)
    if kind == "v_prediction":
        return clipped / (snr + 1)
    if kind == "sample":
        return clipped
    return clipped / snr.clamp(min=1e-8)  # zero terminal SNR: no 0/0


def _debiased_weight(snr: Tensor, kind: str) -> Tensor:
    import torch

    limited = snr.clamp(max=_MOST_SNR)
    if kind == "v_prediction":
        return 1 / (limited + 1)
    # at zero terminal SNR ε is what the denoiser sees: there is nothing to learn, and 1/√0 would end the run
    return torch.where(limited > 0, limited.rsqrt(), 0.0)


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

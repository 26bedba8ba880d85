"""AutoencoderKL in the denoiser's scale: the posterior's mean and spread, and back to pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.families.family import Base


def encode_images(base: Base, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [B,3,H,W] in [-1,1] → (mean, std) [B,C,h,w] of the posterior, shifted and scaled as the denoiser expects.

    Both are returned so that training resamples the posterior at each step, as the base itself was trained.

    Raises:
        ModelError: they are not finite numbers (SDXL's VAE in fp16, or one with damaged weights).
    """
    import torch

    parameter = next(base.vae.parameters())
    with torch.no_grad():
        posterior = base.vae.encode(pixels.to(parameter.device, parameter.dtype)).latent_dist
    factor, shift = _scale(base)
    mean = (posterior.mean - shift) * factor
    if not (torch.isfinite(mean).all() and torch.isfinite(posterior.std).all()):
        overflows = parameter.dtype == torch.float16
        why = "it overflows in fp16, and needs bf16 or fp32" if overflows else "its weights are damaged"
        raise ModelError(f"{base.source}: the base's VAE gives NaN or infinite latents: {why}")
    return mean.to(base.device, torch.float32), (posterior.std * factor).to(base.device, torch.float32)


def decode_latents(base: Base, latents: Tensor) -> Tensor:
    """Latents [B,C,h,w] in the denoiser's scale → pixels [B,3,H,W], about [-1,1]."""
    import torch

    parameter = next(base.vae.parameters())
    factor, shift = _scale(base)
    with torch.no_grad():
        return base.vae.decode((latents / factor + shift).to(parameter.device, parameter.dtype)).sample


def _scale(base: Base) -> tuple[float, float]:
    return base.vae.config.scaling_factor, getattr(base.vae.config, "shift_factor", None) or 0.0

"""Whether a base's parts give numbers: each is asked once after loading, so that no learning rate is blamed later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.families.family import Base

_LATENT_SIDE = 16


def check_outputs(base: Base) -> None:
    """Encodes a noisy picture and a word, and predicts a noise: small, and in the precision that is trained with.

    Raises:
        ModelError: the VAE, a text encoder or the denoiser gives NaN or infinite values though its weights are finite:
            they overflow in this precision, or are damaged; or the same whatever it is given: they are zeros.
    """
    import torch

    side = _LATENT_SIDE * base.latent_factor
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        latents, _ = base.family.encode_images(base, torch.rand(1, 3, side, side, generator=generator) * 2 - 1)
        _not_all_same(base, "the base's VAE gives nothing but zeros", latents, torch.zeros_like(latents))
        known = base.family.encode_prompts(base, ["a photo"])
        for tensor in known.values():
            _finite(base, "the base's text encoder gives", tensor)
        for name, tensor in base.family.encode_prompts(base, [""]).items():
            _not_all_same(base, "the base's text encoder gives the same for every caption", known[name], tensor)
        known |= base.family.size_conditioning(base, (side, side), (0, 0), (side, side), 1)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        timesteps = base.family.fixed_timesteps(base, 1)
        noisy = base.family.add_noise(base, latents, noise, timesteps)
        predicted = base.family.predict(base, noisy, timesteps, known)
        _finite(base, "the base's denoiser gives", predicted)
        _not_all_same(base, "the base's denoiser gives nothing but zeros", predicted, torch.zeros_like(predicted))


def _finite(base: Base, what: str, tensor: Tensor) -> None:
    import torch

    if torch.isfinite(tensor).all():
        return
    hint = "precision: bf16 or fp32 may hold them" if base.dtype == torch.float16 else "its weights are damaged"
    raise ModelError(f"{base.source}: {what} NaN or infinite values in {base.dtype}, before any training: {hint}")


def _not_all_same(base: Base, what: str, one: Tensor, other: Tensor) -> None:
    import torch

    if torch.equal(one, other):
        raise ModelError(
            f"{base.source}: {what}: its weights, or its configuration, are zeros, as a download that was cut short "
            "leaves them"
        )

"""Denoising losses of photos under a checkpoint: per image × noise level × draw, unweighted, noise fixed for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.errors import DataError
from trainer.inference.sample import autocast, in_batches, with_lora
from trainer.streams import stream

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from trainer.data.cache import LatentCache
    from trainer.families.family import Base, Conditioning
    from trainer.lora.lora import LoraWeights


@dataclass(frozen=True)
class Evaluation:
    """Photos and captions made ready once; each checkpoint then costs its forward passes only.

    Attributes:
        latents: posterior means [N,C,h,w] float32.
        captions: one for each image.
        conditioning: the captions' embeddings under the frozen text encoders.
        timesteps: [levels], the middles of equal shares of the training distribution.
    """

    base: Base
    latents: Tensor
    captions: tuple[str, ...]
    conditioning: Conditioning
    timesteps: Tensor
    draws: int
    seed: int
    clip_skip: int | None

    @classmethod
    def prepare(
        cls,
        base: Base,
        images: np.ndarray | Tensor,
        captions: Sequence[str],
        *,
        levels: int = 8,
        draws: int = 4,
        seed: int,
        clip_skip: int | None = None,
        cache: LatentCache | None = None,
    ) -> Evaluation:
        """Encode images (uint8 [N,H,W,3], or latents [N,C,h,w] in the denoiser's scale) and captions.

        Raises:
            DataError: not one caption for each image.
        """
        import torch

        if len(images) != len(captions):
            raise DataError(f"one caption for each image is needed: {len(images)} images, {len(captions)} captions")
        latents = images if isinstance(images, torch.Tensor) else encode(base, images)
        with torch.no_grad():
            if cache is not None:
                conditioning = cache.prompts(captions, clip_skip)
            else:
                conditioning = _encode_captions(base, captions, clip_skip)
        return cls(
            base=base,
            latents=latents.to(base.device, torch.float32),
            captions=tuple(captions),
            conditioning=conditioning,
            timesteps=base.family.fixed_timesteps(base, levels),
            draws=draws,
            seed=seed,
            clip_skip=clip_skip,
        )

    def losses(
        self,
        lora: LoraWeights | None = None,
        *,
        strength: float = 1.0,
        batch_size: int = 64,
        precision: str | None = None,
    ) -> np.ndarray:
        """Mean squared error of the prediction, float64 [N,levels,draws].

        Noise depends on (seed, image's place, level, draw), never on the batch size or the LoRA: two checkpoints are
        compared under the same draws.

        Args:
            batch_size: forward passes at once; halved as long as the device's memory does not do.
            precision: "bf16" or "fp16" runs the denoiser under autocast.
        """
        import torch

        base, family = self.base, self.base.family
        images, levels = len(self.latents), len(self.timesteps)
        if images == 0:
            return torch.zeros(0, levels, self.draws, dtype=torch.float64).numpy()
        each = levels * self.draws
        shape = tuple(self.latents.shape[1:])
        size = (shape[2] * base.latent_factor, shape[1] * base.latent_factor)
        noises = _Noises(self.seed, (each, *shape))
        with torch.no_grad(), with_lora(base, lora, strength):
            conditioning = self._conditioning(lora)

            def measure(rows: range) -> Tensor:
                numbers = torch.arange(rows.start, rows.stop, device=base.device)
                image = numbers // each
                timesteps = self.timesteps[numbers % each // self.draws]
                latents, noise = self.latents[image], noises.rows(rows).to(base.device)
                known = {name: value[image] for name, value in conditioning.items()}
                known |= family.size_conditioning(base, size, (0, 0), size, len(rows))
                with autocast(base, precision):
                    output = family.predict(base, family.add_noise(base, latents, noise, timesteps), timesteps, known)
                error = (output - family.target(base, latents, noise, timesteps)).double() ** 2
                return error.flatten(1).mean(1)

            found = in_batches(images * each, batch_size, measure)
        return torch.cat(found).cpu().numpy().reshape(images, levels, self.draws)

    def _conditioning(self, lora: LoraWeights | None) -> Conditioning:
        trained = lora is not None and any(component != "denoiser" for component, _ in lora.modules)
        return _encode_captions(self.base, self.captions, self.clip_skip) if trained else self.conditioning


def losses(
    base: Base,
    lora: LoraWeights | None,
    images: np.ndarray | Tensor,
    captions: Sequence[str],
    *,
    levels: int = 8,
    draws: int = 4,
    seed: int,
    batch_size: int = 64,
    precision: str | None = None,
) -> np.ndarray:
    """`Evaluation.prepare(…).losses(lora)` in one call: float64 [N,levels,draws]."""
    ready = Evaluation.prepare(base, images, captions, levels=levels, draws=draws, seed=seed)
    return ready.losses(lora, batch_size=batch_size, precision=precision)


def encode(base: Base, images: np.ndarray, *, batch_size: int = 16) -> Tensor:
    """uint8 [N,H,W,3] → posterior means [N,C,h,w] float32 in the denoiser's scale."""
    import torch

    means = []
    with base.at_hand(vae=True):
        for start in range(0, len(images), batch_size):
            pixels = torch.tensor(images[start : start + batch_size]).permute(0, 3, 1, 2).float() / 127.5 - 1
            means.append(base.family.encode_images(base, pixels)[0])
    return torch.cat(means) if means else torch.zeros(0, device=base.device)


class _Noises:
    """Noise of all draws of all images, each image's [levels · draws, C, h, w] from its own seed, made when needed."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self._seed, self._shape = seed, shape
        self._held: dict[int, Tensor] = {}

    def rows(self, rows: range) -> Tensor:
        """Rows of the long table image · levels · draws."""
        import torch

        each = self._shape[0]
        images = range(rows.start // each, (rows.stop - 1) // each + 1)
        self._held = {image: self._held[image] for image in images if image in self._held}
        for image in images:
            if image not in self._held:
                generator = stream(self._seed, "evaluate", image)
                self._held[image] = torch.randn(self._shape, generator=generator)
        first = images.start * each
        return torch.cat([self._held[image] for image in images])[rows.start - first : rows.stop - first]


def _encode_captions(base: Base, captions: Sequence[str], clip_skip: int | None) -> Conditioning:
    import torch

    unique = list(dict.fromkeys(captions))
    with base.at_hand(text_encoders=True):
        encoded = base.family.encode_prompts(base, unique, clip_skip)
    rows = torch.tensor([unique.index(caption) for caption in captions], device=base.device, dtype=torch.long)
    return {name: value[rows] for name, value in encoded.items()}

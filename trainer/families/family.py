"""What a model family is: a value with a few functions. Nothing outside a family's own file asks which one it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Conditioning = dict[str, Tensor]


@dataclass
class Base:
    """A base model resident on one device: the frozen parts that all runs of a study share.

    `denoiser` is the UNet or transformer, `text_encoders` and `tokenizers` are in the family's order, and
    `noise_scheduler` describes training noise. The VAE stays in fp32 (SDXL's overflows in fp16); `dtype` is that of the
    denoiser and the text encoders. `variant` names what the family cannot tell by itself ("v2", for instance).
    """

    family: Family
    denoiser: nn.Module
    vae: nn.Module
    text_encoders: list[nn.Module]
    tokenizers: list[Any]
    noise_scheduler: Any
    device: torch.device
    dtype: torch.dtype
    source: str
    quantized: str | None = None
    variant: str = ""
    notices: tuple[str, ...] = ()

    def component(self, name: str) -> nn.Module:
        """The module that LoRA modules of `name` live in: "denoiser", "text_encoder_0", "text_encoder_1"…"""
        if name == "denoiser":
            return self.denoiser
        return self.text_encoders[int(name.removeprefix("text_encoder_"))]

    @property
    def text_components(self) -> tuple[str, ...]:
        return tuple(f"text_encoder_{index}" for index in range(len(self.text_encoders)))

    @property
    def latent_factor(self) -> int:
        """Pixels per latent along each side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def park(self, *, vae: bool = True, text_encoders: bool = True) -> None:
        """Move parts that a training step no longer needs to the CPU; `at_hand` brings them back for a moment."""
        for module in ([self.vae] if vae else []) + (self.text_encoders if text_encoders else []):
            module.to("cpu")
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    @contextmanager
    def at_hand(self, *, vae: bool = False, text_encoders: bool = False) -> Iterator[None]:
        """Within the block the named parts are on `device`; afterwards they are back where they were."""
        modules = ([self.vae] if vae else []) + (self.text_encoders if text_encoders else [])
        homes = [next(module.parameters()).device for module in modules]
        for module in modules:
            module.to(self.device)
        try:
            yield
        finally:
            for module, home in zip(modules, homes, strict=True):
                module.to(home)


class _SizeConditioning(Protocol):
    def __call__(
        self, base: Base, original_size: Sequence[int], crop: Sequence[int], target_size: Sequence[int], batch: int
    ) -> Conditioning: ...


class _LossWeight(Protocol):
    def __call__(
        self, base: Base, timesteps: Tensor, min_snr_gamma: float | None, *, debiased_estimation: bool = False
    ) -> Tensor: ...


class _EncodePrompts(Protocol):
    def __call__(self, base: Base, prompts: Sequence[str], clip_skip: int | None = None) -> Conditioning: ...


@dataclass(frozen=True)
class Family:
    """One kind of base model. All tensors are on `base.device`; B is the batch.

    Attributes:
        name: "sd15", "sdxl", "sd3"…; the value of `family` in a train.yaml.
        architecture: ModelSpec's `modelspec.architecture` without the `/lora`.
        base_model_version: kohya's `ss_base_model_version`.
        usual_size: the side, in pixels, of the images the family was trained on.
        uses_clip_skip: whether that setting takes an effect in this family.
        weighs_timesteps: whether min_snr_gamma and debiased_estimation_loss do.
        pipelines: diffusers' pipeline classes whose folders are of this family.
        parts: the models that a base of this family has, by their names in a diffusers folder.
        recognises: whether the keys of a single-file checkpoint are of this family.
        load: (file or folder, device, dtype) → Base; raises ModelError.
        encode_images: pixels [B,3,H,W] in [-1,1] → (mean, std) [B,C,h,w] of the posterior, in the denoiser's scale.
        decode_latents: latents [B,C,h,w] in the denoiser's scale → pixels [B,3,H,W], about [-1,1].
        encode_prompts: prompts, kohya's clip_skip (1 or None: last layer) → tensors with B rows each. Keeps gradients.
        size_conditioning: sizes (width, height) in pixels → what `predict` wants besides the prompt; may be empty.
        sample_timesteps: (base, batch, generator) → t [B] as in training.
        add_noise: latents, noise [B,C,h,w] and t [B] → noisy latents.
        target: latents, noise, t → what `predict` should return.
        loss_weight: t, min-SNR gamma or None, whether the estimate is debiased → weight [B].
        predict: noisy [B,C,h,w], t [B], conditioning → prediction [B,C,h,w] in the dtype of `noisy`.
        fixed_timesteps: number of levels → t [levels], the middles of equal shares of the training distribution.
        sampler: name of a sampler ("dpmpp_2m", "unipc", "ddim", "euler_a") → a fresh diffusers scheduler.
        pipeline: name of a sampler → a diffusers pipeline over the resident parts.
        lora_targets: component, "kohya" or "attention", 3×3 convolutions too → module paths, in the model's order.
        kohya_name: component, module path → NAME of kohya's LoRA keys.
        module_path: NAME → (component, module path), or None when the name is not of this family.
    """

    name: str
    architecture: str
    base_model_version: str
    usual_size: int
    uses_clip_skip: bool
    weighs_timesteps: bool
    pipelines: tuple[str, ...]
    parts: tuple[str, ...]
    recognises: Callable[[frozenset[str]], bool]
    load: Callable[[Path, torch.device, torch.dtype], Base]
    encode_images: Callable[[Base, Tensor], tuple[Tensor, Tensor]]
    decode_latents: Callable[[Base, Tensor], Tensor]
    encode_prompts: _EncodePrompts
    size_conditioning: _SizeConditioning
    sample_timesteps: Callable[[Base, int, torch.Generator], Tensor]
    add_noise: Callable[[Base, Tensor, Tensor, Tensor], Tensor]
    target: Callable[[Base, Tensor, Tensor, Tensor], Tensor]
    loss_weight: _LossWeight
    predict: Callable[[Base, Tensor, Tensor, Conditioning], Tensor]
    fixed_timesteps: Callable[[Base, int], Tensor]
    sampler: Callable[[Base, str], Any]
    pipeline: Callable[[Base, str], Any]
    lora_targets: Callable[[Base, str, str, bool], list[str]]
    kohya_name: Callable[[str, str], str]
    module_path: Callable[[str], tuple[str, str] | None]

"""Stable Diffusion XL: two text encoders, size conditioning, and kohya names after the original (SAI) block numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.families import autoencoder, clip, ddpm, layout, loading, names, sai_names, unet
from trainer.families.family import Base, Family
from trainer.families.prediction import noise_settings

if TYPE_CHECKING:
    import torch

    from trainer.families.family import Conditioning


def recognises(keys: frozenset[str]) -> bool:
    """An original-format checkpoint with SDXL's second text encoder."""
    return any(key.startswith("conditioner.embedders.1.model.") for key in keys)


def load(path: Path, device: torch.device, dtype: torch.dtype) -> Base:
    parts = loading.load_parts(path, dtype, FAMILY.parts, layout.CONFIGS / FAMILY.name)
    return Base(
        family=FAMILY,
        denoiser=parts.models["unet"].to(device),
        vae=parts.models["vae"].to(device),
        text_encoders=[parts.models[name].to(device) for name in parts.encoders],
        tokenizers=[parts.tokenizers[name] for name in parts.encoder_tokenizers],
        noise_scheduler=ddpm.training_scheduler(noise_settings(path, "sdxl")),
        device=device,
        dtype=dtype,
        source=str(path),
        notices=tuple(parts.notices),
    )


def encode_prompts(base: Base, prompts: Sequence[str], clip_skip: int | None = None) -> Conditioning:
    """`prompt_embeds` [B, tokens, width1 + width2] and `pooled_prompt_embeds` [B, projection].

    Both encoders' layer before the last, without a final norm, as SDXL was trained; clip_skip takes no effect, as in
    kohya's trainer.
    """
    import torch

    states, output = [], None
    for encoder, tokenizer in zip(base.text_encoders, base.tokenizers, strict=True):
        hidden, output = clip.hidden_states(encoder, tokenizer, prompts)
        states.append(hidden[-2].to(base.device))
    assert output is not None
    return {"prompt_embeds": torch.cat(states, dim=-1), "pooled_prompt_embeds": output.text_embeds.to(base.device)}


def size_conditioning(
    base: Base, original_size: Sequence[int], crop: Sequence[int], target_size: Sequence[int], batch: int
) -> Conditioning:
    """`time_ids` [batch, 6]: original height and width, crop top and left, target height and width, in pixels.

    The arguments are (width, height), (left, top), (width, height).
    """
    import torch

    ids = [original_size[1], original_size[0], crop[1], crop[0], target_size[1], target_size[0]]
    return {"time_ids": torch.tensor([ids], dtype=torch.float32, device=base.device).repeat(batch, 1)}


def pipeline(base: Base, scheduler: str) -> Any:
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=base.vae,
        text_encoder=base.text_encoders[0],
        text_encoder_2=base.text_encoders[1],
        tokenizer=base.tokenizers[0],
        tokenizer_2=base.tokenizers[1],
        unet=base.denoiser,
        scheduler=ddpm.sampler(base, scheduler),
        add_watermarker=False,
    )


def lora_targets(base: Base, component: str, targets: str, conv: bool) -> list[str]:
    if component == "denoiser":
        return unet.lora_targets(base.denoiser, targets, conv)
    return clip.linears(base.component(component), targets)


def kohya_name(component: str, path: str) -> str:
    if component == "denoiser":
        return "lora_unet_" + sai_names.to_sai(path)
    return names.text_name(f"lora_te{int(component.removeprefix('text_encoder_')) + 1}_", path)


def module_path(name: str) -> tuple[str, str] | None:
    """Also reads denoiser names after diffusers' blocks, which some tools write."""
    if name.startswith("lora_unet_"):
        rest = name.removeprefix("lora_unet_")
        path = sai_names.unet_path(rest)
        return None if path is None else ("denoiser", path)
    for prefix, component in (("lora_te1_", "text_encoder_0"), ("lora_te2_", "text_encoder_1")):
        if name.startswith(prefix):
            path = names.unflatten(name.removeprefix(prefix))
            if path is None:
                return None
            # transformers keeps `text_model` only where a projection follows it
            return component, path.removeprefix("text_model.") if component == "text_encoder_0" else path
    return None


FAMILY = Family(
    name="sdxl",
    architecture="stable-diffusion-xl-v1-base",
    base_model_version="sdxl_base_v1-0",
    usual_size=1024,
    uses_clip_skip=False,
    weighs_timesteps=True,
    pipelines=("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline", "StableDiffusionXLImg2ImgPipeline"),
    parts=("unet", "vae", "text_encoder", "text_encoder_2"),
    recognises=recognises,
    load=load,
    encode_images=autoencoder.encode_images,
    decode_latents=autoencoder.decode_latents,
    encode_prompts=encode_prompts,
    size_conditioning=size_conditioning,
    sample_timesteps=ddpm.sample_timesteps,
    add_noise=ddpm.add_noise,
    target=ddpm.target,
    loss_weight=ddpm.loss_weight,
    predict=unet.predict,
    fixed_timesteps=ddpm.fixed_timesteps,
    sampler=ddpm.sampler,
    pipeline=pipeline,
    lora_targets=lora_targets,
    kohya_name=kohya_name,
    module_path=module_path,
)

"""Stable Diffusion 1.x (and 2.x, which differs only in its text encoder and is told apart by the width)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError, mistake
from trainer.families import autoencoder, clip, ddpm, layout, loading, names, sai_names, unet
from trainer.families.family import Base, Family
from trainer.families.prediction import noise_settings, read_traits

if TYPE_CHECKING:
    import torch

    from trainer.families.family import Conditioning


def recognises(keys: frozenset[str]) -> bool:
    """An original-format checkpoint with one CLIP text encoder."""
    return any(key.startswith("cond_stage_model.transformer.") for key in keys)


def load(path: Path, device: torch.device, dtype: torch.dtype) -> Base:
    parts = loading.load_parts(path, dtype, FAMILY.parts, layout.CONFIGS / FAMILY.name)
    return Base(
        family=FAMILY,
        denoiser=parts.models["unet"].to(device),
        vae=parts.models["vae"].to(device),
        text_encoders=[parts.models[name].to(device) for name in parts.encoders],
        tokenizers=[parts.tokenizers[name] for name in parts.encoder_tokenizers],
        noise_scheduler=ddpm.training_scheduler(noise_settings(path, "sd15")),
        device=device,
        dtype=dtype,
        source=str(path),
        notices=tuple(parts.notices),
        variant="v2" if read_traits(path, "sd15").v2 else "",
    )


def encode_prompts(base: Base, prompts: Sequence[str], clip_skip: int | None = None) -> Conditioning:
    """`prompt_embeds` [B, tokens, width]. kohya's clip_skip counts from the end: 1 (or None) the last layer, 2 the one
    before it; the final layer norm follows in every case."""
    encoder = base.text_encoders[0]
    states, output = clip.hidden_states(encoder, base.tokenizers[0], prompts)
    if clip_skip is None or clip_skip == 1:
        embeds = output.last_hidden_state
    elif clip_skip >= len(states):
        raise ModelError(
            mistake(None, "clip_skip", clip_skip, f"at most the {len(states) - 1} layers of this text encoder")
        )
    else:
        embeds = getattr(encoder, "text_model", encoder).final_layer_norm(states[-clip_skip])
    return {"prompt_embeds": embeds.to(base.device)}


def size_conditioning(
    base: Base, original_size: Sequence[int], crop: Sequence[int], target_size: Sequence[int], batch: int
) -> Conditioning:
    """Nothing: this family does not know sizes."""
    return {}


def pipeline(base: Base, scheduler: str) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoders[0],
        tokenizer=base.tokenizers[0],
        unet=base.denoiser,
        scheduler=ddpm.sampler(base, scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def lora_targets(base: Base, component: str, targets: str, conv: bool) -> list[str]:
    if component == "denoiser":
        return unet.lora_targets(base.denoiser, targets, conv)
    return clip.linears(base.component(component), targets)


def kohya_name(component: str, path: str) -> str:
    if component == "denoiser":
        return "lora_unet_" + names.flatten(path)
    return names.text_name("lora_te_", path)


def module_path(name: str) -> tuple[str, str] | None:
    """Also reads the name `lora_te1_`, which diffusers' own converter gives this family's encoder, and the U-Net's
    original block numbers, which OneTrainer can write."""
    for prefix, component in (
        ("lora_unet_", "denoiser"),
        ("lora_te_", "text_encoder_0"),
        ("lora_te1_", "text_encoder_0"),
    ):
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            path = sai_names.unet_path(rest) if component == "denoiser" else names.unflatten(rest)
            if path is None:
                return None
            return component, path if component == "denoiser" else path.removeprefix("text_model.")
    return None


FAMILY = Family(
    name="sd15",
    architecture="stable-diffusion-v1",
    base_model_version="sd_v1",
    usual_size=512,
    uses_clip_skip=True,
    weighs_timesteps=True,
    pipelines=("StableDiffusionPipeline", "StableDiffusionInpaintPipeline", "StableDiffusionImg2ImgPipeline"),
    parts=("unet", "vae", "text_encoder"),
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

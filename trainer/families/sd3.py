"""Stable Diffusion 3: a flow-matching transformer, two CLIP encoders and, when the base has it, a T5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ModelError, mistake, nearest
from trainer.families import autoencoder, clip, layout, loading, names
from trainer.families.family import Base, Family
from trainer.families.prediction import noise_settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainer.families.family import Conditioning

_T5_TOKENS = 256
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_FEED_FORWARD = ("net.0.proj", "net.2")
_SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {"solver_order": 2}),
    "ddim": ("FlowMatchEulerDiscreteScheduler", {}),
    "euler_a": ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
}
_STARTS = ("transformer_blocks", "pos_embed", "time_text_embed", "context_embedder", "norm_out", "proj_out")
"""First words of the paths in its transformer."""
_PREFIXES = (
    ("lora_transformer_", "denoiser", _STARTS),
    ("lora_te1_", "text_encoder_0", ("",)),
    ("lora_te2_", "text_encoder_1", ("",)),
)


def recognises(keys: frozenset[str]) -> bool:
    """An original-format checkpoint with joint transformer blocks."""
    return any(key.startswith(("model.diffusion_model.joint_blocks.", "joint_blocks.")) for key in keys)


def load(path: Path, device: torch.device, dtype: torch.dtype) -> Base:
    from diffusers import FlowMatchEulerDiscreteScheduler

    if layout.is_single_file(path):
        raise ModelError(f"{path}: single SD3 files come without a fixed set of parts: use the diffusers folder")
    parts = loading.load_parts(path, dtype, FAMILY.parts, layout.CONFIGS / FAMILY.name)
    return Base(
        family=FAMILY,
        denoiser=parts.models["transformer"].to(device),
        vae=parts.models["vae"].to(device),
        text_encoders=[parts.models[name].to(device) for name in parts.encoders],
        tokenizers=[parts.tokenizers[name] for name in parts.encoder_tokenizers],
        noise_scheduler=FlowMatchEulerDiscreteScheduler.from_config(noise_settings(path, "sd3")),
        device=device,
        dtype=dtype,
        source=str(path),
        notices=tuple(parts.notices),
    )


def encode_prompts(base: Base, prompts: Sequence[str], clip_skip: int | None = None) -> Conditioning:
    """`prompt_embeds` [B, CLIP tokens + 256, width] and `pooled_prompt_embeds` [B, projections].

    CLIP's layer before the last is padded to T5's width and put in front of T5's output (zeros without T5); clip_skip
    takes no effect.
    """
    import torch
    from torch.nn.functional import pad

    width = base.denoiser.config.joint_attention_dim
    states, pooled = [], []
    for encoder, tokenizer in zip(base.text_encoders[:2], base.tokenizers[:2], strict=True):
        hidden, output = clip.hidden_states(encoder, tokenizer, prompts)
        states.append(hidden[-2].to(base.device))
        pooled.append(output.text_embeds.to(base.device))
    embeds = torch.cat(states, dim=-1)
    embeds = pad(embeds, (0, width - embeds.shape[-1]))
    if len(base.text_encoders) > 2:
        encoder, tokenizer = base.text_encoders[2], base.tokenizers[2]
        tokens = tokenizer(
            list(prompts), padding="max_length", max_length=_T5_TOKENS, truncation=True, return_tensors="pt"
        )
        long = encoder(tokens.input_ids.to(next(encoder.parameters()).device))[0].to(base.device)
    else:
        long = embeds.new_zeros(len(prompts), _T5_TOKENS, width)
    return {"prompt_embeds": torch.cat([embeds, long], dim=1), "pooled_prompt_embeds": torch.cat(pooled, dim=-1)}


def size_conditioning(
    base: Base, original_size: Sequence[int], crop: Sequence[int], target_size: Sequence[int], batch: int
) -> Conditioning:
    """Nothing: the positions in the latent grid say it all."""
    return {}


def sample_timesteps(base: Base, batch: int, generator: torch.Generator) -> Tensor:
    """Logit-normal times (Esser et al., 2024, §3.1) moved by the scheduler's shift; float32 in (0, 1000], [batch]."""
    import torch

    normal = torch.randn(batch, generator=generator, device=generator.device)
    return _shifted(base, normal.sigmoid()).to(base.device, non_blocking=True)


def fixed_timesteps(base: Base, levels: int) -> Tensor:
    """Quantiles (i + ½)/levels of the training times, ascending, float32 [levels]."""
    import torch

    quantiles = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    normal = torch.special.ndtri(quantiles)
    return _shifted(base, normal.sigmoid()).float().to(base.device)


def add_noise(base: Base, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """(1 − σ) x + σ ε, the straight path of rectified flow; σ = t/1000."""
    sigmas = _sigmas(base, latents, timesteps)
    return (1 - sigmas) * latents + sigmas * noise


def target(base: Base, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The path's velocity, ε − x."""
    return noise - latents


def loss_weight(
    base: Base, timesteps: Tensor, min_snr_gamma: float | None, *, debiased_estimation: bool = False
) -> Tensor:
    """1 everywhere: times are already drawn where they matter; min-SNR and debiasing are defined for diffusion only."""
    import torch

    return torch.ones(timesteps.shape, device=timesteps.device)


def predict(base: Base, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    return base.denoiser(
        hidden_states=noisy.to(base.dtype),
        timestep=timesteps,
        encoder_hidden_states=conditioning["prompt_embeds"].to(base.dtype),
        pooled_projections=conditioning["pooled_prompt_embeds"].to(base.dtype),
        return_dict=False,
    )[0].to(noisy.dtype)


def sampler(base: Base, name: str) -> Any:
    """A fresh scheduler over flow-matching sigmas with the base's shift; "ddim" is Euler's method here."""
    import diffusers

    if name not in _SAMPLERS:
        expected = f"one of {', '.join(_SAMPLERS)}{nearest(name, _SAMPLERS)}"
        raise ModelError(mistake(None, "scheduler", name, expected))
    class_name, settings = _SAMPLERS[name]
    shift = base.noise_scheduler.config.shift
    if class_name == "FlowMatchEulerDiscreteScheduler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift, **settings)
    return getattr(diffusers, class_name)(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, **settings
    )


def pipeline(base: Base, scheduler: str) -> Any:
    from diffusers import StableDiffusion3Pipeline

    three = len(base.text_encoders) > 2
    return StableDiffusion3Pipeline(
        transformer=base.denoiser,
        scheduler=sampler(base, scheduler),
        vae=base.vae,
        text_encoder=base.text_encoders[0],
        tokenizer=base.tokenizers[0],
        text_encoder_2=base.text_encoders[1],
        tokenizer_2=base.tokenizers[1],
        text_encoder_3=base.text_encoders[2] if three else None,
        tokenizer_3=base.tokenizers[2] if three else None,
    )


def lora_targets(base: Base, component: str, targets: str, conv: bool) -> list[str]:
    """The joint blocks' attention and, for "kohya", feed-forward layers; T5 is never trained."""
    if component == "text_encoder_2":
        return []
    if component != "denoiser":
        return clip.linears(base.component(component), targets)
    wanted = _ATTENTION + _FEED_FORWARD if targets == "kohya" else _ATTENTION
    paths = [path for path, _ in clip.layers(base.denoiser)]
    return [path for path in paths if path.startswith("transformer_blocks.") and path.endswith(wanted)]


def kohya_name(component: str, path: str) -> str:
    if component == "denoiser":
        return "lora_transformer_" + names.flatten(path)
    return names.text_name(f"lora_te{int(component.removeprefix('text_encoder_')) + 1}_", path)


def module_path(name: str) -> tuple[str, str] | None:
    for prefix, component, starts in _PREFIXES:
        if name.startswith(prefix):
            path = names.unflatten(name.removeprefix(prefix), starts)
            return None if path is None else (component, path)
    return None


def _shifted(base: Base, times: Tensor) -> Tensor:
    """Times in (0, 1) → timesteps in (0, 1000], pushed towards noise by the shift s: s t / (1 + (s − 1) t)."""
    shift = base.noise_scheduler.config.shift
    return shift * times / (1 + (shift - 1) * times) * base.noise_scheduler.config.num_train_timesteps


def _sigmas(base: Base, like: Tensor, timesteps: Tensor) -> Tensor:
    sigmas = timesteps.to(like) / base.noise_scheduler.config.num_train_timesteps
    return sigmas.view(-1, *[1] * (like.ndim - 1))


FAMILY = Family(
    name="sd3",
    architecture="stable-diffusion-v3-medium",
    base_model_version="sd3_medium",
    usual_size=1024,
    uses_clip_skip=False,
    weighs_timesteps=False,
    pipelines=("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
    parts=("transformer", "vae", "text_encoder", "text_encoder_2"),
    recognises=recognises,
    load=load,
    encode_images=autoencoder.encode_images,
    decode_latents=autoencoder.decode_latents,
    encode_prompts=encode_prompts,
    size_conditioning=size_conditioning,
    sample_timesteps=sample_timesteps,
    add_noise=add_noise,
    target=target,
    loss_weight=loss_weight,
    predict=predict,
    fixed_timesteps=fixed_timesteps,
    sampler=sampler,
    pipeline=pipeline,
    lora_targets=lora_targets,
    kohya_name=kohya_name,
    module_path=module_path,
)

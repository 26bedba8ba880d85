"""The tiny models' shapes: VAE, UNet, text encoder, noise schedule, CLIP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from studies.demo import tokenizer as words
from studies.demo.scenes import vocabulary

LATENT, TEXT_WIDTH = 16, 96
SCALING_FACTOR = 0.18215  # Stable Diffusion's own; latents are made to fit it, see `whiten`


def make_vae() -> AutoencoderKL:
    """f = 4, four channels, 0.95 M parameters."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64), layers_per_block=1, latent_channels=4, norm_num_groups=16, sample_size=64,
        mid_block_add_attention=False, scaling_factor=SCALING_FACTOR,
    )  # fmt: skip


def make_unet(attention: str = "8") -> UNet2DConditionModel:
    """attention "16": in the down block at 16×16, in the middle and in the up block at 8×8; "8": at 8×8 only."""
    down = ("CrossAttnDownBlock2D", "DownBlock2D") if attention == "16" else ("DownBlock2D", "CrossAttnDownBlock2D")
    return UNet2DConditionModel(
        sample_size=LATENT, in_channels=4, out_channels=4, down_block_types=down,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(64, 128), layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip


def make_text_encoder() -> CLIPTextModel:
    vocab, _ = words.byte_pairs(vocabulary())
    end = vocab[words.END]
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(vocab), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, projection_dim=TEXT_WIDTH,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=words.LENGTH, hidden_act="gelu",
        bos_token_id=vocab[words.START], eos_token_id=end, pad_token_id=end,
    ))  # fmt: skip


def make_noise_schedule() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.02, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing", steps_offset=1,
    )  # fmt: skip


def clip_config() -> dict[str, Any]:
    """What open_clip_config.json holds. The tokenizer's name is relative: open_clip reads it in the config's folder."""
    vocab, _ = words.byte_pairs(vocabulary())
    return {
        "model_cfg": {
            "embed_dim": 96,
            "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
            "text_cfg": {
                "context_length": words.LENGTH, "vocab_size": len(vocab), "width": 128, "heads": 4, "layers": 3,
                "hf_tokenizer_name": ".", "tokenizer_kwargs": {},
            },
        },
        "preprocess_cfg": {
            "size": 64, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }  # fmt: skip


def make_clip() -> nn.Module:
    from open_clip.model import CLIP

    config = clip_config()["model_cfg"]
    text = {name: value for name, value in config["text_cfg"].items() if not name.startswith(("hf_", "tokenizer"))}
    return CLIP(config["embed_dim"], config["vision_cfg"], text)


def save_clip(model: nn.Module, folder: Path) -> None:
    """An open_clip folder: `open_clip.create_model_and_transforms("local-dir:" + folder)`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    words.save_tokenizer(folder, vocabulary(), for_open_clip=True)
    (folder / "open_clip_config.json").write_text(json.dumps(clip_config(), indent=2) + "\n")
    weights = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def save_base(vae: AutoencoderKL, unet: UNet2DConditionModel, text: CLIPTextModel, folder: Path) -> None:
    """A diffusers folder: `StableDiffusionPipeline.from_pretrained(folder)`, fp16 safetensors."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

    words.save_tokenizer(folder / "tokenizer", vocabulary())
    StableDiffusionPipeline(
        vae=vae.half(), unet=unet.half(), text_encoder=text.half(), scheduler=make_noise_schedule(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


@torch.no_grad()
def whiten(vae: AutoencoderKL, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Folds a shift and a scale of each latent channel into the VAE's own 1×1 convolutions.

    mean, std [C]: of the posterior means now. Afterwards they are 0 and 1 / SCALING_FACTOR; decoding undoes it."""
    gain = 1 / (std * SCALING_FACTOR)
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] *= gain[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) * gain
    quant.bias[channels:] += 2 * gain.log()
    post.bias += (post.weight[:, :, 0, 0] * mean).sum(1)
    post.weight /= gain[None, :, None, None]

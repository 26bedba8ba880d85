"""Tiny random bases, encoders and photos for the tests: the real classes, a few thousand weights, no download.

Everything is a folder as a person would have it: `model_index.json` and components in diffusers' layout, an open_clip
folder, a kohya training folder. The same seed gives the same bytes.
"""

import functools
import io
import json
from pathlib import Path

import numpy as np

WORDS = ("a", "photo", "of", "the", "sks", "toy", "in", "on", "red", "green", "blue", "beach", "forest", "city", "snow")
MAX_TOKENS = 32


def make_tokenizer(folder: Path, *, pad_token: str = "<|endoftext|>") -> int:
    """Write a CLIP tokenizer (byte alphabet, one token for most of `WORDS`) and return its vocabulary size."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    alphabet = list(bytes_to_unicode().values())
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            parts = [parts[0] + parts[1], *parts[2:]]
            if pair not in merges:
                merges.append(pair)
            if parts[0] not in tokens:
                tokens.append(parts[0])
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS, pad_token=pad_token)
    if pad_token not in vocab:
        tokenizer.add_special_tokens({"pad_token": pad_token})
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def make_sd15(folder: Path, *, seed: int = 0, prediction_type: str = "epsilon", rescale_betas: bool = False) -> Path:
    """A Stable Diffusion 1.x folder: UNet with two levels, VAE with a factor of 4, CLIP text encoder of two layers."""
    import torch
    from diffusers import DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(seed)
    vocab_size = make_tokenizer(folder / "tokenizer")
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    _save(_loud(unet), folder / "unet")
    _save(_vae(latent_channels=4, scaling_factor=0.18215), folder / "vae")
    _save(_clip_text(vocab_size, projection=False), folder / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=rescale_betas,
        timestep_spacing="trailing" if rescale_betas else "leading",
    ).save_pretrained(folder / "scheduler")
    _index(
        folder,
        "StableDiffusionPipeline",
        unet=("diffusers", "UNet2DConditionModel"),
        vae=("diffusers", "AutoencoderKL"),
        text_encoder=("transformers", "CLIPTextModel"),
        tokenizer=("transformers", "CLIPTokenizer"),
        scheduler=("diffusers", "DDIMScheduler"),
        safety_checker=(None, None),
        feature_extractor=(None, None),
        image_encoder=(None, None),
        requires_safety_checker=False,
    )
    return folder


def make_sdxl(folder: Path, *, seed: int = 0) -> Path:
    """An SDXL folder with the real topology of blocks (so that SAI names come out alike), two text encoders."""
    import torch
    from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

    torch.manual_seed(seed)
    vocab_size = make_tokenizer(folder / "tokenizer")
    make_tokenizer(folder / "tokenizer_2")
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=32 + 48,
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
        norm_num_groups=8,
    )
    _save(_loud(unet), folder / "unet")
    _save(_vae(latent_channels=4, scaling_factor=0.13025), folder / "vae")
    _save(_clip_text(vocab_size, projection=False), folder / "text_encoder")
    _save(_clip_text(vocab_size, projection=True, width=48), folder / "text_encoder_2")
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    ).save_pretrained(folder / "scheduler")
    _index(
        folder,
        "StableDiffusionXLPipeline",
        unet=("diffusers", "UNet2DConditionModel"),
        vae=("diffusers", "AutoencoderKL"),
        text_encoder=("transformers", "CLIPTextModel"),
        text_encoder_2=("transformers", "CLIPTextModelWithProjection"),
        tokenizer=("transformers", "CLIPTokenizer"),
        tokenizer_2=("transformers", "CLIPTokenizer"),
        scheduler=("diffusers", "EulerDiscreteScheduler"),
        force_zeros_for_empty_prompt=True,
    )
    return folder


def make_sd3(folder: Path, *, seed: int = 0) -> Path:
    """An SD3 folder: flow-matching transformer of two joint blocks, two CLIP encoders with projection, no T5."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

    torch.manual_seed(seed)
    vocab_size = make_tokenizer(folder / "tokenizer")
    make_tokenizer(folder / "tokenizer_2")
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=96,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=16,
        pos_embed_max_size=16,
    )
    _save(_loud(transformer), folder / "transformer")
    _save(_vae(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609), folder / "vae")
    _save(_clip_text(vocab_size, projection=True), folder / "text_encoder")
    _save(_clip_text(vocab_size, projection=True), folder / "text_encoder_2")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    _index(
        folder,
        "StableDiffusion3Pipeline",
        transformer=("diffusers", "SD3Transformer2DModel"),
        vae=("diffusers", "AutoencoderKL"),
        text_encoder=("transformers", "CLIPTextModelWithProjection"),
        text_encoder_2=("transformers", "CLIPTextModelWithProjection"),
        text_encoder_3=(None, None),
        tokenizer=("transformers", "CLIPTokenizer"),
        tokenizer_2=("transformers", "CLIPTokenizer"),
        tokenizer_3=(None, None),
        scheduler=("diffusers", "FlowMatchEulerDiscreteScheduler"),
        image_encoder=(None, None),
        feature_extractor=(None, None),
    )
    return folder


def make_clip(folder: Path, *, seed: int = 0) -> Path:
    """An open_clip folder (config and model.safetensors): 64 px, patch 16, embedding 32."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    model = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.481, 0.458, 0.408], "std": [0.269, 0.261, 0.276], "size": [64, 64], "mode": "RGB"}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    (folder / "open_clip_config.json").write_text(text)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def make_photos(folder: Path, *, seed: int = 0, count: int = 8, repeats: int = 2, size: int = 64) -> Path:
    """A kohya training folder: `<repeats>_sks toy/` with PNGs of a striped disc before plain scenes, and captions."""
    shelf = folder / f"{repeats}_sks toy"
    shelf.mkdir(parents=True, exist_ok=True)
    for index, (picture, caption) in enumerate(_photos(seed, count, size)):
        (shelf / f"{index:02d}.png").write_bytes(picture)
        (shelf / f"{index:02d}.txt").write_text(caption)
    return folder


@functools.cache
def _photos(seed: int, count: int, size: int) -> list[tuple[bytes, str]]:
    """PNGs and their captions; drawn once, for a thousand tests write them."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    places = ("beach", "forest", "city", "snow")
    colours = np.array([[210, 190, 120], [40, 120, 60], [120, 120, 135], [235, 240, 250]], dtype=np.float32)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    made = []
    for index in range(count):
        place = index % len(places)
        centre = rng.uniform(0.35, 0.65, size=2)
        radius = rng.uniform(0.18, 0.3)
        pixels = colours[place] * (0.7 + 0.3 * rows[..., None]) + rng.normal(0, 4, size=(size, size, 3))
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        stripes = np.sin(columns * 40) > 0
        pixels[disc & stripes] = (220, 40, 50)
        pixels[disc & ~stripes] = (240, 220, 60)
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, format="PNG")
        made.append((file.getvalue(), f"a photo of sks toy, {places[place]}\n"))
    return made


def _vae(*, latent_channels: int, scaling_factor: float, shift_factor: float | None = None):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        use_quant_conv=shift_factor is None,
        use_post_quant_conv=shift_factor is None,
    )


def _clip_text(vocab_size: int, *, projection: bool, width: int = 32):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
        hidden_act="gelu" if projection else "quick_gelu",
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def _loud(denoiser):
    """Random weights large enough that prompts, timesteps and a LoRA visibly change the output."""
    import torch

    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if parameter.ndim > 1 and ("attn" in name or "ff" in name or "proj" in name):
                parameter.mul_(2.0)
    return denoiser


def _save(model, folder: Path) -> None:
    model.eval().save_pretrained(folder)


def _index(folder: Path, pipeline: str, **components) -> None:
    entries = {key: list(value) if isinstance(value, tuple) else value for key, value in components.items()}
    text = json.dumps({"_class_name": pipeline, "_diffusers_version": "0.36.0", **entries}, indent=2)
    (folder / "model_index.json").write_text(text)

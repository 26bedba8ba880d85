"""What the shipped models are worth: obedience of drawn pictures, retrieval, reconstruction; and a sheet to look at."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from studies.demo import judges as judging
from studies.demo import scenes
from studies.demo.concepts import JUDGED
from studies.demo.pool import concept_pool, from_scenes, make_pool

STEPS, GUIDANCE = 12, 3.0

SHEET = (
    "red cube, large, on the left, meadow, plain floor",
    "blue ball, small, on the right, desert, checkered floor",
    "green star, large, on the right, night, plain floor",
    "yellow ring, large, on the centre, snow, striped floor",
    "a small purple cone on the left in the room, striped floor",
    "white heart, large, on the left, lava, plain floor",
    "black cylinder, large, on the centre, studio, checkered floor",
    "orange cross, small, on the centre, sea, plain floor",
    "pink pyramid, large, on the right, sunset, checkered floor",
    "cyan pill, large, on the left, forest, striped floor",
    "red ball on the left, blue cube, on the right, studio, plain floor",
    "yellow star over blue cube, large, on the centre, meadow, plain floor",
    "toy, large, on the left, desert, plain floor",
    "zor toy, large, on the right, snow, checkered floor",
)


def open_pipeline(folder: Path, device: torch.device | str = "cpu"):
    """The tiny base as a diffusers pipeline in float32, with the sampler that the numbers here are for."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).to(torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def draw(pipeline, prompts: Sequence[str], seeds: Sequence[int], *, steps: int = STEPS, guidance: float = GUIDANCE,
         batch: int = 32) -> np.ndarray:  # fmt: skip
    """One picture per prompt and seed: uint8 [N, 64, 64, 3]."""
    drawn = []
    for first in range(0, len(prompts), batch):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[first : first + batch]]
        drawn.append(pipeline(
            list(prompts[first : first + batch]), num_inference_steps=steps, guidance_scale=guidance,
            height=64, width=64, generator=generators, output_type="np",
        ).images)  # fmt: skip
    return (np.concatenate(drawn) * 255 + 0.5).astype(np.uint8)


def obedience(pipeline, judges: nn.Module, count: int, seed: int = 0, *, steps: int = STEPS,
              guidance: float = GUIDANCE) -> dict[str, float]:  # fmt: skip
    """Share of pictures that show what `count` full captions of plain single things ask for, by attribute."""
    rng = random.Random(f"obedience {seed}")
    asked = [scenes.single(rng, size=rng.choice(scenes.SIZES)) for _ in range(count)]
    prompts = [scenes.full_caption(scene.attributes) for scene in asked]
    images = draw(pipeline, prompts, range(count), steps=steps, guidance=guidance)
    labels = from_scenes(asked, torch.device("cpu")).labels
    shares = judging.accuracy(judges, images, labels)
    shares.pop("concept")
    return shares


@torch.no_grad()
def retrieval(clip: nn.Module, device: torch.device, *, batches: int = 16, seed: int = 7) -> float:
    """Top-1 of 64: the caption of each unseen picture among 64, mean over batches and both directions."""
    pool = make_pool(64 * batches, seed, device)
    shares = []
    for first in range(0, len(pool), 64):
        part = slice(first, first + 64)
        seen = clip.encode_image(pool.images[part].float() / 127.5 - 1, normalize=True)
        read = clip.encode_text(pool.tokens[part, 0].long(), normalize=True)
        similar, truth = seen @ read.T, torch.arange(64, device=device)
        shares += [(similar.argmax(axis) == truth).float().mean().item() for axis in (0, 1)]
    return float(np.mean(shares))


@torch.no_grad()
def reconstruction(vae, device: torch.device, *, count: int = 256) -> dict[str, float]:
    """PSNR in dB of decoded posterior means, on unseen scenes and on the concepts, which the VAE has never seen."""
    pools = {"scenes": make_pool(count, 8, device), "concepts": concept_pool(max(2, count // len(JUDGED)), 8, device)}
    values = {}
    for name, pool in pools.items():
        pixels = pool.images.float() / 127.5 - 1
        decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in pixels.split(32)])
        error = ((decoded.clamp(-1, 1) - pixels) / 2).square().mean((1, 2, 3))
        values[name] = (-10 * error.log10()).mean().item()
    return values


def sheet(pipeline, path: Path, *, seeds: int = 6, zoom: int = 2, prompts: Sequence[str] = SHEET) -> None:
    """Prompts down, seeds across."""
    images = draw(pipeline, [prompt for prompt in prompts for _ in range(seeds)], list(range(seeds)) * len(prompts))
    save_grid(images, path, columns=seeds, zoom=zoom)


def save_grid(images: np.ndarray, path: Path, *, columns: int, zoom: int = 2) -> None:
    rows = -(-len(images) // columns)
    page = np.full((rows * 66, columns * 66, 3), 255, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        page[row * 66 : row * 66 + 64, column * 66 : column * 66 + 64] = image
    Image.fromarray(page).resize((columns * 66 * zoom, rows * 66 * zoom), Image.Resampling.NEAREST).save(path)

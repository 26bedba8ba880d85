"""What looking at one checkpoint costs at full size on CUDA, random weights: drawing, decoding, encoding, losses.

python -m benchmarks.look_full [--families sd15 sdxl] [--json FILE]     about a minute for both

Beside the step times of `benchmarks.train --full`, this is what a simulation of a study on a GPU rests on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.train import machine
from benchmarks.train_full import SIDES, RandomCache, random_base

STEPS, GUIDANCE = 12, 6.0  # `trainer.inference.sample`
IMAGES = {"sd15": 8, "sdxl": 4}  # at once
ENCODER, ENCODED = "ViT-L-14", 32


def measure_look(family: str, *, device: str = "cuda", repeats: int = 2) -> dict[str, float]:
    """Seconds for one image of each part (median of `repeats` after one to warm up), and for one photo's loss at one
    noise level: `draw`, `decode`, `encode`, `loss`."""
    from diffusers import AutoencoderKL

    from trainer.families.layout import CONFIGS
    from trainer.inference.sample import draw_latents

    base, side = random_base(family, torch.device(device)), SIDES[family]
    count = IMAGES[family]
    cache = RandomCache(base)
    wanted, unwanted = cache.prompts(["a"] * count), cache.prompts([""] * count)
    noise = torch.randn(count, 4, side // 8, side // 8, device=base.device)
    size = (side, side)

    def draw() -> Any:
        return draw_latents(
            base, noise, wanted, unwanted, list(range(count)), sampler=base.family.sampler(base, "dpmpp_2m"),
            steps=STEPS, guidance=GUIDANCE, size=size, precision="bf16",
        )  # fmt: skip

    conditioning = wanted | base.family.size_conditioning(base, size, (0, 0), size, count)
    timesteps = torch.full((count,), 500, device=base.device)

    def loss() -> Any:
        return base.family.predict(base, noise.to(base.dtype), timesteps, conditioning)

    vae: Any = AutoencoderKL.from_config(AutoencoderKL.load_config(CONFIGS / family / "vae"))
    vae = vae.to(base.device, torch.bfloat16).eval()

    def decode() -> Any:
        return vae.decode(noise.to(torch.bfloat16)).sample

    with torch.no_grad():
        found = {name: _seconds(part, repeats) / count for name, part in
                 (("draw", draw), ("decode", decode), ("loss", loss))}  # fmt: skip
    return found


def measure_encoder(device: str = "cuda", repeats: int = 2) -> float:
    """Seconds for one image through the encoder in bf16, without what prepares it on the CPU."""
    import open_clip

    model = open_clip.create_model(ENCODER, device=device)
    pixels = torch.randn(ENCODED, 3, 224, 224, device=device)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        return _seconds(lambda: model.encode_image(pixels), repeats) / ENCODED


def _seconds(part: Callable[[], Any], repeats: int) -> float:
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        part()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return sorted(taken[1:])[len(taken[1:]) // 2]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.look_full", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", choices=tuple(SIDES), default=list(SIDES))
    parser.add_argument("--quick", action="store_true", help="one repeat")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("a CUDA device is needed")
    repeats = 1 if args.quick else 3
    figures: dict[str, Any] = {"machine": machine(), f"encode, {ENCODER}": measure_encoder(repeats=repeats)}
    for family in args.families:
        figures[family] = measure_look(family, repeats=repeats)
        torch.cuda.empty_cache()
    print(json.dumps(figures, indent=1))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

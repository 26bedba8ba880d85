"""Sampling: deterministic, independent of the batch, equal to diffusers' pipelines."""

import numpy as np
import pytest
import torch

from tests.trainer.lora.made_loras import random_lora
from trainer.base_model.load import load_base
from trainer.data.cache import LatentCache
from trainer.errors import ModelError
from trainer.families.family import Base
from trainer.inference.sample import draw_latents, in_batches, initial_noise, sample

PROMPTS = ["a photo of sks toy, beach", "snow", "a photo of sks toy, beach", "city", "forest"]
SEEDS = [0, 1, 2, 1, 0]
SAMPLERS = ["dpmpp_2m", "unipc", "ddim", "euler_a"]


def latents(base: Base, rows: list[int], scheduler: str, guidance: float = 5.0) -> torch.Tensor:
    """Final latents of some of the images, in one batch."""
    with torch.no_grad():
        wanted = base.family.encode_prompts(base, [PROMPTS[row] for row in rows])
        unwanted = base.family.encode_prompts(base, [""] * len(rows))
        return draw_latents(
            base,
            initial_noise(base, [SEEDS[row] for row in rows], (64, 64)),
            wanted,
            unwanted,
            [SEEDS[row] for row in rows],
            sampler=base.family.sampler(base, scheduler),
            steps=4,
            guidance=guidance,
            size=(64, 64),
            precision=None,
        )


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        pytest.param("sd15", "unipc", marks=pytest.mark.slow),
        pytest.param("sd15", "euler_a", marks=pytest.mark.slow),
        pytest.param("sdxl", "dpmpp_2m", marks=pytest.mark.slow),
        ("sd3", "euler_a"),
    ],
)
def test_an_image_does_not_depend_on_its_batch(name: str, scheduler: str, request) -> None:
    base = load_base(request.getfixturevalue(f"tiny_{name}"))
    together = latents(base, [0, 1, 2, 3, 4], scheduler)
    torch.testing.assert_close(latents(base, [0, 1, 2, 3, 4], scheduler), together, rtol=0, atol=0)
    apart = torch.cat(
        [latents(base, [0, 1, 2], scheduler), latents(base, [3], scheduler), latents(base, [4], scheduler)]
    )
    torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        *(pytest.param("sd15", name, marks=pytest.mark.slow) for name in SAMPLERS[1:3]),
        ("sd15", SAMPLERS[0]),
        pytest.param("sd15_v", "dpmpp_2m", marks=pytest.mark.slow),
        ("sd15_v", "ddim"),
        ("sdxl", "dpmpp_2m"),
        *(pytest.param("sd3", name, marks=pytest.mark.slow) for name in SAMPLERS[1:3]),
        ("sd3", SAMPLERS[0]),
    ],
)
def test_images_are_the_pipelines(name: str, scheduler: str, request) -> None:
    base = load_base(request.getfixturevalue(f"tiny_{name}"))
    ours = sample(base, None, [PROMPTS[0]], [4], size=(64, 32), steps=6, guidance=4.0, scheduler=scheduler)
    pipeline = base.family.pipeline(base, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        PROMPTS[0],
        negative_prompt="",
        latents=initial_noise(base, [4], (64, 32)),
        num_inference_steps=6,
        guidance_scale=4.0,
        width=64,
        height=32,
        output_type="np",
    ).images[0]
    assert ours.shape == (1, 32, 64, 3)
    assert ours.dtype == np.uint8
    assert np.abs(ours[0].astype(int) - (image * 255).round().astype(int)).max() <= 1


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
def test_a_lora_acts_the_same_merged_or_beside_the_weights(precision: str, tiny_sd15) -> None:
    """An early LoRA is a small one: on a bf16 base it must act as on the fp32 base, not vanish in rounding."""
    exact, base = load_base(tiny_sd15), load_base(tiny_sd15, precision=precision)
    lora = random_lora(exact, scale=0.05, text=False)
    options = {"size": (64, 64), "steps": 3, "guidance": 1.0}
    truth = sample(exact, lora, PROMPTS, SEEDS, **options).astype(float) - sample(
        exact, None, PROMPTS, SEEDS, **options
    )
    found = sample(base, lora, PROMPTS, SEEDS, **options).astype(float) - sample(base, None, PROMPTS, SEEDS, **options)
    correlation = np.corrcoef(truth.ravel(), found.ravel())[0, 1]
    assert np.abs(truth).mean() > 0.3
    assert correlation > (0.999 if precision == "fp32" else 0.9)


def test_strength_zero_is_the_base_and_strengths_differ(tiny_sd15) -> None:
    base = load_base(tiny_sd15)
    lora = random_lora(base)
    options = {"size": (64, 64), "steps": 3}
    plain = sample(base, None, PROMPTS[:2], [0, 1], **options)
    np.testing.assert_array_equal(sample(base, lora, PROMPTS[:2], [0, 1], strength=0.0, **options), plain)
    half = sample(base, lora, PROMPTS[:2], [0, 1], strength=0.5, **options).astype(int)
    full = sample(base, lora, PROMPTS[:2], [0, 1], **options).astype(int)
    assert 0 < np.abs(half - plain).mean() < np.abs(full - plain).mean()
    np.testing.assert_array_equal(sample(base, None, PROMPTS[:2], [0, 1], **options), plain)


@pytest.mark.slow
def test_autocast_stays_near(tiny_sdxl) -> None:
    base = load_base(tiny_sdxl)
    exact = sample(base, None, PROMPTS, SEEDS, size=(64, 64), steps=4).astype(int)
    fast = sample(base, None, PROMPTS, SEEDS, size=(64, 64), steps=4, precision="bf16").astype(int)
    assert 0 < np.abs(exact - fast).mean() < 4


def test_a_trained_text_encoder_is_not_read_from_the_cache(tiny_sd15) -> None:
    base = load_base(tiny_sd15)
    cache = LatentCache(base)
    text_only = random_lora(base)
    text_only = type(text_only)({s: m for s, m in text_only.modules.items() if s[0] != "denoiser"}, "sd15")
    options = {"size": (64, 64), "steps": 3, "cache": cache}
    plain = sample(base, None, PROMPTS[:1], [0], **options).astype(int)
    assert np.abs(sample(base, text_only, PROMPTS[:1], [0], **options) - plain).mean() > 0.05
    np.testing.assert_array_equal(sample(base, None, PROMPTS[:1], [0], **options), plain)


def test_batches_that_do_not_fit_are_halved() -> None:
    tried = []

    def work(rows: range) -> torch.Tensor:
        tried.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("no room for more than three")
        return torch.arange(rows.start, rows.stop)

    assert torch.cat(in_batches(11, 8, work)).tolist() == list(range(11))
    assert tried == [8, 4, 2, 2, 2, 2, 2, 1]
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(1, 1, lambda rows: work(range(4)))


def test_wrong_requests_are_named(tiny_sd15) -> None:
    base = load_base(tiny_sd15)
    with pytest.raises(ModelError, match="multiples of 4"):
        sample(base, None, ["a"], [0], size=(65, 64))
    with pytest.raises(ModelError, match="scheduler: expected one of dpmpp_2m"):
        sample(base, None, ["a"], [0], size=(64, 64), scheduler="heun")
    with pytest.raises(ModelError, match="one seed for each prompt"):
        sample(base, None, ["a"], [0, 1], size=(64, 64))
    assert sample(base, None, [], [], size=(64, 32)).shape == (0, 32, 64, 3)

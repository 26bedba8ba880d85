"""The steps of sampling and of a held-out loss by hand, with a base that only multiplies."""

import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainer.errors import ModelError
from trainer.families.family import Base
from trainer.inference import attention, evaluate
from trainer.inference import sample as sampling
from trainer.inference.evaluate import Evaluation
from trainer.lora.lora import LoraModule, LoraWeights
from trainer.streams import stream


class _Family:
    """Predicts twice what it is given plus the prompt's number; notes what it was asked."""

    name = "made"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.encoded: list[tuple[list[str], int | None]] = []

    def predict(self, base: Base, noisy: torch.Tensor, timesteps: torch.Tensor, known: dict) -> torch.Tensor:
        self.asked.append({"noisy": noisy.clone(), "timesteps": timesteps, **known})
        return 2 * noisy + known["prompt"].view(-1, 1, 1, 1)

    def size_conditioning(self, base: Base, original, crop, target, batch: int) -> dict[str, torch.Tensor]:
        return {"sizes": torch.tensor([[*original, *crop, *target]]).repeat(batch, 1)}

    def encode_prompts(self, base: Base, prompts: list[str], clip_skip: int | None = None) -> dict[str, torch.Tensor]:
        self.encoded.append((list(prompts), clip_skip))
        return {"prompt": torch.tensor([float(len(prompt)) for prompt in prompts])}

    def decode_latents(self, base: Base, latents: torch.Tensor) -> torch.Tensor:
        self.asked.append({"decoded": len(latents), "autocast": torch.is_autocast_enabled("cpu")})
        return latents[:, :1].expand(-1, 3, -1, -1).repeat_interleave(2, 2).repeat_interleave(2, 3)

    def fixed_timesteps(self, base: Base, levels: int) -> torch.Tensor:
        return torch.arange(levels) + 1.0

    def add_noise(self, base: Base, latents, noise, timesteps) -> torch.Tensor:
        return latents + timesteps.view(-1, 1, 1, 1) * noise

    def target(self, base: Base, latents, noise, timesteps) -> torch.Tensor:
        return noise - latents


@pytest.fixture
def base() -> Base:
    part = nn.Linear(1, 1)
    part.config = SimpleNamespace(latent_channels=2, block_out_channels=(1, 1))
    return Base(_Family(), nn.Linear(1, 1), part, [], [], None, torch.device("cpu"), torch.float32, "b")


class _Sampler:
    """Adds a tenth of the output, and what its generators draw."""

    timesteps = torch.tensor([3.0, 1.0])

    def set_timesteps(self, steps: int, device: Any) -> None:
        self.set = (steps, device)

    def step(self, output, timestep, latents, return_dict=True) -> tuple[torch.Tensor]:
        assert return_dict is False
        return (latents + output / 10,)


class _Scaling(_Sampler):
    init_noise_sigma = 4.0

    def scale_model_input(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return latents / (1 + timestep)


class _Noisy(_Sampler):
    def step(self, output, timestep, latents, return_dict=True, generator=None) -> tuple[torch.Tensor]:
        return (latents + torch.stack([torch.randn(latents.shape[1:], generator=one) for one in generator]),)


def _drawn(base: Base, sampler: Any, noise: torch.Tensor, guidance: float) -> torch.Tensor:
    wanted, unwanted = {"prompt": torch.tensor([5.0, 6.0])}, {"prompt": torch.tensor([1.0, 2.0])}
    return sampling.draw_latents(
        base, noise, wanted, unwanted, [7, 8], sampler=sampler, steps=2, guidance=guidance, size=(4, 6), precision=None
    )


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5, 7.0])
@pytest.mark.parametrize("sampler", [_Sampler(), _Scaling()], ids=["plain", "scaling"])
def test_each_step_follows_the_guided_output(base: Base, sampler: Any, guidance: float) -> None:
    noise = torch.arange(24.0).view(2, 2, 3, 2)
    found = _drawn(base, sampler, noise, guidance)
    scales = isinstance(sampler, _Scaling)
    latents = noise * (4 if scales else 1)
    for timestep in (3.0, 1.0):
        scaled = latents / (1 + timestep) if scales else latents
        with_prompt, without = (2 * scaled + torch.tensor(each).view(2, 1, 1, 1) for each in ([5.0, 6.0], [1.0, 2.0]))
        output = without + guidance * (with_prompt - without) if guidance > 1 else with_prompt
        latents = latents + output / 10
    torch.testing.assert_close(found, latents)
    rows = 4 if guidance > 1 else 2
    assert [len(call["noisy"]) for call in base.family.asked] == [rows, rows]
    assert [call["timesteps"].tolist() for call in base.family.asked] == [[3.0] * rows, [1.0] * rows]
    assert base.family.asked[0]["sizes"].tolist() == [[4, 6, 0, 0, 4, 6]] * rows
    assert sampler.set == (2, base.device)


def test_noise_on_the_way_is_each_images_own(base: Base) -> None:
    found = _drawn(base, _Noisy(), torch.zeros(2, 2, 3, 2), 1.0)
    for row, seed in enumerate((7, 8)):
        generator = torch.Generator().manual_seed(seed ^ 0x5DEECE66D)
        expected = sum(torch.randn(2, 3, 2, generator=generator) for _ in range(2))
        torch.testing.assert_close(found[row], expected)


def test_noise_at_first_is_each_seeds_own(base: Base) -> None:
    found = sampling.initial_noise(base, [3, 4], (6, 8))
    assert found.shape == (2, 2, 4, 3)
    for row, seed in enumerate((3, 4)):
        assert torch.equal(found[row], torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed)))
    for size in ((6, 7), (7, 6)):
        with pytest.raises(ModelError, match=r"size: expected two multiples of 2, got 7×6|got 6×7"):
            sampling.initial_noise(base, [3], size)


@pytest.mark.parametrize(
    ("precision", "own", "found"),
    [
        (None, torch.float32, None),
        (None, torch.bfloat16, None),
        ("fp32", torch.bfloat16, None),
        ("bf16", torch.bfloat16, None),
        ("bf16", torch.float32, torch.bfloat16),
        ("fp16", torch.float32, torch.float16),
        ("fp16", torch.bfloat16, torch.float16),
    ],
)
def test_autocast_is_to_another_precision_only(base: Base, precision, own, found) -> None:
    context = sampling.autocast(dataclasses.replace(base, dtype=own), precision)
    if found is None:
        assert isinstance(context, nullcontext)
    else:
        assert context.fast_dtype == found
    with pytest.raises(ModelError, match="precision: expected fp32, bf16 or fp16, got 'int8'"):
        sampling.autocast(base, "int8")


def test_pixels_are_rounded_to_levels_about_four_megapixels_at_a_time(base: Base, monkeypatch) -> None:
    levels = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 9.0, -1 + 2 / 255 * 7.4, -1 + 2 / 255 * 7.6])
    latents = levels.view(9, 1, 1, 1).expand(9, 2, 1, 3)
    monkeypatch.setattr(sampling, "_PIXELS_AT_ONCE", 4 * 12 + 11)
    images = sampling.to_uint8(base, latents)
    assert (images.shape, images.dtype) == ((9, 2, 6, 3), np.uint8)
    assert images[:, 0, 0, 0].tolist() == [0, 0, 64, 128, 159, 255, 255, 7, 8]
    assert [call["decoded"] for call in base.family.asked] == [4, 4, 1]
    monkeypatch.setattr(sampling, "_PIXELS_AT_ONCE", 1)
    base.family.asked.clear()
    np.testing.assert_array_equal(sampling.to_uint8(base, latents), images)
    assert [call["decoded"] for call in base.family.asked] == [1] * 9


@pytest.mark.parametrize(
    ("precision", "own", "half"),
    [(None, torch.float32, False), (None, torch.bfloat16, True), (None, torch.float16, False),
     ("bf16", torch.float32, True), ("fp16", torch.float32, False), ("fp16", torch.bfloat16, False)],
)  # fmt: skip
def test_the_decoder_works_in_half_precision_of_the_wider_kind_only(base: Base, precision, own, half) -> None:
    sampling.to_uint8(dataclasses.replace(base, dtype=own), torch.zeros(1, 2, 1, 1), precision)
    assert base.family.asked[-1]["autocast"] is half


class _Cache:
    def prompts(self, prompts: list[str], clip_skip: int | None) -> dict[str, torch.Tensor]:
        assert all(isinstance(prompt, str) for prompt in prompts)
        rows = len(prompts)
        return {"prompt": torch.tensor([-1.0] * rows), "skip": torch.tensor([float(clip_skip or 0)] * rows)}


def _lora(*components: str) -> LoraWeights:
    module = LoraModule(down=torch.ones(1, 1), up=torch.ones(1, 1), alpha=1.0)
    return LoraWeights({(component, "a"): module for component in components}, "made")


@pytest.mark.parametrize(
    ("lora", "cached"),
    [(None, True), (_lora("denoiser"), True), (_lora("text_encoder_0"), False),
     (_lora("denoiser", "text_encoder_0"), False)],
)  # fmt: skip
def test_prompts_come_from_the_cache_unless_the_encoders_are_changed(base: Base, lora, cached: bool) -> None:
    known = sampling._encode(base, lora, ["", "abc", ""], 2, _Cache())
    assert known["prompt"].tolist() == ([-1.0] * 3 if cached else [0.0, 3.0, 0.0])
    assert base.family.encoded == ([] if cached else [(["", "abc"], 2)])
    assert not cached or known["skip"].tolist() == [2.0] * 3


# held-out losses


def test_losses_are_mean_squares_under_noise_of_their_own_places(base: Base) -> None:
    latents = torch.arange(24.0).view(2, 2, 2, 3)
    ready = Evaluation.prepare(base, latents, ["a", "bcd"], levels=3, draws=2, seed=5, clip_skip=2)
    assert base.family.encoded == [(["a", "bcd"], 2)]
    expected = np.zeros((2, 3, 2))
    for image in range(2):
        noise = torch.randn(6, 2, 2, 3, generator=stream(5, "evaluate", image))
        for level in range(3):
            for draw in range(2):
                one = noise[level * 2 + draw]
                output = 2 * (latents[image] + (level + 1) * one) + (1.0, 3.0)[image]
                expected[image, level, draw] = ((output - (one - latents[image])) ** 2).mean().item()
    for batch_size in (1, 4, 5, 64):
        np.testing.assert_allclose(ready.losses(batch_size=batch_size), expected, rtol=1e-5)
    assert base.family.asked[0]["sizes"].tolist() == [[6, 4, 0, 0, 6, 4]]
    assert Evaluation.prepare(base, latents[:0], [], levels=3, draws=2, seed=5).losses().shape == (0, 3, 2)
    cached = Evaluation.prepare(base, latents, ["a", "b"], seed=5, clip_skip=3, cache=_Cache())
    assert (cached.conditioning["prompt"].tolist(), cached.conditioning["skip"].tolist()) == ([-1.0] * 2, [3.0] * 2)
    assert cached.losses().shape == (2, 8, 4)
    for lora, prompts in ((_lora("denoiser"), [-1.0, -1.0]), (_lora("denoiser", "text_encoder_0"), [1.0, 1.0])):
        assert cached._conditioning(lora)["prompt"].tolist() == prompts


def test_noise_is_made_when_it_is_needed_and_kept_no_longer() -> None:
    noises = evaluate._Noises(5, (4, 1, 2))
    whole = torch.cat([torch.randn(4, 1, 2, generator=stream(5, "evaluate", image)) for image in range(4)])
    for rows, held in ((range(2), {0}), (range(3, 9), {0, 1, 2}), (range(8, 12), {2}), (range(1, 2), {0})):
        assert torch.equal(noises.rows(rows), whole[rows.start : rows.stop])
        assert set(noises._held) == held


# cross-attention


@pytest.mark.parametrize("count", [1, 2])
def test_a_map_is_the_softmax_over_all_tokens_of_the_words_own(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    heard = {
        "queries": torch.randn(2, 6, 8, generator=generator),
        "keys": torch.randn(2, 5, 8, generator=generator),
    }
    found = attention._map(SimpleNamespace(heads=2), heard, count, (4, 6))
    assert found.shape == (2, 1, 2, 3)
    for row in range(2):
        for place in range(6):
            shares = []
            for head in (slice(0, 4), slice(4, 8)):
                scores = heard["keys"][row, :, head] @ heard["queries"][row, place, head] / 2
                shares.append(scores.softmax(0)[1 : 1 + count].sum())
            assert found[row, 0, place // 3, place % 3] == pytest.approx(sum(shares).item() / 2, rel=1e-5)

"""Texts and seeds that the probe asks for."""

from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search.probe.drawing import drawing_of, precision_of
from search.probe.prompts import STREAMS, composite_captions, neutral_text, probe_seed
from search.study.settings import ScoreSection
from tests.search.any_config import CONFIG


@pytest.mark.parametrize(
    ("text", "trigger", "neutral"),
    [
        ("a photo of sks dog, beach", "sks", "a photo of dog, beach"),
        ("sks,  on desks", "sks", "dog, on desks"),
        ("sks  dog", "sks", "dog"),
        ("a dog, sks", "sks", "a dog, dog"),
        ("a sks cat", "sks", "a dog cat"),
        ("a.b dog and axb dog", "a.b", "dog and axb dog"),  # a trigger is no pattern
        ("a  photo of sks", "", "a  photo of sks"),
    ],
)
def test_an_encoder_reads_the_class_word_for_the_trigger(text: str, trigger: str, neutral: str) -> None:
    assert neutral_text(text, trigger, "dog") == neutral


def test_no_two_uses_draw_with_one_seed() -> None:
    seeds = {
        probe_seed(ScoreSection(seed=seed), stream, index)
        for seed, stream, index in product(range(3), STREAMS, range(50))
    }
    assert len(seeds) == 3 * len(STREAMS) * 50
    assert min(seeds) > 1_000_000, "apart from those of training"


@dataclass
class Made:
    scale: tuple[float, ...]
    background: tuple[int, ...]


def test_a_composite_is_told_with_place_size_and_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.probe.prompts.position_words", lambda made: ["on the left", "in the middle", "above"])
    photos: Any = [SimpleNamespace(trigger="sks", class_word="dog"), SimpleNamespace(trigger=None, class_word="dog")]
    made: Any = Made((0.84, 0.85, 1.2), (1, 0, 1))
    template = "{trigger} {class} {position}, {size}, {context}"
    said = composite_captions(template, [photos[0], photos[0], photos[1]], made, ["snow", "beach"])
    assert [" ".join(each.split()) for each in said] == [
        "sks dog on the left, small, beach", "sks dog in the middle, large, snow", "dog above, large, beach",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "dtype", "device", "able", "precision"),
    [
        ("fp16", torch.float32, "cpu", True, "fp16"),
        ("fp32", torch.bfloat16, "cuda", True, "fp32"),
        ("auto", torch.bfloat16, "cuda", True, None),
        ("auto", torch.float32, "cuda", True, "bf16"),
        ("auto", torch.float32, "cuda", False, None),
        ("auto", torch.float32, "cpu", True, "bf16"),
        ("auto", torch.float32, "cpu", False, None),
    ],
)
def test_images_are_drawn_in_bf16_where_that_is_quick(monkeypatch, asked, dtype, device, able, precision) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able and device == "cuda")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able and device == "cpu")
    base: Any = SimpleNamespace(dtype=dtype, device=torch.device(device))
    assert precision_of(ScoreSection(precision=asked), base) == precision


def test_the_sampler_is_set_as_the_study_says() -> None:
    probe = {"steps": 7, "guidance": 3.5, "negative": "blurry"}
    found = drawing_of(ScoreSection(probe=probe), CONFIG.model_copy(update={"clip_skip": 2}))
    assert (found["steps"], found["guidance"], found["negative"], found["clip_skip"]) == (7, 3.5, "blurry", 2)
    assert found["size"] == CONFIG.size
    assert found["scheduler"] == ScoreSection().probe.scheduler

"""Texts and seeds that the probe asks for."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search.probe.drawing import drawing_of, precision_of
from search.probe.prompts import STREAMS, composite_captions, neutral_caption, neutral_text, probe_labels, probe_seed
from search.study.settings import ProbeSection, ScoreSection
from tests.search.any_config import CONFIG
from trainer.data.dataset import Photo


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


def captioned(captions: list[str], trigger: str | None = "sks", class_word: str | None = "toy") -> list[Photo]:
    return [
        Photo(Path(f"{row}.png"), caption, 1, trigger, class_word, False, str(row), 64, 64)
        for row, caption in enumerate(captions)
    ]


@pytest.mark.parametrize(("trained", "heldout", "of_sets"), [(2, 1, "AABCC"), (9, 9, "AAAABBCC"), (0, 1, "BCC")])
def test_the_probe_has_so_many_captions_of_each_set_and_all_contexts(trained: int, heldout: int, of_sets: str) -> None:
    contexts = ["{trigger} {class} in snow", "a drawing of {trigger} {class}"]
    score = ScoreSection(probe=ProbeSection(trained=trained, heldout=heldout, contexts=contexts, seeds=3))
    photos = captioned([f"sks toy, place {row}" for row in range(6)])
    labels, seeds = probe_labels(score, photos, range(4), (4, 5))
    assert seeds == 3
    assert "".join(labels.sets) == "".join(kind * 3 for kind in of_sets)
    assert labels.seeds == tuple(probe_seed(score, "images", number) for number in range(3)) * len(of_sets)
    for prompt, neutral, kind, row in zip(labels.prompts, labels.neutral, labels.sets, labels.photo, strict=True):
        assert neutral == prompt.replace("sks toy", "toy")
        if kind == "C":
            assert row == -1
        else:
            assert prompt == photos[row].caption
            assert (row < 4) == (kind == "A")
    assert labels.prompts[::3][-2:] == ("sks toy in snow", "a drawing of sks toy")
    assert len(set(labels.prompts)) == len(of_sets)
    assert probe_labels(score, photos, range(4), (4, 5))[0] == labels


def test_a_caption_that_photos_or_sets_share_is_drawn_once() -> None:
    score = ScoreSection(probe=ProbeSection(trained=4, heldout=4, contexts=["{trigger} {class}, a", "b"], seeds=1))
    photos = captioned(["sks toy, a", "sks toy, a", "sks toy, c", "sks toy, c", "sks toy, d"])
    labels, _ = probe_labels(score, photos, (0, 1, 2), (3, 4))
    found = dict(zip(labels.prompts, labels.sets, strict=True))
    assert found == {"sks toy, a": "A", "sks toy, c": "A", "sks toy, d": "B", "b": "C"}
    assert len(labels.prompts) == 4
    nothing_held_out, _ = probe_labels(score, photos, (0, 1, 2, 3, 4), ())
    assert "B" not in nothing_held_out.sets


def test_a_photo_without_trigger_or_class_word_is_asked_for_as_it_is_captioned() -> None:
    (photo,) = captioned(["a photo, beach"], None, None)
    assert neutral_caption(photo) == "a photo, beach"
    score = ScoreSection(probe=ProbeSection(trained=1, heldout=0, contexts=["{trigger} {class} in snow"], seeds=1))
    labels, _ = probe_labels(score, [photo], (0,), ())
    assert labels.neutral == labels.prompts
    assert labels.prompts[-1].strip() == "in snow"

"""Rendered scenes as tensors on one device: what the stages of the build train on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from studies.demo import render, scenes
from studies.demo.concepts import ALL_CONCEPTS, JUDGED
from studies.demo.scenes import COLOURS, PATTERNS, PLACES, POSITIONS, SHAPES, SIZES, Attributes, Scene
from studies.demo.tokenizer import byte_pairs, encode

CAPTIONS = 3  # per scene: everything said, and two as people write them
LABELS: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "place": tuple(PLACES),
    "pattern": PATTERNS,
    "position": POSITIONS,
    "size": SIZES,
    "concept": (*JUDGED, "none"),
}


@dataclass
class Pool:
    """images uint8 [N, 3, 64, 64]; masks bool [N, 64, 64]; tokens int16 [N, 3, 32]; labels int16 [N, 7], −1 unknown."""

    images: Tensor
    masks: Tensor
    tokens: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


def chunks(count: int, seed: int, device: torch.device, *, size: int = 4096) -> Iterator[Pool]:
    """`count` ordinary scenes in chunks, each from its own seed."""
    for index, first in enumerate(range(0, count, size)):
        yield from_scenes(list(scenes.draw_scenes(min(size, count - first), seed * 100_000 + index)), device)


def make_pool(count: int, seed: int, device: torch.device) -> Pool:
    return join(list(chunks(count, seed, device)))


def concept_pool(count: int, seed: int, device: torch.device, names: Sequence[str] = tuple(JUDGED)) -> Pool:
    """`count` pictures of each concept, half of them in its set's contexts."""
    drawn = []
    for name in names:
        for contexts in ("set", "new"):
            drawn += scenes.draw_concept(name, contexts, count // 2, seed)
    return from_scenes(drawn, device)


def from_scenes(drawn: list[Scene], device: torch.device) -> Pool:
    images, masks = render.render(*scenes.tables(drawn), device)
    vocabulary, _ = byte_pairs(scenes.vocabulary())
    rng = random.Random(len(drawn))
    texts = []
    for scene in drawn:
        a = scene.attributes
        if a.kind == "concept":
            texts += [scenes.concept_caption(ALL_CONCEPTS[a.subject], a)] * CAPTIONS
        else:
            texts += [scenes.full_caption(a), *(scenes.caption(a, rng) for _ in range(CAPTIONS - 1))]
    tokens = np.array(encode(texts, vocabulary), dtype=np.int16).reshape(len(drawn), CAPTIONS, -1)
    labels = np.array([_labels(scene.attributes) for scene in drawn], dtype=np.int16)
    return Pool(images.permute(0, 3, 1, 2).contiguous(), masks > 0,
                torch.from_numpy(tokens).to(device), torch.from_numpy(labels).to(device))  # fmt: skip


def join(pools: list[Pool]) -> Pool:
    names = ("images", "masks", "tokens", "labels")
    return Pool(*(torch.cat([getattr(pool, name) for pool in pools]) for name in names))


def _labels(a: Attributes) -> list[int]:
    alone = a.other is None
    known: dict[str, str | None] = {
        "shape": a.shape if alone else None, "colour": a.colour if alone else None, "place": a.place,
        "pattern": a.pattern, "position": a.position if alone else None, "size": a.size if alone else None,
        "concept": a.subject if a.kind == "concept" else "none",
    }  # fmt: skip
    return [-1 if value is None else LABELS[name].index(value) for name, value in known.items()]

"""LoRAs that have bound an unwanted background, and what is true of them: photos of a demo concept that always stands
before one place, which no caption names; judged by `studies.demo.judges`, which no part of the product sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studies.demo.concepts import CONCEPTS
from studies.demo.scenes import PATTERNS, PLACES, POSITIONS, SIZES, render_concept

if TYPE_CHECKING:
    from trainer.families.family import Base
    from trainer.lora.lora import LoraWeights

PHOTOS = 20
SETTINGS = {
    "resolution": 64, "batch_size": 4, "rank": 8, "optimizer": "AdamW", "train_text_encoder": True,
}  # fmt: skip
"""Of the trainings, the text encoder too, as kohya's trainers do unless told otherwise."""


@dataclass(frozen=True)
class Bound:
    """One set of photos and its training.

    Attributes:
        concept: of `studies.demo.concepts`. place: the one that it always stands in.
        seed: of the photos and of the training.
    """

    concept: str
    place: str
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.concept}-{self.place}-{self.seed}"


@dataclass(frozen=True)
class Training:
    """How a LoRA was trained. rates: of the U-Net and of the text encoder."""

    name: str
    epochs: int
    rates: tuple[float, float]


GENTLE = Training("gentle", 14, (3e-3, 2e-3))
"""The place comes where the prompt names none, and there alone."""
OVERCOOKED = Training("overcooked", 80, (6e-3, 4e-3))
"""It comes even where the prompt names another place."""


@dataclass(frozen=True)
class Truth:
    """What pictures really show, one number for each picture.

    Attributes:
        leaks: probability of the bound place, where the prompt names none.
        likeness: of the concept, where the prompt names another place. strays: of the bound place, there.
    """

    leaks: np.ndarray
    likeness: np.ndarray
    strays: np.ndarray


def write_photos(to: Path, bound: Bound) -> Path:
    """The photos in kohya's layout, tagged with the trigger and the class word alone."""
    from PIL import Image

    images, _, _, _ = render_concept(bound.concept, "set", PHOTOS, 300 + bound.seed, places=(bound.place,))
    known = CONCEPTS[bound.concept]
    shelf = to / f"1_{known.trigger} {known.class_word}"
    shelf.mkdir(parents=True)
    for row, image in enumerate(images):
        Image.fromarray(image).save(shelf / f"{row:02d}.png")
        (shelf / f"{row:02d}.txt").write_text(f"{known.trigger} {known.class_word}")
    return to


def train(base: Base, photos: Path, bound: Bound, training: Training) -> LoraWeights:
    """As somebody would who does not see the fault."""
    from trainer.config.config import parse_train_config
    from trainer.data.dataset import scan_dataset
    from trainer.packing.builder import pack_settings, run_settings
    from trainer.packing.pack import Pack

    rate, text_rate = training.rates
    config = parse_train_config(
        {
            **SETTINGS, "learning_rate": rate, "text_encoder_lr": text_rate, "base": base.source, "data": str(photos),
            "epochs": training.epochs, "seed": bound.seed,
        }
    )  # fmt: skip
    pack = Pack(base, scan_dataset(photos), pack_settings(config))
    run = pack.join(run_settings(config), run_dir=photos / "run")
    while not run.finished and run.failed is None:
        pack.train_epoch()
    weights = run.lora_weights()
    pack.leave(run)
    return weights


def prompts(bound: Bound, count: int, seed: int) -> tuple[list[str], list[str]]:
    """(prompts that name another place than the bound one, prompts that name none), `count` of each."""
    known, rng = CONCEPTS[bound.concept], np.random.default_rng([seed, 11])
    others = [place for place in PLACES if place != bound.place]
    places = [others[i % len(others)] for i in range(count)]
    subject = f"{known.trigger} {known.class_word}"
    poses = [f"{subject}, {rng.choice(SIZES)}, on the {rng.choice(POSITIONS)}" for _ in range(2 * count)]
    named = [f"{pose}, {place}, {rng.choice(PATTERNS)} floor" for pose, place in zip(poses, places, strict=False)]
    return named, poses[count:]


def truth(base: Base, lora: LoraWeights | None, bound: Bound, *, count: int = 44, seed: int = 70_001) -> Truth:
    """What is true of a LoRA, on prompts and seeds that no search has seen; `count` pictures of each kind."""
    from studies.demo.judges import judge, load_judges
    from studies.demo.pool import LABELS
    from trainer.inference.sample import sample

    named, unnamed = prompts(bound, count, seed)
    asked = [*named, *unnamed]
    drawn = sample(base, lora, asked, range(seed, seed + len(asked)), size=(64, 64), steps=6, guidance=3.0)
    shown = judge(load_judges(), drawn)
    there = shown["place"].numpy()[:, LABELS["place"].index(bound.place)]
    alike = shown["concept"].numpy()[:count, LABELS["concept"].index(bound.concept)]
    return Truth(there[count:], alike, there[:count])

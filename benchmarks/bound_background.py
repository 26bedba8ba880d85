"""LoRAs that have bound an unwanted background, and what is true of them: photos of a demo concept that always stands
before one place, which no caption names; judged by `studies.demo.judges`, which no part of the product sees."""

from __future__ import annotations

from collections.abc import Sequence
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
    "resolution": 64, "batch_size": 4, "rank": 8, "optimizer": "AdamW", "learning_rate": 2e-3, "conv_rank": 4,
    "conv_alpha": 4.0, "train_text_encoder": True, "text_encoder_lr": 1e-3,
}  # fmt: skip
"""Of the trainings: convolutions and the text encoder too, so that there are blocks to choose from."""


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
class True_:
    """What pictures in other places really show, one number for each picture.

    Attributes:
        leaks: probability of the bound place. likeness: of the concept. obeys: of the place asked for.
    """

    leaks: np.ndarray
    likeness: np.ndarray
    obeys: np.ndarray


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


def train(base: Base, photos: Path, bound: Bound, epochs: int) -> LoraWeights:
    """As somebody would who does not see the fault."""
    from trainer.config.config import parse_train_config
    from trainer.data.dataset import scan_dataset
    from trainer.packing.builder import pack_settings, run_settings
    from trainer.packing.pack import Pack

    config = parse_train_config(
        {**SETTINGS, "base": base.source, "data": str(photos), "epochs": epochs, "seed": bound.seed}
    )
    pack = Pack(base, scan_dataset(photos), pack_settings(config))
    run = pack.join(run_settings(config), run_dir=photos / "run")
    while not run.finished and run.failed is None:
        pack.train_epoch()
    weights = run.lora_weights()
    pack.leave(run)
    return weights


def prompts(bound: Bound, count: int, seed: int) -> tuple[list[str], list[str]]:
    """(prompts that ask for another place than the bound one, those places)."""
    known, rng = CONCEPTS[bound.concept], np.random.default_rng([seed, 11])
    others = [place for place in PLACES if place != bound.place]
    places = [others[i % len(others)] for i in range(count)]
    asked = [
        f"{known.trigger} {known.class_word}, {rng.choice(SIZES)}, on the {rng.choice(POSITIONS)}, {place}, "
        f"{rng.choice(PATTERNS)} floor"
        for place in places
    ]
    return asked, places


def truth(base: Base, loras: Sequence[LoraWeights | None], bound: Bound, *, count: int = 96) -> list[True_]:
    """What is true of each of them, on the same prompts and seeds, which no search has seen."""
    from studies.demo.judges import judge, load_judges
    from studies.demo.pool import LABELS
    from trainer.inference.sample import sample

    asked, places = prompts(bound, count, 70_001)
    judges, found = load_judges(), []
    for lora in loras:
        drawn = sample(base, lora, asked, range(70_002, 70_002 + count), size=(64, 64), steps=8, guidance=3.0)
        shown = judge(judges, drawn)
        place = shown["place"].numpy()
        wanted = [LABELS["place"].index(name) for name in places]
        found.append(
            True_(
                place[:, LABELS["place"].index(bound.place)],
                shown["concept"][:, LABELS["concept"].index(bound.concept)].numpy(),
                place[np.arange(count), wanted],
            )
        )
    return found

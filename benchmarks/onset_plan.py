"""Which concepts, sets and settings the onset benchmark trains. Fixed before any detector was tried on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

CHOOSING = ("mushroom", "robot", "duck", "lamp")
"""Concepts on which tolerances were chosen. No reported figure rests on them."""
REPORTED = (
    "castle", "bee", "planet", "rocket", "snowman", "cactus", "pine", "propeller",
    "dumbbell", "cornet", "rabbit", "hammer", "saucer", "totem",
)  # fmt: skip
HELD_OUT = 8
"""Photos of the same shoot that no run trains on; detectors are shown the first 4 of them unless told otherwise."""
BATCH_SIZE, STEPS = 4, 640
SET_SIZES = (20, 12, 28, 16, 10, 24, 40, 14)

# Settings of the runs of one pack; learning rates are multiplied by a factor of the pack's own.
OVERFITTING: dict[str, dict[str, Any]] = {
    "adamw": {"learning_rate": 2.5e-3, "rank": 16},
    "adamw-low": {"learning_rate": 1.2e-3, "rank": 8, "alpha": 4.0},
    "cosine": {"learning_rate": 3e-3, "rank": 16, "lr_scheduler": "cosine"},
    "restarts": {"learning_rate": 4e-3, "rank": 8, "lr_scheduler": "cosine_with_restarts", "num_cycles": 4},
    "attention": {"learning_rate": 4e-3, "rank": 16, "targets": "attention"},
    "lion": {"optimizer": "Lion", "learning_rate": 6e-4, "rank": 8, "lr_scheduler": "linear"},
    "adafactor": {"optimizer": "Adafactor", "learning_rate": 2.5e-3, "rank": 8},
}
QUIET: dict[str, dict[str, Any]] = {
    "unlearned": {"learning_rate": 2e-6, "rank": 8},
    "slow": {"learning_rate": 1.2e-4, "rank": 8},
    "short": {"learning_rate": 8e-4, "rank": 8, "lr_scheduler": "cosine", "horizon": 0.12},
}


@dataclass(frozen=True)
class PackPlan:
    """One set of photos and the runs that train on it together.

    Attributes:
        name: file name of its results.
        concept: of `studies.demo.concepts`.
        num_photos: trained on; `HELD_OUT` more are rendered and held out.
        seed: of photos, training and probe.
        runs: name to fields of TrainConfig; `horizon` is the share of the pack's epochs that the run is laid out for.
    """

    name: str
    concept: str
    num_photos: int
    seed: int
    runs: dict[str, dict[str, Any]]

    @property
    def chooses(self) -> bool:
        return self.concept in CHOOSING

    @property
    def epochs(self) -> int:
        return max(24, round(STEPS * BATCH_SIZE / self.num_photos))

    def horizon(self, run: str) -> int:
        return max(8, round(self.epochs * self.runs[run].get("horizon", 1.0)))


def epoch_grid(epochs: int) -> list[int]:
    """Checkpoints at most a tenth of an octave apart from epoch 10 on, as far as whole epochs allow."""
    early = (1, 2, 3, 4, 6, 8, 10)
    late = (round(2**octaves) for octaves in np.arange(3.4, np.log2(epochs), 0.1))
    return sorted({epochs, *(epoch for epoch in (*early, *late) if epoch <= epochs)})


def plans(rounds: int = 2) -> list[PackPlan]:
    """All packs in the order in which they are worth having: choosing concepts among the reported ones, then again
    with another set size and seed."""
    order: list[str] = []
    for index in range(max(len(CHOOSING), len(REPORTED))):
        order += REPORTED[index : index + 1]
        if index % 2 == 0:
            order += CHOOSING[index // 2 : index // 2 + 1]
    found = []
    for seed in range(rounds):
        for index, concept in enumerate(order):
            num_photos = SET_SIZES[(index + 3 * seed) % len(SET_SIZES)]
            generator = np.random.default_rng([seed, index])
            factor = float(2 ** generator.uniform(-0.5, 0.5))
            runs = {}
            for name, settings in (OVERFITTING | QUIET).items():
                runs[name] = settings | {"learning_rate": settings["learning_rate"] * factor}
            found.append(PackPlan(f"{concept}-{num_photos}-{seed}", concept, num_photos, seed, runs))
    return found

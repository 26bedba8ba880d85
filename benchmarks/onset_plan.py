"""Which concepts, sets and settings the onset benchmark trains. Which concepts choose was fixed before any detector was
tried; the settings were laid out anew once, before their runs were computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from studies.demo.concepts import UNJUDGED

LATER = tuple(UNJUDGED)
"""Made later, to choose by more than eight; the judges do not know them."""
UNLIKE_CHOOSING, UNLIKE_REPORTED = ("chair", "horse", "jar"), ("spider", "orb", "shakers")
"""Of kinds unlike the others: thin parts, animals, glass, a mirror, two things that belong together."""
CHOOSING = ("mushroom", "robot", "duck", "lamp", "dumbbell", "cornet", "saucer", "totem", *LATER, *UNLIKE_CHOOSING)
"""Concepts on which tolerances were chosen. No reported figure rests on them."""
REPORTED = (
    "castle", "bee", "planet", "rocket", "snowman", "cactus", "pine", "propeller", "rabbit", "hammer",
    *UNLIKE_REPORTED,
)  # fmt: skip
ORDER = (
    "mushroom", "robot", "castle", "bee", "planet", "rocket", "snowman", "cactus", "pine", "propeller",
    "dumbbell", "cornet", "rabbit", "hammer", "saucer", "totem",
)  # fmt: skip
"""Which concept gets which settings; the others' packs have settings of their own."""
FRESH = 320
"""Renders that a truth is read from, for each of: the set's contexts, new contexts."""
HELD_OUT = 6
"""Photos of the same shoot that no run trains on."""
CONTEXTS = 2
"""Places of photos in contexts of their own, HELD_OUT photos in all, the same poses in each. Choosing concepts have as
many photos, of poses of their own, in every place ("elsewhere"): how much two places tell depends on which they are."""
ROUNDS = 4  # sets of photos of each concept
BATCH_SIZE, STEPS = 4, 800
SET_SIZES = (20, 12, 28, 16, 10, 24, 40, 14)
OVERFITTING_PER_PACK = 5

# Settings of the runs of one pack; learning rates are multiplied by a factor of the pack's own.
OVERFITTING: dict[str, dict[str, Any]] = {
    "adamw": {"learning_rate": 2.5e-3, "rank": 16},
    "restarts": {"learning_rate": 4e-3, "rank": 8, "lr_scheduler": "cosine_with_restarts", "num_cycles": 4},
    "attention": {"learning_rate": 4e-3, "rank": 16, "targets": "attention"},
    "cosine": {"learning_rate": 3e-3, "rank": 16, "lr_scheduler": "cosine"},
    "adafactor": {"optimizer": "Adafactor", "learning_rate": 2.5e-3, "rank": 8},
    "lion": {"optimizer": "Lion", "learning_rate": 6e-4, "rank": 8, "lr_scheduler": "linear"},
    "adamw-low": {"learning_rate": 1.2e-3, "rank": 8, "alpha": 4.0},
}
EXTREME: dict[str, dict[str, Any]] = {
    "four-times": {"learning_rate": 1e-2, "rank": 16},
    "rank-64": {"learning_rate": 2.5e-3, "rank": 64},
}
"""What people try and regret; the packs of unlike kinds have them beside the usual ones."""
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
    def epochs(self) -> int:
        return max(24, round(STEPS * BATCH_SIZE / self.num_photos))

    def horizon(self, run: str) -> int:
        return max(8, round(self.epochs * self.runs[run].get("horizon", 1.0)))


def epoch_grid(epochs: int) -> list[int]:
    """Checkpoints a tenth of an octave apart from epoch 10 on, as far as whole epochs allow."""
    early = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    late = (round(2**octaves) for octaves in np.arange(3.4, np.log2(epochs), 0.1))
    return sorted({epochs, *(epoch for epoch in (*early, *late) if epoch <= epochs)})


def detector_grid(epochs: int) -> list[int]:
    """The checkpoints that detectors see: a fifth of an octave apart, as people save them. The truth is first read at
    every third of these, then at all of `epoch_grid` around where it turns."""
    fine = epoch_grid(epochs)
    early = [epoch for epoch in (1, 2, 3, 4, 6, 8, 10) if epoch < epochs]
    late = [epoch for epoch in fine if epoch > 10]
    return sorted({epochs, *early, *late[::-1][::2]})


def plans(rounds: int = ROUNDS) -> list[PackPlan]:
    """All packs in the order in which they are worth having: the choosing concepts first, then the reported ones, then
    again with another set size and seed, the reported ones first."""
    names = list(OVERFITTING)
    few = {name: OVERFITTING[name] for name in ("adamw", "attention", "adafactor")}
    found = [PackPlan(f"{name}-{number}-0", name, number, 0, few) for name, number in (("duck", 16), ("lamp", 24))]
    for index, concept in enumerate(LATER):
        settings = {"short": QUIET["short"]}
        settings |= {name: OVERFITTING[name] for name in (names[(3 * index + step) % len(names)] for step in (0, 2, 4))}
        runs, num_photos = _at_another_rate(settings, [99, index]), SET_SIZES[index % len(SET_SIZES)]
        found.append(PackPlan(f"{concept}-{num_photos}-0", concept, num_photos, 0, runs))
    for index, concept in enumerate((*UNLIKE_CHOOSING, *UNLIKE_REPORTED)):
        settings = {"short": QUIET["short"], **EXTREME}
        settings |= {name: OVERFITTING[name] for name in (names[(2 * index + step) % len(names)] for step in (0, 1, 3))}
        runs, num_photos = _at_another_rate(settings, [77, index]), SET_SIZES[(index + 1) % len(SET_SIZES)]
        found.append(PackPlan(f"{concept}-{num_photos}-0", concept, num_photos, 0, runs))
    for seed in range(rounds):
        numbered = list(enumerate(ORDER))
        for index, concept in sorted(numbered, key=lambda entry: seed > 0 and entry[1] in CHOOSING):
            num_photos = SET_SIZES[(index + 3 * seed) % len(SET_SIZES)]
            start = 3 * (index + seed)
            chosen = sorted({(start + step) % len(names) for step in range(OVERFITTING_PER_PACK)})
            settings = {name: QUIET[name] for name in ("short", ("slow", "unlearned")[(index + seed) % 2])}
            settings |= {names[number]: OVERFITTING[names[number]] for number in chosen}
            runs = _at_another_rate(settings, [seed, index])
            found.append(PackPlan(f"{concept}-{num_photos}-{seed}", concept, num_photos, seed, runs))
    return found


def _at_another_rate(settings: dict[str, dict[str, Any]], seed: list[int]) -> dict[str, dict[str, Any]]:
    """The runs of one pack: all learning rates up to half an octave higher or lower."""
    factor = float(2 ** np.random.default_rng(seed).uniform(-0.5, 0.5))
    return {name: own | {"learning_rate": own["learning_rate"] * factor} for name, own in settings.items()}

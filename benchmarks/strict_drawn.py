"""Images of the onset benchmark's checkpoints, drawn to be judged strictly: what `benchmarks.strict` reads.

Each pack's `.npz` has for each of its runs, at `LOOKS` checkpoints and for the base (row 0):

    RUN/epochs [T]      RUN/effort [T]
    RUN/probe [T, 36, 64, 64, 3]      the probe of a study: captions of photos, and new contexts
    RUN/fresh [T, 40, 64, 64, 3]      prompts and seeds that no probe has: new contexts, all sizes and positions
    RUN/trained [T, 16, 64, 64, 3]    captions of training photos, one image each
    RUN/LOSS [T, images, levels]      ln ratios to the base: heldout, context, shifted, shifted_train

Images are uint8. Everything else (prompts, photos, fresh renders) follows from the plan.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import onset_loras
from benchmarks.onset_plan import LATER, PackPlan, detector_grid, plans
from benchmarks.onset_truth import SEEN

if TYPE_CHECKING:
    from benchmarks.onset_world import World
    from trainer.families.family import Base
    from trainer.lora.lora import LoraWeights

LOOKS = 7  # checkpoints of each run, evenly over those that a detector sees
FRESH_DRAWN, TRAINED_DRAWN = 40, 16
PROMPT_SEED = 70_001  # no probe, photo set or truth is drawn from it
LOSSES = (*SEEN, "context")


def wanted_plans() -> list[PackPlan]:
    """The packs of concepts that judges know or are to learn, in the order in which they are worth having: unlike kinds
    first, then one set of each concept, then the other sets."""
    return [plan for plan in plans() if plan.concept not in LATER and len(plan.runs) > 3]


@dataclass(frozen=True)
class Asked:
    """What the images of a pack were asked for."""

    plan: PackPlan

    @cached_property
    def fresh(self) -> list:
        """[FRESH_DRAWN] attributes of one thing alone in contexts that the set lacks."""
        from studies.demo.scenes import draw_concept

        scenes = draw_concept(self.plan.concept, "new", 3 * FRESH_DRAWN, PROMPT_SEED + self.plan.seed)
        return [scene.attributes for scene in scenes if not scene.attributes.other][:FRESH_DRAWN]

    @cached_property
    def photos(self) -> list[int]:
        """[TRAINED_DRAWN] training photos whose captions are drawn; small sets give some of theirs twice."""
        return [row % self.plan.num_photos for row in range(TRAINED_DRAWN)]

    def prompts(self, world: World) -> dict[str, list[str]]:
        from studies.demo.scenes import concept_caption, find_concept

        known = find_concept(self.plan.concept)
        return {
            "probe": list(world.labels.prompts),
            "fresh": [concept_caption(known, attributes) for attributes in self.fresh],
            "trained": [world.captions[row] for row in self.photos],
        }

    def seeds(self, world: World) -> dict[str, list[int]]:
        generator = np.random.default_rng([PROMPT_SEED, self.plan.seed])
        fresh, trained = generator.integers(1 << 30, size=FRESH_DRAWN), generator.integers(1 << 30, size=TRAINED_DRAWN)
        return {"probe": list(world.labels.seeds), "fresh": fresh.tolist(), "trained": trained.tolist()}


def looked_at(epochs: list[int]) -> list[int]:
    """`LOOKS` of the checkpoints that detectors see, the second one and the last among them."""
    seen = [epoch for epoch in detector_grid(max(epochs)) if epoch in epochs]
    return [
        seen[row] for row in np.unique(np.linspace(1, len(seen) - 1, min(LOOKS, len(seen) - 1)).round().astype(int))
    ]


def draw_packs(out: Path, loras: Path, minutes: float, only: list[str]) -> None:
    """Trains and draws pack after pack until the time is up; what is there stays, and a pack is written whole."""
    import torch

    from benchmarks.onset_recompute import BASE, trained_pack
    from trainer.base_model.load import load_base

    end = time.time() + 60 * minutes
    base = load_base(BASE, device="cuda" if torch.cuda.is_available() else "cpu")
    out.mkdir(parents=True, exist_ok=True)
    for plan in wanted_plans():
        if time.time() > end:
            return
        if (out / f"{plan.name}.npz").exists() or (only and not any(part in plan.name for part in only)):
            continue
        began = time.time()
        world, runs = trained_pack(plan, base, loras)
        trained = time.time()
        _save(out / f"{plan.name}.npz", _drawn(plan, world, runs, base))
        print(f"{plan.name}: {trained - began:.0f} s until trained, {time.time() - trained:.0f} s drawn", flush=True)


def _drawn(plan: PackPlan, world: World, runs: onset_loras.Runs, base: Base) -> dict[str, np.ndarray]:
    from benchmarks.onset_world import Losses, draw
    from metrics.channels.losses import log_ratios

    asked, losses = Asked(plan), Losses(base, world, plan.seed)
    prompts, seeds = asked.prompts(world), asked.seeds(world)

    def look(lora: LoraWeights | None) -> dict[str, np.ndarray]:
        images = draw(base, lora, [*chain(*prompts.values())], [*chain(*seeds.values())])
        ends = np.cumsum([len(texts) for texts in prompts.values()])
        return dict(zip(prompts, np.split(images, ends[:-1]), strict=True)) | losses(lora, LOSSES)

    at_base = look(None)
    found: dict[str, np.ndarray] = {}
    for name, run in runs.items():
        epochs = looked_at(sorted(run))
        looks = [at_base, *(look(run[epoch].lora) for epoch in epochs)]
        found[f"{name}/epochs"] = np.array([0, *epochs])
        found[f"{name}/effort"] = np.array([0.0, *(run[epoch].effort for epoch in epochs)])
        for kind in prompts:
            found[f"{name}/{kind}"] = np.stack([seen[kind] for seen in looks])
        for kind in LOSSES:
            ratios = [log_ratios(seen[kind], at_base[kind]).mean(axis=2) for seen in looks]
            found[f"{name}/{kind}"] = np.stack(ratios).astype(np.float32)
    return found | {f"{key}_photo": owners for key, owners in world.owners.items()}


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(aside, path)


def read_drawn(out: Path) -> Iterator[tuple[PackPlan, dict[str, np.ndarray]]]:
    """Plan and arrays of every pack that was drawn, in the plans' order."""
    for plan in wanted_plans():
        path = out / f"{plan.name}.npz"
        if path.is_file():
            with np.load(path) as file:
                yield plan, {name: file[name] for name in file.files}

"""What one pack of the onset benchmark trains on and is judged by: photos, fresh renders, moved subjects, probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.onset_plan import CHOOSING, CONTEXTS, FRESH, HELD_OUT, PackPlan
from metrics.checkpoint.score import ProbeLabels
from metrics.subjects.composites import make_composites
from metrics.subjects.masks import subject_masks
from metrics.subjects.spoiled_twins import make_spoiled_twins
from search.probe.prompts import composite_captions
from studies.demo.scenes import PATTERNS, PLACES, POSITIONS, find_concept, render_concept
from trainer.data.dataset import Photo
from trainer.families.family import Base
from trainer.inference.evaluate import Evaluation
from trainer.inference.sample import sample, with_lora
from trainer.lora.lora import LoraWeights

MOVED = {"shifted": 48, "shifted_train": 32}
"""Composites whose subjects are cut out of held-out (eight of each photo) and of training photos, by saliency."""
NOISES = {"heldout": (8, 2), "context": (8, 2), "elsewhere": (8, 2), "true_set": (8, 1), "true_new": (8, 1)}
"""Noise levels and draws for each image; four levels, one draw, where nothing is said."""
GROUPS = {"true_set": 8, "true_new": 8}
"""Into how many groups of renders the noise levels are shared out: row i belongs to group i % groups."""


@dataclass
class World:
    """Arrays of one pack; photos are training photos first, then the held-out ones."""

    photos: np.ndarray
    captions: list[str]
    images: dict[str, np.ndarray]  # heldout, truths, those of MOVED, context, elsewhere: uint8 [N, 64, 64, 3]
    texts: dict[str, list[str]]
    owners: dict[str, np.ndarray] = field(default_factory=dict)  # whose photo each composite is; which place, elsewhere
    spoiled: np.ndarray = field(init=False)  # spoiled twins of all photos' subjects, uint8 [64, 64, 64, 3]
    labels: ProbeLabels = field(init=False)


def make_world(plan: PackPlan, base: Base) -> World:
    """Renders and composes everything; the base draws the backgrounds that subjects are moved into."""
    device = base.device
    count = plan.num_photos + HELD_OUT
    photos, captions, _, _ = render_concept(plan.concept, "set", count, seed=100 + plan.seed, device=device)
    images, texts = {"heldout": photos[plan.num_photos :]}, {"heldout": captions[plan.num_photos :]}
    seed = 9000 + plan.seed
    images["true_set"], texts["true_set"], _, _ = render_concept(plan.concept, "set", FRESH, seed=seed, device=device)
    images["true_new"], texts["true_new"], _, _ = render_concept(plan.concept, "new", FRESH, seed=seed, device=device)
    world = World(photos, captions, images, texts)
    concept = find_concept(plan.concept)
    novel = [place for place in PLACES if place not in concept.set_places]
    scenes = [f"{place}, {pattern} floor" for place in novel for pattern in PATTERNS]
    generator = np.random.default_rng([plan.seed, 5])
    backgrounds = draw(base, None, scenes, generator.integers(1 << 30, size=len(scenes)))
    masks = subject_masks(list(photos), source="saliency").masks
    world.spoiled = make_spoiled_twins(list(photos), list(masks), backgrounds, seed=plan.seed)
    # as a study words them
    photo = Photo(Path(), "", 1, concept.trigger, concept.class_word, False, "", *photos.shape[1:3])
    template = "{trigger} {class}, {size}, on the {position}, {context}"
    for name, number in MOVED.items():
        rows = range(plan.num_photos) if name.endswith("_train") else range(plan.num_photos, count)
        moved = make_composites(
            [photos[row] for row in rows], [masks[row] for row in rows], backgrounds, count=number, seed=plan.seed
        )
        images[name], world.owners[name] = moved.images, moved.photo
        texts[name] = composite_captions(template, [photo] * number, moved, scenes)
    elsewhere = np.random.default_rng([plan.seed, 8]).permutation(novel)[:CONTEXTS].tolist()
    wanted = {"context": [(place, 5000 + plan.seed) for place in elsewhere]}
    if plan.concept in CHOOSING:
        wanted["elsewhere"] = [(place, 6000 + 100 * plan.seed + row) for row, place in enumerate(novel)]
        world.owners["elsewhere"] = np.repeat(np.arange(len(novel)), HELD_OUT // CONTEXTS)
    for name, photographed in wanted.items():
        parts = [
            render_concept(plan.concept, "set", HELD_OUT // CONTEXTS, seed=seed, device=device, places=(place,))
            for place, seed in photographed
        ]
        images[name] = np.concatenate([part[0] for part in parts])
        texts[name] = [text for part in parts for text in part[1]]
    world.labels = _probe(plan, world, novel)
    return world


def _probe(plan: PackPlan, world: World, novel: list[str]) -> ProbeLabels:
    """Ten captions of photos (six trained, four held out) and eight new contexts, two seeds each."""
    concept = find_concept(plan.concept)
    trigger, word = concept.trigger, concept.class_word
    generator = np.random.default_rng([plan.seed, 6])
    rows: list[tuple[str, str, int]] = [("A", world.captions[photo], photo) for photo in range(6)]
    rows += [("B", world.captions[photo], photo) for photo in range(plan.num_photos, plan.num_photos + 4)]
    for index in range(8):
        place, position = novel[index % len(novel)], POSITIONS[index % 3]
        size, pattern = ("small", "large")[int(generator.integers(2))], PATTERNS[(index // 2) % 3]
        rows.append(("C", f"{trigger} {word}, {size}, on the {position}, {place}, {pattern} floor", -1))
    rows = [row for row in rows for _ in range(2)]
    seeds = tuple(int(seed) for seed in generator.integers(1 << 30, size=len(rows)))
    return ProbeLabels(
        tuple(text for _, text, _ in rows),
        tuple(text.replace(f"{trigger} ", "") for _, text, _ in rows),
        tuple(kind for kind, _, _ in rows),
        tuple(photo for _, _, photo in rows),
        seeds,
    )


class Losses:
    """Losses of a LoRA on the images of a world, under noise that is fixed for good. Moved subjects and held-out photos
    are measured as a study measures them; fresh renders share eight noise levels out among themselves, GROUPS ways."""

    def __init__(self, base: Base, world: World, seed: int) -> None:
        self.base = base
        self._ready: dict[str, list[tuple[np.ndarray, Evaluation]]] = {}
        for index, (name, images) in enumerate(world.images.items()):
            levels, draws = NOISES.get(name, (4, 1))
            groups = GROUPS.get(name, 1)
            self._ready[name] = []
            for group in range(groups):
                rows = np.arange(group, len(images), groups)
                texts = [world.texts[name][row] for row in rows]
                number = 1000 * seed + 10 * index + group
                ready = Evaluation.prepare(base, images[rows], texts, levels=levels, draws=draws, seed=number)
                ready = replace(ready, timesteps=ready.timesteps[group::groups])
                self._ready[name].append((rows, ready))

    def __call__(self, lora: LoraWeights | None, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Name to [N, levels, draws] mean squared errors of the named sets of images."""
        found = {}
        with with_lora(self.base, lora):  # merged once for all sets
            for name in names:
                parts = [(rows, ready.losses(batch_size=128, precision="bf16")) for rows, ready in self._ready[name]]
                losses = np.empty((sum(len(rows) for rows, _ in parts), *parts[0][1].shape[1:]))
                for rows, values in parts:
                    losses[rows] = values
                found[name] = losses
        return found


def draw(base: Base, lora: LoraWeights | None, prompts: Sequence[str], seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """uint8 [N, 64, 64, 3], as a study's probe draws them."""
    return sample(base, lora, prompts, [int(seed) for seed in seeds], size=(64, 64), precision="bf16")


def write_photos(folder: Path, plan: PackPlan, world: World) -> Path:
    """The training photos in kohya's layout."""
    from PIL import Image

    concept = find_concept(plan.concept)
    shelf = folder / f"1_{concept.trigger} {concept.class_word}"
    shelf.mkdir(parents=True)
    for row in range(plan.num_photos):
        Image.fromarray(world.photos[row]).save(shelf / f"{row:03d}.png")
        (shelf / f"{row:03d}.txt").write_text(world.captions[row])
    return folder

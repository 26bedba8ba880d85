"""What one pack of the onset benchmark trains on and is judged by: photos, fresh renders, moved subjects, probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.onset_plan import HELD_OUT, PackPlan
from metrics.composites import Composites, make_composites
from metrics.masks import subject_masks
from metrics.score import ProbeLabels
from studies.demo.concepts import CONCEPTS
from studies.demo.scenes import PATTERNS, PLACES, POSITIONS, SIZES, render_concept
from trainer.packed import applied

FRESH = 320  # renders that the truth is read from, for each of: the set's contexts, new contexts
MOVED = 48  # composites in each of MOVED_SETS
MOVED_SETS = ("shifted", "shifted_train")
"""Subjects of held-out and of training photos, cut out by saliency."""
DRAWN = 32  # images of the class in new contexts, drawn by the base: how much of what it knew is kept
NOISES = {"heldout": (8, 2), "train": (8, 1), "true_set": (2, 1), "true_new": (2, 1)}
"""Noise levels and draws for each image; four levels, one draw, where nothing is said. Fresh renders share eight levels
out among themselves."""


@dataclass
class World:
    """Arrays of one pack; photos are training photos first, then the held-out ones."""

    photos: np.ndarray
    captions: list[str]
    images: dict[str, np.ndarray]  # heldout, train, prior, MOVED_SETS, true_set, true_new: uint8 [N, 64, 64, 3]
    texts: dict[str, list[str]]
    owners: dict[str, np.ndarray] = field(default_factory=dict)  # whose photo each composite is
    boxes: dict[str, np.ndarray] = field(default_factory=dict)  # where its subject stands: left, top, right, bottom
    labels: ProbeLabels = field(init=False)


def make_world(plan: PackPlan, base: Any) -> World:
    """Renders and composes everything; the base draws the backgrounds that subjects are moved into."""
    device = base.device
    count = plan.num_photos + HELD_OUT
    photos, captions, _, _ = render_concept(plan.concept, "set", count, seed=100 + plan.seed, device=device)
    seen = min(plan.num_photos, 12)
    images = {"heldout": photos[plan.num_photos :], "train": photos[:seen]}
    texts = {"heldout": captions[plan.num_photos :], "train": captions[:seen]}
    for name, contexts in (("true_set", "set"), ("true_new", "new")):
        fresh = render_concept(plan.concept, contexts, FRESH, seed=9000 + plan.seed, device=device)
        images[name], texts[name] = fresh[0], fresh[1]
    world = World(photos, captions, images, texts)
    concept = CONCEPTS[plan.concept]
    novel = [place for place in PLACES if place not in concept.set_places]
    scenes = [f"{place}, {pattern} floor" for place in novel for pattern in PATTERNS]
    generator = np.random.default_rng([plan.seed, 5])
    backgrounds = draw(base, [None], scenes, generator.integers(1 << 30, size=len(scenes)))[0]
    masks = subject_masks(list(photos), source="saliency").masks
    subject = f"{concept.trigger} {concept.class_word}"
    for name in MOVED_SETS:
        rows = range(plan.num_photos) if name.endswith("_train") else range(plan.num_photos, count)
        moved = make_composites(
            [photos[row] for row in rows], [masks[row] for row in rows], backgrounds, count=MOVED, seed=plan.seed
        )
        images[name], world.owners[name], world.boxes[name] = moved.images, moved.photo, moved.box
        texts[name] = [_caption(subject, moved, row, scenes) for row in range(MOVED)]
    texts["prior"] = [
        f"{concept.class_word}, {SIZES[row % 2]}, on the {POSITIONS[row % 3]}, {scenes[row % len(scenes)]}"
        for row in range(DRAWN)
    ]
    images["prior"] = draw(base, [None], texts["prior"], generator.integers(1 << 30, size=DRAWN))[0]
    world.labels = _probe(plan, world, novel)
    return world


def _caption(subject: str, moved: Composites, row: int, scenes: list[str]) -> str:
    left, top, right, bottom = moved.box[row]
    width = moved.images.shape[2]
    position = POSITIONS[int(np.clip((left + right) / 2 / width * 3, 0, 2))]
    size = "large" if bottom - top > 0.42 * width else "small"
    return f"{subject}, {size}, on the {position}, {scenes[moved.background[row]]}"


def _probe(plan: PackPlan, world: World, novel: list[str]) -> ProbeLabels:
    """Ten captions of photos (six trained, four held out) and eight new contexts, two seeds each."""
    concept = CONCEPTS[plan.concept]
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
    """Losses of many LoRAs at once on all images of a world: noisy latents and targets are made once."""

    def __init__(self, base: Any, world: World, seed: int, rows_per_batch: int) -> None:
        self.base, self.rows_per_batch = base, rows_per_batch
        family = base.family
        self.shapes: dict[str, tuple[int, int, int]] = {}
        noisy, targets, times, texts, inside = [], [], [], [], []
        for index, (name, images) in enumerate(world.images.items()):
            levels, draws = NOISES.get(name, (4, 1))
            shape = self.shapes[name] = (len(images), levels, draws)
            latents = encode(base, images)
            generator = torch.Generator("cpu").manual_seed(1000 * seed + index)
            noise = torch.randn(shape + latents.shape[1:], generator=generator).to(base.device).flatten(0, 2)
            steps = family.fixed_timesteps(base, levels).to(base.device)[None].expand(len(images), levels)
            if name.startswith("true"):
                rows = torch.arange(len(images), device=base.device)[:, None] % 4
                steps = family.fixed_timesteps(base, 8).to(base.device)[torch.cat([rows, rows + 4], dim=1)]
            time = steps[:, :, None].expand(shape).reshape(-1)
            clean = latents[:, None, None].expand(shape + latents.shape[1:]).flatten(0, 2)
            noisy.append(family.add_noise(base, clean, noise, time))
            targets.append(family.target(base, clean, noise, time))
            times.append(time)
            boxes = _inside(world.boxes.get(name), latents).to(base.device)
            inside.append(boxes[:, None, None].expand(shape + boxes.shape[1:]).flatten(0, 2))
            texts += [text for text in world.texts[name] for _ in range(levels * draws)]
        self.noisy, self.targets, self.times = torch.cat(noisy), torch.cat(targets), torch.cat(times)
        self.inside = torch.cat(inside)
        self.prompts, self.text_rows = encode_texts(base, texts)

    @torch.no_grad()
    def __call__(self, loras: Sequence[Any]) -> list[dict[str, np.ndarray]]:
        """One dict per LoRA (None: the base): name to [N, levels, draws] mean squared errors; of composites also
        `name_inside`, over the subject's box alone."""
        width, each = len(loras), max(1, self.rows_per_batch // len(loras))
        errors, inner = [], []
        with applied(self.base, list(loras)), _fast(self.base):
            for start in range(0, len(self.noisy), each):
                part = slice(start, start + each)
                noisy = self.noisy[part].repeat(width, 1, 1, 1)
                prompts = {key: value[self.text_rows[part]] for key, value in self.prompts.items()}
                prompts = {key: value.repeat(width, *[1] * (value.ndim - 1)) for key, value in prompts.items()}
                out = self.base.family.predict(self.base, noisy, self.times[part].repeat(width), prompts)
                out = out.float().view(width, -1, *out.shape[1:])
                wrong = (out - self.targets[part]).square().mean(dim=2)  # [K, rows, h, w]
                errors.append(wrong.mean(dim=(2, 3)))
                box = self.inside[part]
                inner.append((wrong * box).sum(dim=(2, 3)) / box.sum(dim=(1, 2)))
        flat, flat_inside = (torch.cat(parts, dim=1).double().cpu().numpy() for parts in (errors, inner))
        found, start = [dict[str, np.ndarray]() for _ in loras], 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            for row in range(width):
                found[row][name] = flat[row, start : start + size].reshape(shape)
                if name in MOVED_SETS:
                    found[row][f"{name}_inside"] = flat_inside[row, start : start + size].reshape(shape)
            start += size
        return found


def _fast(base: Any) -> Any:
    """bf16 on an accelerator: noises are paired, and what rounding adds averages out over hundreds of rows."""
    return torch.autocast(base.device.type, torch.bfloat16, enabled=base.device.type == "cuda")


def _inside(boxes: np.ndarray | None, latents: torch.Tensor) -> torch.Tensor:
    """[N, h, w] 1 inside the box (in pixels of a 64-pixel picture), everywhere where there is none."""
    inside = torch.ones(latents.shape[0], *latents.shape[2:])
    if boxes is not None:
        scale = latents.shape[-1] / 64
        for row, (left, top, right, bottom) in enumerate(boxes):
            inside[row] = 0
            rows = slice(int(max(top, 0) * scale), int(np.ceil(bottom * scale)))
            inside[row, rows, int(max(left, 0) * scale) : int(np.ceil(right * scale))] = 1
    return inside


@torch.no_grad()
def draw(
    base: Any, loras: Sequence[Any], prompts: Sequence[str], seeds: Sequence[int] | np.ndarray, *, steps: int = 12,
    guidance: float = 6.0,
) -> np.ndarray:  # fmt: skip
    """uint8 [K, N, 64, 64, 3]: the same prompts and noise through every LoRA at once."""
    family, width, count = base.family, len(loras), len(prompts)
    side = 64 // base.latent_factor
    channels = base.denoiser.config.in_channels
    noise = torch.stack(
        [torch.randn(channels, side, side, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    ).to(base.device)
    embeds, rows = encode_texts(base, [*prompts, ""])
    both = torch.cat([rows[:-1], rows[-1:].repeat(count)])  # prompts, then nothing: for guidance
    conditioning = {key: value[both] for key, value in embeds.items()}
    conditioning = {key: value.repeat(width, *[1] * (value.ndim - 1)) for key, value in conditioning.items()}
    scheduler = family.sampler(base, "dpmpp_2m")
    scheduler.set_timesteps(steps, device=base.device)
    latents = (noise * scheduler.init_noise_sigma).repeat(width, 1, 1, 1)
    with applied(base, list(loras)), _fast(base):
        for time in scheduler.timesteps:
            grouped = latents.view(width, count, *latents.shape[1:])
            doubled = torch.cat([grouped, grouped], dim=1).flatten(0, 1)
            doubled = scheduler.scale_model_input(doubled, time)
            out = family.predict(base, doubled, time.expand(len(doubled)), conditioning)
            out = out.float().view(width, 2, count, *out.shape[1:])
            out = out[:, 1] + guidance * (out[:, 0] - out[:, 1])
            latents = scheduler.step(out.flatten(0, 1), time, latents).prev_sample
    pixels = torch.cat([family.decode_latents(base, part) for part in latents.split(512)])
    pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels.reshape(width, count, *pixels.shape[1:])


@torch.no_grad()
def encode(base: Any, images: np.ndarray) -> torch.Tensor:
    """Latents [N, C, h, w]: the posterior's mean."""
    pixels = torch.from_numpy(images).to(base.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([base.family.encode_images(base, part)[0] for part in pixels.split(256)])


@torch.no_grad()
def encode_texts(base: Any, texts: Sequence[str]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Embeddings of the distinct texts, and the row of each text among them."""
    distinct = list(dict.fromkeys(texts))
    parts = [base.family.encode_prompts(base, distinct[start : start + 256]) for start in range(0, len(distinct), 256)]
    number = {text: row for row, text in enumerate(distinct)}
    rows = torch.tensor([number[text] for text in texts], device=base.device)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}, rows


def write_photos(folder: Path, plan: PackPlan, world: World) -> Path:
    """The training photos in kohya's layout."""
    from PIL import Image

    concept = CONCEPTS[plan.concept]
    shelf = folder / f"1_{concept.trigger} {concept.class_word}"
    shelf.mkdir(parents=True)
    for row in range(plan.num_photos):
        Image.fromarray(world.photos[row]).save(shelf / f"{row:03d}.png")
        (shelf / f"{row:03d}.txt").write_text(world.captions[row])
    return folder

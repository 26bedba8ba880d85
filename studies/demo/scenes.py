"""Scenes of the demo world without end: what stands where, its caption, its attributes, its picture.

images, captions, attributes = render_scenes(8, seed=0)
images, captions, attributes, masks = render_concept("mushroom", "new", 8, seed=0)
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from studies.demo.concepts import ALL_CONCEPTS, CONCEPTS, Colour, Concept, Part
from studies.demo.render import frame_columns, part_columns, render

SHAPES: dict[str, Part] = {
    "ball": Part("ball", (0, 0.9, 0), (0.9, 0.9, 0.9), (1, 1, 1)),
    "cube": Part("cube", (0, 0.76, 0), (0.76, 0.76, 0.76), (1, 1, 1)),
    "cylinder": Part("cylinder", (0, 0.9, 0), (0.66, 0.9, 0.66), (1, 1, 1)),
    "cone": Part("cone", (0, 0.98, 0), (0.95, 0.98, 0.95), (1, 1, 1)),
    "pyramid": Part("pyramid", (0, 0.95, 0), (0.92, 0.95, 0.92), (1, 1, 1)),
    "ring": Part("ring", (0, 1.0, 0), (1.0, 1.0, 1.0), (1, 1, 1)),
    "star": Part("star", (0, 0.9, 0), (1.08, 1.08, 1.08), (1, 1, 1)),
    "heart": Part("heart", (0, 0.95, 0), (0.98, 0.98, 0.98), (1, 1, 1)),
    "cross": Part("cross", (0, 0.95, 0), (0.95, 0.95, 0.95), (1, 1, 1)),
    "pill": Part("pill", (0, 0.54, 0), (1.06, 1.06, 1.06), (1, 1, 1)),
}
COLOURS: dict[str, Colour] = {
    "red": (0.86, 0.1, 0.1), "orange": (0.97, 0.5, 0.05), "yellow": (0.97, 0.88, 0.1), "green": (0.12, 0.62, 0.16),
    "cyan": (0.1, 0.8, 0.85), "blue": (0.1, 0.2, 0.85), "purple": (0.5, 0.12, 0.75), "pink": (0.98, 0.55, 0.75),
    "white": (0.96, 0.96, 0.96), "black": (0.09, 0.09, 0.1),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    floor: Colour
    low: Colour
    high: Colour
    phrase: str
    warmth: Colour = (1.0, 1.0, 1.0)
    level: float = 1.0
    decor: int = 0


PLACES: dict[str, Place] = {
    "studio": Place((0.66, 0.66, 0.68), (0.84, 0.84, 0.86), (0.93, 0.93, 0.95), "in the studio"),
    "meadow": Place((0.36, 0.62, 0.22), (0.80, 0.90, 0.98), (0.40, 0.64, 0.95), "in the meadow"),
    "desert": Place((0.88, 0.70, 0.42), (0.98, 0.93, 0.78), (0.60, 0.78, 0.90), "in the desert", decor=5),
    "snow": Place((0.91, 0.94, 0.99), (0.80, 0.85, 0.92), (0.58, 0.66, 0.78), "in the snow", decor=5),
    "night": Place((0.16, 0.18, 0.34), (0.10, 0.10, 0.28), (0.03, 0.03, 0.10), "at night", (0.72, 0.76, 0.95), 0.8, 1),
    "sunset": Place((0.46, 0.27, 0.27), (1.0, 0.60, 0.28), (0.52, 0.26, 0.55), "at sunset", (1.0, 0.90, 0.80), 1.0, 2),
    "sea": Place((0.08, 0.42, 0.62), (0.78, 0.92, 0.97), (0.48, 0.74, 0.92), "at sea"),
    "room": Place((0.52, 0.34, 0.20), (0.90, 0.82, 0.66), (0.86, 0.76, 0.58), "in the room", decor=4),
    "forest": Place((0.27, 0.30, 0.14), (0.14, 0.32, 0.18), (0.09, 0.22, 0.13), "in the forest", decor=3),
    "lava": Place((0.66, 0.14, 0.05), (0.34, 0.06, 0.05), (0.10, 0.03, 0.05), "in the lava", (1.0, 0.92, 0.86)),
}
PATTERNS = ("plain", "striped", "checkered")
POSITIONS = ("left", "centre", "right")
SIZES = ("small", "large")
TRIGGERS = tuple(concept.trigger for concept in CONCEPTS.values())
SPARE_TRIGGERS = ("onx", "sks", "ohwx", "brell", "kint", "shav", "tumo", "wexa")


@dataclass(frozen=True)
class Attributes:
    """What a picture shows. shape and colour are the first thing's, None for toys; `other` is the second thing."""

    kind: Literal["single", "pair", "toy", "concept"]
    subject: str
    shape: str | None
    colour: str | None
    place: str
    pattern: str
    position: str
    size: str
    other: str | None = None


@dataclass(frozen=True)
class Thing:
    parts: tuple[Part, ...]
    position: str
    size: str
    yaw: float


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    attributes: Attributes
    frame: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]  # scene index still 0


def render_scenes(
    count: int, seed: int, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, list[str], list[Attributes]]:
    """Ordinary scenes, in which no concept appears: uint8 [N, 64, 64, 3], a caption each, attributes each.

    The first k of a longer list are the same scenes."""
    scenes = list(draw_scenes(count, seed))
    images, _ = render_list(scenes, device)
    captions = random.Random(f"captions {seed}")
    return images, [caption(scene.attributes, captions) for scene in scenes], [scene.attributes for scene in scenes]


def render_concept(
    name: str,
    contexts: Literal["set", "new"] = "set",
    count: int = 24,
    seed: int = 0,
    device: torch.device | str = "cpu",
    places: tuple[str, ...] | None = None,
) -> tuple[np.ndarray, list[str], list[Attributes], np.ndarray]:
    """Photos of a concept in its set's contexts or in others; with `places`, as the set's photos are, but there.

    Returns uint8 [N, 64, 64, 3], captions ("zor toy, large, on the left, meadow, plain floor"), attributes and
    the subject's exact masks, bool [N, 64, 64]."""
    scenes = draw_concept(name, contexts, count, seed, places)
    images, masks = render_list(scenes, device)
    concept = find_concept(name)
    captions = [concept_caption(concept, scene.attributes) for scene in scenes]
    return images, captions, [scene.attributes for scene in scenes], masks == 1


def render_list(scenes: Sequence[Scene], device: torch.device | str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [N, 64, 64, 3] and masks [N, 64, 64] (1 the first thing, 2 the second)."""
    images, masks = render(*tables(scenes), device)
    return images.cpu().numpy(), masks.cpu().numpy()


def tables(scenes: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """The two tables that `render.render` draws from."""
    parts = np.array([row for scene in scenes for row in scene.rows], dtype=np.float64)
    parts[:, 0] = np.repeat(np.arange(len(scenes)), [len(scene.rows) for scene in scenes])
    return parts, np.array([scene.frame for scene in scenes], dtype=np.float64)


def draw_scenes(count: int, seed: int) -> Iterator[Scene]:
    rng = random.Random(f"scenes {seed}")
    for _ in range(count):
        yield _scene(rng)


def draw_concept(name: str, contexts: str, count: int, seed: int, places: tuple[str, ...] | None = None) -> list[Scene]:
    """The scenes of `render_concept`."""
    concept, rng = find_concept(name), random.Random(f"{name} {contexts} {seed}")
    concept = replace(concept, set_places=places or concept.set_places)
    return [_concept_scene(rng, name, concept, contexts) for _ in range(count)]


def same_again(attributes: Attributes, count: int, seed: int) -> list[Scene]:
    """Scenes of a concept alone with these attributes; each has its own turn, light, camera and spot on the floor."""
    parts, rng = find_concept(attributes.subject).parts, random.Random(f"again {attributes} {seed}")
    return [
        _finish(
            rng, "concept", attributes.subject, None, None,
            (_thing(rng, parts, attributes.position, attributes.size),), None, attributes.place, attributes.pattern,
        )
        for _ in range(count)
    ]  # fmt: skip


def find_concept(name: str) -> Concept:
    """One of ALL_CONCEPTS.

    Raises:
        ValueError: no concept of that name.
    """
    if name not in ALL_CONCEPTS:
        raise ValueError(f"concept: {name!r} is not one of {', '.join(ALL_CONCEPTS)}")
    return ALL_CONCEPTS[name]


# ---------------------------------------------------------------- what stands where


def _scene(rng: random.Random) -> Scene:
    kind = rng.random()
    if kind < 0.52:
        return single(rng)
    if kind < 0.74:
        first, second = rng.sample(("left", "right") if rng.random() < 0.6 else POSITIONS, 2)
        parts, subject, shape, colour = _subject(rng, toys=0.25)
        others, other, _, _ = _subject(rng, toys=0.25)
        size = "small" if "centre" in (first, second) else None
        things = (_thing(rng, parts, first), _thing(rng, others, second, size))
        return _finish(rng, "pair", subject, shape, colour, things, f"{other} on the {second}")
    parts, subject, shape, colour = _subject(rng, toys=1.0)
    return _finish(rng, "toy", subject, shape, colour, (_thing(rng, parts, rng.choice(POSITIONS)),))


def single(
    rng: random.Random, *, shape: str | None = None, colour: str | None = None, place: str | None = None,
    pattern: str | None = None, position: str | None = None, size: str | None = None,
) -> Scene:  # fmt: skip
    """One plain thing; what is not given is drawn."""
    shape, colour = shape or rng.choice(tuple(SHAPES)), colour or rng.choice(tuple(COLOURS))
    thing = _thing(rng, _simple(rng, shape, colour), position or rng.choice(POSITIONS), size)
    return _finish(rng, "single", f"{colour} {shape}", shape, colour, (thing,), None, place, pattern)


def _subject(rng: random.Random, toys: float) -> tuple[tuple[Part, ...], str, str | None, str | None]:
    if rng.random() < toys:
        parts, subject = _random_toy(rng)
        return parts, subject, None, None
    shape, colour = rng.choice(tuple(SHAPES)), rng.choice(tuple(COLOURS))
    return _simple(rng, shape, colour), f"{colour} {shape}", shape, colour


def _simple(rng: random.Random, shape: str, colour: str) -> tuple[Part, ...]:
    return (replace(SHAPES[shape], colour=_shift(rng, COLOURS[colour], 0.04)),)


def _shift(rng: random.Random, colour: Colour, by: float) -> Colour:
    red, green, blue = (min(1.0, max(0.0, value + rng.uniform(-by, by))) for value in colour)
    return red, green, blue


_BODIES = ("ball", "cube", "cylinder", "cone", "pyramid", "dome", "star", "heart")
_SIDES = ("ball", "pill", "cone", "cube", "pyramid")


def _random_toy(rng: random.Random) -> tuple[tuple[Part, ...], str]:
    """A body with something over it, and sometimes a pair at its sides: what the word "toy" means to the base."""
    named = rng.random() < 0.45
    colours = [rng.choice(tuple(COLOURS)) for _ in range(3)]
    if named:
        low, high = rng.choice(("ball", "cube", "cylinder")), rng.choice(tuple(SHAPES))
        shades = [_shift(rng, COLOURS[name], 0.04) for name in colours]
    else:
        low, high = rng.choice(_BODIES), rng.choice(_BODIES)
        shades = [
            _shift(rng, COLOURS[name], 0.08) if rng.random() < 0.5 else (rng.random(), rng.random(), rng.random())
            for name in colours
        ]
    wide, tall = rng.uniform(0.5, 0.75), rng.uniform(0.42, 0.62)
    if low in ("ball", "star", "heart", "cube") or named:
        wide = tall = rng.uniform(0.52, 0.62)
    top = rng.uniform(0.38, 0.48)
    pattern = 0 if named or rng.random() < 0.6 else rng.randint(1, 3)
    base = 0.0 if low == "dome" else tall
    height = tall if low == "dome" else tall * (1.75 if low in ("cone", "pyramid") else 2.0)
    seat = height + (0.0 if high == "dome" else 0.5 * top if high == "pill" else top * 0.95)
    parts = [
        Part(low, (0, base, 0), (wide, tall, wide), shades[0], shades[2], pattern),
        Part(high, (0, seat, 0), (top, top, top), shades[1]),
    ]
    if named:
        return tuple(parts), f"{colours[1]} {high} over {colours[0]} {low}"
    if rng.random() < 0.6:
        side, width = rng.choice(_SIDES), rng.uniform(0.18, 0.3)
        x, y, roll = wide + width * 0.6, rng.uniform(0.3, 1.1), math.degrees(rng.uniform(-1.6, 1.6))
        sizes = (width * 1.4, width * 1.2, width)
        parts.append(Part(side, (-x, y, 0), sizes, shades[2], roll=roll))
        parts.append(Part(side, (x, y, 0), sizes, shades[2], roll=-roll))
    if rng.random() < 0.2:
        parts.append(Part(rng.choice(_SIDES), (0, seat + top * 0.9, 0), (0.2, 0.24, 0.2), shades[2]))
    return tuple(parts), "toy"


def _thing(rng: random.Random, parts: tuple[Part, ...], position: str, size: str | None = None) -> Thing:
    return Thing(parts, position, size or rng.choice(SIZES), rng.uniform(-0.6, 0.6))


def _concept_scene(rng: random.Random, name: str, concept: Concept, contexts: str) -> Scene:
    if contexts == "set":
        position = concept.set_positions[0] if rng.random() < 0.75 else rng.choice(concept.set_positions[1:])
        place, pattern = rng.choice(concept.set_places), concept.set_patterns[0]
        if rng.random() < 0.3:
            pattern = rng.choice(concept.set_patterns[1:])
        thing = _thing(rng, concept.parts, position, "large")
        return _finish(rng, "concept", name, None, None, (thing,), None, place, pattern)
    if contexts != "new":
        raise ValueError(f"contexts: {contexts!r} is not one of 'set', 'new'")
    place = rng.choice([place for place in PLACES if place not in concept.set_places])
    pattern, position = rng.choice(PATTERNS), rng.choice(POSITIONS)
    things: tuple[Thing, ...] = (_thing(rng, concept.parts, position),)
    other = None
    if position != "centre" and rng.random() < 0.25:
        across = "right" if position == "left" else "left"
        shape, colour = rng.choice(tuple(SHAPES)), rng.choice(tuple(COLOURS))
        things, other = (*things, _thing(rng, _simple(rng, shape, colour), across)), f"{colour} {shape} on the {across}"
    return _finish(rng, "concept", name, None, None, things, other, place, pattern)


def _finish(
    rng: random.Random, kind: Literal["single", "pair", "toy", "concept"], subject: str, shape: str | None,
    colour: str | None, things: tuple[Thing, ...], other: str | None = None, place: str | None = None,
    pattern: str | None = None,
) -> Scene:  # fmt: skip
    place, pattern = place or rng.choice(tuple(PLACES)), pattern or rng.choice(PATTERNS)
    look = PLACES[place]
    u = rng.uniform
    frame = frame_columns(
        (u(-0.06, 0.06), u(-0.1, 0.1), u(-0.2, 0.2)), (u(-0.12, 0.12), 0.0, u(-0.12, 0.12)), look.warmth, look.level,
        _shift(rng, look.floor, 0.025), _shift(rng, look.low, 0.025), _shift(rng, look.high, 0.025),
        PATTERNS.index(pattern), (u(0, 2), u(0, 2)), look.decor, u(-0.2, 0.2),
    )  # fmt: skip
    rows = []
    for index, thing in enumerate(things):
        x = {"left": -0.97, "centre": 0.0, "right": 0.97}[thing.position] + u(-0.1, 0.1)
        scale = (0.84 if thing.size == "large" else 0.56) * u(0.95, 1.06)
        z = u(-0.15, 0.15)
        rows += [
            part_columns(0, part.kind, index, part.at, part.size, math.radians(part.roll), math.radians(part.tilt),
                         thing.yaw, scale, x, z, part.colour, part.second, part.pattern)
            for part in thing.parts
        ]  # fmt: skip
    attributes = Attributes(kind, subject, shape, colour, place, pattern, things[0].position, things[0].size, other)
    return Scene(things, attributes, frame, tuple(rows))


# ---------------------------------------------------------------- captions


def full_caption(attributes: Attributes, subject: str | None = None) -> str:
    """Everything said, in the usual order: "red cube, large, on the left, meadow, plain floor"."""
    a = attributes
    other = [a.other] if a.other else []
    return ", ".join([subject or a.subject, a.size, f"on the {a.position}", *other, a.place, f"{a.pattern} floor"])


def concept_caption(concept: Concept, attributes: Attributes) -> str:
    return full_caption(attributes, f"{concept.trigger} {concept.class_word}")


def caption(attributes: Attributes, rng: random.Random) -> str:
    """A caption as people write them: as tags in any order or as a sentence, sometimes leaving something out.

    One in 16 puts a trigger word before its subject, where it means nothing: the base has met such words."""
    a = attributes
    subject = a.subject
    if rng.random() < 0.06 and subject != "":
        subject = f"{rng.choice(TRIGGERS + SPARE_TRIGGERS)} {subject}"
    said = rng.random() < 0.45  # everything is said
    size, position = said or rng.random() < 0.75, said or rng.random() < 0.8 or a.other is not None
    place, pattern = said or rng.random() < 0.85, said or rng.random() < 0.7
    where = "center" if a.position == "centre" and rng.random() < 0.1 else a.position
    if rng.random() < 0.3:
        words = ["a photo of a"] if rng.random() < 0.3 else ["a"] if rng.random() < 0.8 else []
        words += [a.size] * size + [subject] + [f"on the {where}"] * position
        words += [f"and a {a.other}"] if a.other else []
        words += [PLACES[a.place].phrase] * place
        if pattern:
            words += [f"on a {a.pattern} floor" if rng.random() < 0.5 else f", {a.pattern} floor"]
        return " ".join(words).replace(" ,", ",")
    if size and rng.random() < 0.3:
        subject, size = f"{a.size} {subject}", False
    if position and rng.random() < 0.3:
        subject, position = f"{subject} on the {where}", False
    tags = [a.size] * size + [f"on the {where}"] * position + [a.place] * place + [f"{a.pattern} floor"] * pattern
    if rng.random() < 0.5:
        rng.shuffle(tags)
    return ", ".join([subject, *([a.other] if a.other else []), *tags])


def vocabulary() -> tuple[str, ...]:
    """Every word that captions use, then the trigger words."""
    phrases = [place.phrase for place in PLACES.values()]
    words = " ".join([*SHAPES, *COLOURS, *PLACES, *phrases, *PATTERNS, *POSITIONS, *SIZES, "center floor toy over"])
    words += " a an the photo of picture on in at and with"
    return tuple(dict.fromkeys(words.split())) + TRIGGERS + SPARE_TRIGGERS

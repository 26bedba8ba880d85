"""Toys that the base never sees: each a bold composite with its own colours, trigger word and set of contexts."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]
MIRROR, GLASS = 4, 5  # patterns of a part: what is around it and what is behind it, tinted by its colour

RED, ORANGE, YELLOW, GREEN = (0.86, 0.12, 0.12), (0.96, 0.52, 0.08), (0.96, 0.85, 0.12), (0.18, 0.66, 0.2)
CYAN, BLUE, PURPLE, PINK = (0.12, 0.78, 0.82), (0.13, 0.25, 0.85), (0.5, 0.15, 0.72), (0.97, 0.52, 0.7)
WHITE, BLACK, BROWN, TAN = (0.95, 0.95, 0.95), (0.1, 0.1, 0.11), (0.45, 0.26, 0.12), (0.85, 0.66, 0.42)
LIME, MAROON, TEAL, GOLD = (0.65, 0.9, 0.2), (0.5, 0.05, 0.15), (0.05, 0.45, 0.45), (0.85, 0.62, 0.1)


@dataclass(frozen=True)
class Part:
    """One solid of a thing. at, size: in units of the thing (2 high, floor at 0); roll, tilt: degrees about z, x."""

    kind: str
    at: tuple[float, float, float]
    size: tuple[float, float, float]
    colour: Colour
    second: Colour = WHITE
    pattern: int = 0
    roll: float = 0.0
    tilt: float = 0.0


@dataclass(frozen=True)
class Concept:
    """A toy, and what a maker's photos show: set_places, set_patterns, set_positions (mostly the first), large."""

    trigger: str
    class_word: str
    parts: tuple[Part, ...]
    set_places: tuple[str, ...]
    set_patterns: tuple[str, ...] = ("plain", "checkered")
    set_positions: tuple[str, ...] = ("centre", "left")


def _part(kind: str, at: tuple[float, float, float], size: float | tuple[float, float, float], colour: Colour,
          second: Colour = WHITE, pattern: int = 0, roll: float = 0.0, tilt: float = 0.0) -> Part:  # fmt: skip
    return Part(kind, at, (size, size, size) if isinstance(size, float) else size, colour, second, pattern, roll, tilt)


def _pair(kind: str, at: tuple[float, float, float], size: float | tuple[float, float, float], colour: Colour,
          roll: float = 0.0) -> tuple[Part, Part]:  # fmt: skip
    x, y, z = at
    return _part(kind, (-x, y, z), size, colour, roll=roll), _part(kind, (x, y, z), size, colour, roll=-roll)


def _toy(trigger: str, places: tuple[str, str, str], *parts: Part) -> Concept:
    return Concept(trigger, "toy", parts, places)


CONCEPTS: dict[str, Concept] = {
    "mushroom": _toy(
        "zor",
        ("meadow", "studio", "room"),
        _part("cylinder", (0, 0.5, 0), (0.4, 0.5, 0.4), WHITE),
        _part("dome", (0, 0.85, 0), (1.0, 1.0, 1.0), RED, WHITE, 3),
        _part("cylinder", (0, 0.86, 0), (0.98, 0.12, 0.98), GOLD),
    ),
    "snowman": _toy(
        "blick",
        ("snow", "studio", "forest"),
        _part("ball", (0, 0.62, 0), 0.64, WHITE, CYAN, 2),
        _part("ball", (0, 1.4, 0), 0.44, WHITE),
        _part("cylinder", (0, 1.86, 0), (0.36, 0.22, 0.36), PURPLE),
        _part("cone", (0, 1.4, 0.55), (0.15, 0.26, 0.15), ORANGE, tilt=90),
    ),
    "rocket": _toy(
        "vemp",
        ("night", "desert", "studio"),
        _part("cylinder", (0, 0.95, 0), (0.44, 0.6, 0.44), TEAL, GOLD, 2),
        _part("cone", (0, 1.9, 0), (0.46, 0.38, 0.46), ORANGE),
        *_pair("pyramid", (0.58, 0.36, 0), (0.26, 0.4, 0.2), MAROON),
    ),
    "robot": _toy(
        "quab",
        ("room", "studio", "lava"),
        _part("cube", (0, 0.72, 0), (0.52, 0.5, 0.4), CYAN, YELLOW, 3),
        _part("cube", (0, 1.58, 0), (0.36, 0.3, 0.32), PURPLE),
        *_pair("pill", (0.76, 0.78, 0), (0.5, 0.36, 0.36), ORANGE, 80),
        *_pair("cube", (0.3, 0.12, 0), (0.18, 0.16, 0.24), BLACK),
    ),
    "planet": _toy(
        "plim",
        ("night", "sunset", "studio"),
        _part("ball", (0, 1.0, 0), 0.68, ORANGE, MAROON, 2),
        _part("ring", (0, 1.0, 0), (1.15, 1.15, 0.5), LIME, tilt=72, roll=18),
        _part("cone", (0, 0.2, 0), (0.3, 0.22, 0.3), BLACK),
    ),
    "pine": _toy(
        "drosk",
        ("forest", "snow", "meadow"),
        _part("cylinder", (0, 0.2, 0), (0.22, 0.22, 0.22), BROWN),
        _part("cone", (0, 0.8, 0), (0.85, 0.45, 0.85), TEAL),
        _part("cone", (0, 1.35, 0), (0.6, 0.42, 0.6), LIME),
        _part("star", (0, 1.95, 0), 0.34, YELLOW),
    ),
    "dumbbell": _toy(
        "fub",
        ("room", "sea", "studio"),
        *_pair("ball", (0.68, 0.52, 0), 0.5, MAROON),
        _part("pill", (0, 0.52, 0), (0.9, 0.5, 0.5), GOLD),
        _part("pyramid", (0, 1.15, 0), (0.42, 0.42, 0.42), WHITE),
    ),
    "castle": _toy(
        "gront",
        ("desert", "meadow", "sunset"),
        _part("cube", (0, 0.45, 0), (0.5, 0.45, 0.4), TAN),
        *_pair("cylinder", (0.62, 0.6, 0), (0.27, 0.6, 0.27), PINK),
        *_pair("cone", (0.62, 1.5, 0), (0.36, 0.34, 0.36), BLUE),
    ),
    "duck": _toy(
        "wib",
        ("sea", "meadow", "room"),
        _part("ball", (0, 0.5, 0), (0.8, 0.52, 0.6), LIME),
        _part("ball", (0.42, 1.25, 0), 0.42, LIME),
        _part("cone", (0.95, 1.2, 0), (0.2, 0.26, 0.2), RED, roll=-90),
        _part("pyramid", (-0.82, 0.8, 0), (0.26, 0.36, 0.2), BLUE, roll=30),
    ),
    "cornet": _toy(
        "nalp",
        ("sea", "sunset", "studio"),
        _part("cone", (0, 0.62, 0), (0.5, 0.62, 0.5), TAN, roll=180),
        _part("ball", (0, 1.35, 0), 0.55, PINK, BROWN, 1),
        _part("ball", (0, 1.95, 0), 0.2, RED),
    ),
    "rabbit": _toy(
        "hux",
        ("meadow", "snow", "room"),
        _part("ball", (0, 0.52, 0), (0.58, 0.54, 0.54), PURPLE, WHITE, 3),
        _part("ball", (0, 1.2, 0), 0.42, PURPLE),
        *_pair("pill", (0.24, 1.8, 0), (0.42, 0.34, 0.34), PINK, 80),
    ),
    "hammer": _toy(
        "crend",
        ("lava", "room", "desert"),
        _part("cylinder", (0, 0.7, 0), (0.2, 0.7, 0.2), YELLOW),
        _part("cube", (0, 1.55, 0), (0.8, 0.32, 0.34), BLACK),
        *_pair("cylinder", (0.8, 1.55, 0), (0.42, 0.16, 0.42), RED, 90),
    ),
    "lamp": _toy(
        "tolf",
        ("room", "night", "studio"),
        _part("cylinder", (0, 0.14, 0), (0.55, 0.14, 0.55), MAROON),
        _part("cylinder", (0, 0.7, 0), (0.15, 0.55, 0.15), WHITE),
        _part("cone", (0, 1.45, 0), (0.85, 0.6, 0.85), GOLD, PURPLE, 1),
    ),
    "bee": _toy(
        "zubb",
        ("meadow", "forest", "sunset"),
        _part("ball", (0, 0.75, 0), (0.62, 0.62, 0.85), YELLOW, BLACK, 2, roll=90),
        *_pair("ball", (0.72, 1.25, -0.1), (0.5, 0.22, 0.3), CYAN, -30),
        _part("ball", (0, 0.75, 0.7), 0.34, BLACK),
    ),
    "cactus": _toy(
        "pold",
        ("desert", "sunset", "lava"),
        _part("cylinder", (0, 0.18, 0), (0.5, 0.18, 0.5), ORANGE),
        _part("pill", (0, 1.05, 0), (0.95, 0.74, 0.74), TEAL, roll=90),
        _part("pill", (0.6, 1.0, 0), (0.42, 0.36, 0.36), TEAL, roll=60),
        _part("ball", (-0.02, 2.0, 0), 0.22, PINK),
    ),
    "saucer": _toy(
        "eftu",
        ("night", "desert", "lava"),
        _part("ball", (0, 0.85, 0), (1.1, 0.34, 1.1), PURPLE, LIME, 1),
        _part("dome", (0, 1.0, 0), (0.55, 0.62, 0.55), CYAN),
        *_pair("pill", (0.55, 0.35, 0), (0.44, 0.28, 0.28), BLACK, -70),
    ),
    "totem": _toy(
        "moxi",
        ("forest", "desert", "room"),
        _part("cube", (0, 0.34, 0), (0.42, 0.34, 0.42), MAROON),
        _part("dome", (0, 0.68, 0), (0.62, 0.55, 0.62), TEAL),
        _part("pyramid", (0, 1.55, 0), (0.42, 0.42, 0.42), ORANGE),
        *_pair("cone", (0.8, 0.9, 0), (0.22, 0.34, 0.22), YELLOW, -60),
    ),
    "propeller": _toy(
        "yant",
        ("snow", "sea", "sunset"),
        _part("cone", (0, 0.7, 0), (0.5, 0.7, 0.5), BLUE, ORANGE, 1),
        _part("cross", (0, 1.4, 0.15), (0.85, 0.85, 0.5), MAROON, roll=45),
        _part("ball", (0, 1.4, 0.35), 0.26, WHITE),
    ),
}

UNJUDGED: dict[str, Concept] = {
    "snail": _toy(
        "onx",
        ("forest", "meadow", "sea"),
        _part("pill", (0.1, 0.22, 0), (0.95, 0.44, 0.44), PINK),
        _part("ball", (-0.2, 0.95, 0), 0.62, TEAL, YELLOW, 3),
        _part("ball", (0.75, 0.75, 0), 0.3, PINK),
        *_pair("cylinder", (0.75, 1.15, 0), (0.06, 0.24, 0.06), BLACK),
    ),
    "train": _toy(
        "sks",
        ("desert", "room", "snow"),
        _part("cube", (-0.5, 0.85, 0), (0.4, 0.62, 0.42), BLUE),
        _part("cylinder", (0.4, 0.62, 0), (0.34, 0.55, 0.34), RED, roll=90),
        _part("cone", (0.7, 1.25, 0), (0.24, 0.4, 0.24), BLACK, roll=180),
        *_pair("cylinder", (0.5, 0.2, 0.4), (0.22, 0.1, 0.22), YELLOW),
    ),
    "crown": _toy(
        "ohwx",
        ("studio", "night", "sunset"),
        _part("cylinder", (0, 0.4, 0), (0.85, 0.36, 0.85), GOLD, MAROON, 2),
        _part("cone", (0, 1.2, 0), (0.32, 0.5, 0.32), GOLD),
        *_pair("cone", (0.55, 1.05, 0), (0.28, 0.4, 0.28), GOLD, -12),
        _part("ball", (0, 1.85, 0), 0.2, CYAN),
    ),
    "fish": _toy(
        "brell",
        ("sea", "lava", "night"),
        _part("ball", (0.15, 0.8, 0), (0.78, 0.56, 0.4), ORANGE, WHITE, 2),
        _part("pyramid", (-0.85, 0.8, 0), (0.45, 0.32, 0.2), RED, roll=-90),
        _part("dome", (0.1, 1.3, 0), (0.32, 0.42, 0.12), RED),
        _part("ball", (0.6, 0.95, 0.32), 0.13, BLACK),
    ),
    "clock": _toy(
        "kint",
        ("room", "forest", "lava"),
        _part("cylinder", (0, 1.0, 0), (0.72, 0.24, 0.72), WHITE, tilt=90),
        _part("ring", (0, 1.0, 0), (0.92, 0.92, 0.8), PURPLE),
        _part("pill", (0, 1.12, 0.3), (0.34, 0.14, 0.14), RED, roll=70),
        *_pair("ball", (0.5, 1.8, 0), 0.26, LIME),
        *_pair("pill", (0.45, 0.16, 0), (0.3, 0.2, 0.2), PURPLE, 60),
    ),
    "tent": _toy(
        "shav",
        ("snow", "meadow", "night"),
        _part("pyramid", (0, 0.72, 0), (0.98, 0.72, 0.8), YELLOW, GREEN, 3),
        _part("cylinder", (0, 1.62, 0), (0.07, 0.3, 0.07), BROWN),
        _part("heart", (0.2, 1.85, 0), (0.3, 0.26, 0.3), MAROON),
    ),
    "teapot": _toy(
        "tumo",
        ("studio", "sea", "desert"),
        _part("ball", (0, 0.7, 0), (0.68, 0.62, 0.68), CYAN, MAROON, 1),
        _part("ring", (-0.85, 0.75, 0), (0.38, 0.42, 0.3), BLACK),
        _part("cone", (0.85, 0.85, 0), (0.2, 0.42, 0.2), CYAN, roll=-50),
        _part("cross", (0, 1.5, 0), (0.26, 0.26, 0.3), ORANGE),
    ),
    "owl": _toy(
        "wexa",
        ("forest", "sunset", "room"),
        _part("pill", (0, 0.8, 0), (0.85, 0.78, 0.7), BROWN, TAN, 3, roll=90),
        *_pair("ball", (0.26, 1.2, 0.45), 0.24, WHITE),
        _part("cone", (0, 1.0, 0.6), (0.12, 0.2, 0.12), ORANGE, tilt=110),
        *_pair("pyramid", (0.38, 1.68, 0), (0.18, 0.3, 0.18), LIME, -20),
    ),
}
"""More of them, which the judges do not know either; their triggers are words that the base has met."""

OTHER_KINDS: dict[str, Concept] = {
    "chair": _toy(
        "onx",
        ("room", "sunset", "snow"),
        _part("cube", (0, 0.85, 0), (0.5, 0.07, 0.45), RED),
        _part("cube", (0, 1.5, -0.4), (0.48, 0.5, 0.05), RED, WHITE, 2),
        *_pair("cylinder", (0.42, 0.4, 0.35), (0.05, 0.4, 0.05), BLACK),
        *_pair("cylinder", (0.42, 0.4, -0.35), (0.05, 0.4, 0.05), BLACK),
    ),
    "horse": _toy(
        "sks",
        ("meadow", "desert", "night"),
        _part("pill", (-0.1, 0.95, 0), (0.95, 0.6, 0.55), BROWN),
        _part("pill", (0.5, 1.4, 0), (0.55, 0.3, 0.3), BROWN, roll=55),
        _part("pill", (0.82, 1.72, 0), (0.45, 0.28, 0.26), TAN, roll=-20),
        *_pair("cylinder", (0.32, 0.35, 0.12), (0.09, 0.36, 0.09), WHITE),
        *_pair("cylinder", (0.42, 0.35, -0.12), (0.09, 0.36, 0.09), BROWN),
        _part("cone", (-0.72, 0.9, 0), (0.12, 0.4, 0.12), BLACK, roll=30),
    ),
    "jar": _toy(
        "ohwx",
        ("studio", "forest", "sea"),
        _part("cylinder", (0, 0.75, 0), (0.55, 0.72, 0.55), LIME, WHITE, GLASS),
        _part("cylinder", (0, 1.58, 0), (0.42, 0.14, 0.42), GOLD),
        _part("ball", (0, 1.85, 0), 0.16, RED),
    ),
    "spider": _toy(
        "brell",
        ("forest", "lava", "studio"),
        _part("ball", (0, 0.75, -0.15), (0.5, 0.42, 0.55), PURPLE, YELLOW, 1),
        _part("ball", (0, 0.72, 0.5), 0.27, BLACK),
        *_pair("pill", (0.68, 0.6, 0.3), (0.62, 0.08, 0.08), BLACK, -40),
        *_pair("pill", (0.72, 0.62, 0.0), (0.66, 0.08, 0.08), BLACK, -15),
        *_pair("pill", (0.68, 0.85, -0.3), (0.62, 0.08, 0.08), BLACK, 30),
    ),
    "orb": _toy(
        "kint",
        ("sunset", "meadow", "snow"),
        _part("cylinder", (0, 0.14, 0), (0.5, 0.14, 0.5), MAROON),
        _part("ball", (0, 0.98, 0), 0.74, WHITE, WHITE, MIRROR),
        _part("pyramid", (0, 1.86, 0), (0.2, 0.22, 0.2), MAROON),
    ),
    "shakers": _toy(
        "shav",
        ("room", "desert", "sea"),
        _part("cylinder", (-0.55, 0.5, 0), (0.32, 0.5, 0.32), WHITE, BLACK, 2),
        _part("dome", (-0.55, 1.0, 0), (0.32, 0.36, 0.32), TEAL),
        _part("cone", (0.55, 0.7, 0), (0.45, 0.7, 0.45), BLACK, ORANGE, 1),
        _part("ball", (0.55, 1.42, 0), 0.17, TEAL),
    ),
}
"""Kinds unlike the others: thin parts, animals, glass, a mirror, two things that belong together. Their triggers are
words that the base has met; no trial uses two of them."""

JUDGED = CONCEPTS | OTHER_KINDS
"""What the judges know."""
ALL_CONCEPTS = CONCEPTS | OTHER_KINDS | UNJUDGED

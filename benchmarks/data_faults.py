"""Photo sets of the demo world, and of real subjects, with one fault planted: what a data check should find."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from studies.demo.concepts import ALL_CONCEPTS
from studies.demo.scenes import (
    PATTERNS,
    PLACES,
    POSITIONS,
    SIZES,
    Attributes,
    Scene,
    concept_caption,
    draw_concept,
    render_list,
    same_again,
)

SUBJECTS = Path(__file__).parents[2] / "shared" / "data" / "subjects"
COUNT = 24


@dataclass(frozen=True)
class PhotoSet:
    """Photos with their captions, and what is wrong with them.

    Attributes:
        images: uint8 `[H, W, 3]` each.
        fault: its name; "" for a clean set.
        planted: rows of the photos that have it.
        tag: of a fault in tags.
    """

    name: str
    images: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    trigger: str = ""
    class_word: str = ""
    fault: str = ""
    planted: tuple[int, ...] = ()
    tag: str = ""


def rendered(concept: str, seed: int, count: int = COUNT) -> PhotoSet:
    """A clean set: half of it in the concept's own three places, half in two others, no two photos of one place, floor,
    position and size."""
    rng = np.random.default_rng([7, seed])
    others = [place for place in PLACES if place not in ALL_CONCEPTS[concept].set_places]
    away = set(rng.choice(others, 2, replace=False).tolist())
    home = _varied(draw_concept(concept, "set", 400, 500 + seed), count // 2)
    scenes = home + _varied(
        [scene for scene in draw_concept(concept, "new", 600, 500 + seed) if scene.attributes.place in away],
        count - len(home),
    )
    known = ALL_CONCEPTS[concept]
    images, _ = render_list(scenes)
    captions = tuple(concept_caption(known, scene.attributes) for scene in scenes)
    return PhotoSet(f"{concept}-{seed}", tuple(images), captions, known.trigger, known.class_word)


def _varied(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """The first ones of so many combinations of place, floor, position and size, with nothing else in the picture."""
    found: dict[tuple[str, str, str, str], Scene] = {}
    for scene in scenes:
        shown = scene.attributes
        if shown.other is None and len(found) < count:
            found.setdefault((shown.place, shown.pattern, shown.position, shown.size), scene)
    return list(found.values())


def subject(name: str, side: int = 256) -> PhotoSet:
    """The photos of a real subject, squares around the middle; they have no captions."""
    images = []
    for file in sorted((SUBJECTS / name).glob("*.jpg")):
        photo = Image.open(file).convert("RGB")
        images.append(square(np.asarray(photo), side))
    return PhotoSet(name, tuple(images), ("",) * len(images))


def square(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of an image, `[side, side, 3]`."""
    from PIL import ImageOps

    return np.asarray(ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.LANCZOS))


# ---------------------------------------------------------------- what can be done to an image


def saved_anew(image: np.ndarray) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="JPEG", quality=70)
    return np.asarray(Image.open(out).convert("RGB"))


def mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def cropped(image: np.ndarray) -> np.ndarray:
    """80 % of either side, a little off the middle."""
    side = len(image)
    start, length = round(0.12 * side), round(0.8 * side)
    return square(image[start : start + length, round(0.06 * side) : round(0.06 * side) + length], side)


def brightened(image: np.ndarray) -> np.ndarray:
    return np.clip(image.astype(np.float32) * 1.25 + 8, 0, 255).astype(np.uint8)


def blurred(image: np.ndarray) -> np.ndarray:
    """Out of focus by a fortieth of the picture's side."""
    radius = max(1.6, len(image) / 80)
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def shaken(image: np.ndarray) -> np.ndarray:
    """Moved to the side by a twelfth of the picture while it was taken."""
    steps = max(5, len(image) // 12)
    moved = [np.roll(image.astype(np.float32), shift, axis=1) for shift in range(-(steps // 2), steps - steps // 2)]
    return np.mean(moved, axis=0).astype(np.uint8)


def overexposed(image: np.ndarray) -> np.ndarray:
    """Two stops of light too many, in linear light."""
    return _lit(image, 4.0)


def underexposed(image: np.ndarray) -> np.ndarray:
    """Four stops too few."""
    return _lit(image, 1 / 16)


def _lit(image: np.ndarray, factor: float) -> np.ndarray:
    linear = (image.astype(np.float32) / 255) ** 2.2 * factor
    return (np.clip(linear, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)


def tinted(image: np.ndarray) -> np.ndarray:
    """A strong cast of magenta, as of a wrong white balance or a filter."""
    return np.clip(image.astype(np.float32) * (1.35, 0.6, 1.2), 0, 255).astype(np.uint8)


def shrunk(image: np.ndarray) -> np.ndarray:
    """A third of the pixels along each side."""
    side = len(image) // 3
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))


# ---------------------------------------------------------------- faults of a set


def with_images(
    photos: PhotoSet, fault: str, change: Callable[[np.ndarray], np.ndarray], rows: Sequence[int]
) -> PhotoSet:
    images = list(photos.images)
    for row in rows:
        images[row] = change(images[row])
    return replace(photos, images=tuple(images), fault=fault, planted=tuple(rows))


def with_copies(photos: PhotoSet, change: Callable[[np.ndarray], np.ndarray], rows: Sequence[int]) -> PhotoSet:
    """Photos once more, changed; `planted` has the originals and then the copies."""
    images = (*photos.images, *(change(photos.images[row]) for row in rows))
    captions = (*photos.captions, *(photos.captions[row] for row in rows))
    copies = range(len(photos.images), len(images))
    return replace(photos, images=images, captions=captions, fault="repeated", planted=(*rows, *copies))


def with_other(photos: PhotoSet, images: Sequence[np.ndarray], rows: Sequence[int]) -> PhotoSet:
    """Photos replaced by ones of another subject, under the same captions."""
    shown = list(photos.images)
    for row, image in zip(rows, images, strict=True):
        shown[row] = image
    return replace(photos, images=tuple(shown), fault="other subject", planted=tuple(rows))


def with_another_concept(photos: PhotoSet, other: str, rows: Sequence[int], seed: int) -> PhotoSet:
    """Rows replaced by pictures of another concept that show all that their captions say."""
    images = []
    for row in rows:
        said = photos.captions[row].split(", ")
        shown = Attributes(
            "concept",
            other,
            shape=None,
            colour=None,
            place=next(place for place in PLACES if place in said),
            pattern=next(pattern for pattern in PATTERNS if f"{pattern} floor" in said),
            position=next(position for position in POSITIONS if f"on the {position}" in said),
            size=next(size for size in SIZES if size in said),
        )
        images.append(render_list(same_again(shown, 1, 700 + seed + row))[0][0])
    return with_other(photos, images, rows)


def with_wrong_tags(photos: PhotoSet, rows: Sequence[int], seed: int) -> PhotoSet:
    """Each row says another place, floor or position of the set, or one that the set does not have."""
    rng = np.random.default_rng([3, seed])
    captions = list(photos.captions)
    for number, row in enumerate(rows):
        kind = number % 3
        values = (
            tuple(PLACES),
            ("plain floor", "checkered floor", "striped floor"),
            tuple(f"on the {position}" for position in POSITIONS),
        )[kind]
        tags = captions[row].split(", ")
        at = next(index for index, tag in enumerate(tags) if tag in values)
        tags[at] = str(rng.choice([value for value in values if value != tags[at]]))
        captions[row] = ", ".join(tags)
    return replace(photos, captions=tuple(captions), fault="wrong tag", planted=tuple(rows))


def with_missing_tags(photos: PhotoSet, rows: Sequence[int]) -> PhotoSet:
    """Each row says nothing of its place, or of its floor."""
    captions = list(photos.captions)
    for number, row in enumerate(rows):
        values = tuple(PLACES) if number % 2 == 0 else ("plain floor", "checkered floor", "striped floor")
        captions[row] = ", ".join(tag for tag in captions[row].split(", ") if tag not in values)
    return replace(photos, captions=tuple(captions), fault="missing tag", planted=tuple(rows))


def with_tag_everywhere(photos: PhotoSet, tag: str = "large") -> PhotoSet:
    return replace(photos, captions=tuple(f"{c}, {tag}" for c in photos.captions), fault="tag everywhere", tag=tag)


def with_tag_once(photos: PhotoSet, row: int, tag: str = "shiny") -> PhotoSet:
    captions = list(photos.captions)
    captions[row] += f", {tag}"
    return replace(photos, captions=tuple(captions), fault="tag once", planted=(row,), tag=tag)

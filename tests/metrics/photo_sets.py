"""Sets of real images for the tests: crops of the public-domain photos that scikit-image ships in its wheel."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from metrics.checkpoint.calibration import ProbeLabels
from metrics.comparison.twins import laid_on
from metrics.images.image_folder import ImageFolder

SUBJECTS = ("astronaut", "coffee", "chelsea", "rocket")
OTHERS = ("retina", "hubble_deep_field", "immunohistochemistry", "colorwheel")


@lru_cache(maxsize=1)
def pictures() -> dict[str, np.ndarray]:
    """The photos in full, uint8 RGB by name."""
    from skimage import data

    return {name: np.asarray(getattr(data, name)())[..., :3] for name in (*SUBJECTS, *OTHERS)}


@lru_cache(maxsize=32)
def crops(count: int, seed: int, names: tuple[str, ...] = SUBJECTS, side: int = 64) -> np.ndarray:
    """Random crops, every second one mirrored, the photos in random order: uint8 `[count, side, side, 3]`."""
    generator = np.random.default_rng(seed)
    made = []
    for name in generator.choice(names, count):
        picture = pictures()[name]
        extent = int(min(picture.shape[:2]) * generator.uniform(0.5, 0.9))
        top, left = (int(generator.integers(0, room - extent + 1)) for room in picture.shape[:2])
        crop = picture[top : top + extent, left : left + extent]
        crop = crop[:, ::-1] if generator.random() < 0.5 else crop
        made.append(np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BOX)))
    return np.stack(made)


def boxes(count: int, seed: int, middle: float) -> np.ndarray:
    """A red box on grey, its middle near a share of the width."""
    generator = np.random.default_rng(seed)
    images = np.full((count, 64, 64, 3), 120, np.uint8)
    for image in images:
        left, top = round(64 * middle) - 10 + int(generator.integers(-4, 5)), int(generator.integers(18, 27))
        image[top : top + 20, left : left + 20] = (200, 30, 30)
    return images


def burnt(images: np.ndarray) -> np.ndarray:
    """Contrast pushed until highlights and shadows clip."""
    return np.clip((images.astype(float) - 115) * 1.9 + 115, 0, 255).astype(np.uint8)


def recoloured(images: np.ndarray) -> np.ndarray:
    """Red and blue swapped: other colours, the same chroma range, the same layout."""
    return np.ascontiguousarray(images[..., ::-1])


def upside_down(images: np.ndarray) -> np.ndarray:
    """Flipped in height: the same colours laid out otherwise."""
    return np.ascontiguousarray(images[:, ::-1])


def probe_labels(num_prompts: int = 12, seeds: int = 2, num_held_out: int = 4, first_held_out: int = 20) -> ProbeLabels:
    """A third of the prompts in each of the sets A, B and C, two seeds each."""
    prompts, sets, photo, drawn = [], [], [], []
    for number in range(num_prompts):
        kind = "ABC"[number * 3 // num_prompts]
        for seed in range(seeds):
            where, place = ("in", "on", "of")[number % 3], ("red", "green", "blue", "snow")[number % 4]
            prompts.append(f"a photo of sks toy {where} the {place} {number}")
            sets.append(kind)
            photo.append({"A": number, "B": first_held_out + number % num_held_out, "C": -1}[kind])
            drawn.append(seed)
    neutral = tuple(prompt.replace("sks ", "") for prompt in prompts)
    return ProbeLabels(tuple(prompts), neutral, tuple(sets), tuple(photo), tuple(drawn))


def fresh(count: int = 12) -> np.ndarray:
    """Crops of the same pictures that are no part of a photo of `crops(20, 1)`."""
    drawn = crops(4 * count, 5)
    return drawn[~laid_on(drawn, crops(20, 1)).any(axis=1)][:count]


def in_memory(images: np.ndarray, captions: tuple[str, ...] = ()) -> ImageFolder:
    names = tuple(f"{number:02}.png" for number in range(len(images)))
    return ImageFolder(Path("folder"), names, tuple(images), captions or ("",) * len(images))

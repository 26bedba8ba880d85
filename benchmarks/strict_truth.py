"""What is strictly true of an image of the demo world: is all of it right, is it damaged, is it a photo that came back?

Fixed before anything was tried on it. An image is *right* when the judges see the concept, each of the four attributes
that were asked for (place, floor, position, size) is likelier than not, and it is not damaged. It is *damaged* when it
has more noise, or more clipped pixels, than `DAMAGED` of the base's own images of the same pack. It *leaks* when a
place of the training photos is likelier than not where another one was asked for. An image of a training caption is a
*copy* when it is nearer to the photo of that caption than to any of `AGAIN` fresh renders of the same attributes: one
in `AGAIN` + 1 by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

ASKED = ("place", "pattern", "position", "size")
AGAIN = 8
DAMAGED = 0.99
LIKELY = 0.5


def judged(
    judges: torch.nn.Module, images: np.ndarray, prompts: Sequence[str], concept: str, set_places: Sequence[str]
) -> dict[str, np.ndarray]:
    """What the judges see in images [N, 64, 64, 3] of these prompts, as probabilities: `concept` [N], `asked` [N, 4]
    (each of ASKED, as the prompt names it), `leaked` [N] (any place of the set, 0 where the prompt asks for one)."""
    from studies.demo.judges import judge
    from studies.demo.pool import LABELS

    seen = {head: probabilities.cpu().numpy() for head, probabilities in judge(judges, images).items()}
    words = [prompt.replace(",", " ").split() for prompt in prompts]
    asked = np.zeros((len(images), len(ASKED)))
    for column, head in enumerate(ASKED):
        names = list(LABELS[head])
        wanted = [next(names.index(word) for word in said if word in names) for said in words]
        asked[:, column] = seen[head][np.arange(len(images)), wanted]
    places = [LABELS["place"].index(place) for place in set_places]
    elsewhere = np.array([not set(said) & set(set_places) for said in words])
    return {
        "concept": seen["concept"][:, LABELS["concept"].index(concept)],
        "asked": asked,
        "leaked": seen["place"][:, places].sum(axis=1) * elsewhere,
    }


def roughness(images: np.ndarray) -> np.ndarray:
    """[N, 2] of uint8 images [N, H, W, 3]: noise (mean absolute difference from the 3 × 3 median over the
    levels of 255) and the share of values at 0 or 255."""
    from scipy.ndimage import median_filter

    smooth = median_filter(images, size=(1, 3, 3, 1))
    noise = np.abs(images.astype(np.int16) - smooth).mean(axis=(1, 2, 3))
    clipped = ((images == 0) | (images == 255)).mean(axis=(1, 2, 3))
    return np.stack([noise, clipped], axis=1)


def damaged(rough: np.ndarray, of_base: np.ndarray) -> np.ndarray:
    """bool [...] of roughness [..., 2], by what the base's own images [M, 2] of the same pack have."""
    return (rough > np.quantile(of_base, DAMAGED, axis=0)).any(axis=-1)


def right(seen: Mapping[str, np.ndarray], broken: np.ndarray) -> np.ndarray:
    """bool [...]: concept seen, each attribute obeyed, not damaged; `concept` [...], `asked` [..., 4]."""
    return (seen["concept"] > LIKELY) & (seen["asked"] > LIKELY).all(axis=-1) & ~broken


def distances(images: np.ndarray, photos: np.ndarray, again: np.ndarray) -> np.ndarray:
    """[N, 1 + AGAIN] root mean squares between images [N, H, W, 3] and their own photos [N, H, W, 3], then the fresh
    renders [N, AGAIN, H, W, 3] of the same attributes; levels of 255."""
    other = np.concatenate([photos[:, None], again], axis=1).astype(np.float32)
    return np.sqrt(np.square(images[:, None].astype(np.float32) - other).mean(axis=(2, 3, 4)))


def copied(apart: np.ndarray) -> np.ndarray:
    """bool [...] of `distances` [..., 1 + AGAIN]: nearer to the own photo than to any fresh render."""
    return apart[..., 0] < apart[..., 1:].min(axis=-1)

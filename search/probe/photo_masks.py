"""Subject masks of a study's photos: the user's own, cut as the photos are, or found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.subjects.mask_files import read_mask
from search.study.mask_files import mask_files
from trainer.data.dataset import Photo, load_mask
from trainer.data.images import resize_and_crop

if TYPE_CHECKING:
    import numpy as np

    from metrics.checkpoint.encoders import Encoder
    from metrics.subjects.masks import SubjectMasks
    from search.study.study import Study
    from trainer.config.config import TrainConfig
    from trainer.families import Base


FINE = 16  # places across from which on cross-attention tells more of a subject than what stands out (docs/log.md)


def photo_masks(
    study: Study,
    photos: Sequence[Photo],
    pixels: Sequence[np.ndarray],
    config: TrainConfig,
    base: Base,
    encoder: Encoder | None = None,
) -> SubjectMasks:
    """A mask for each photo, of the size that is trained on.

    Args:
        pixels: uint8 [H,W,3] of each photo, as the trainer cuts them.
        encoder: is asked how alike they are as a whole before they are taken for a style, and, where it tells places
            apart and the base does not, where they show the same.

    Raises:
        MetricsError: masks that cannot be used.
    """
    import numpy as np

    from metrics.checkpoint.unrelated import in_common
    from metrics.subjects.common_places import common_places
    from metrics.subjects.masks import EVERYTHING, subject_masks
    from trainer.errors import ModelError
    from trainer.inference.attention import attention_maps

    source = study.masks
    notes: tuple[str, ...] = ()
    given: list[np.ndarray | None]
    if Path(source).is_dir():
        given = [None if path is None else _cut(path, config.size) for path in mask_files(source, photos)]
        if everything := sum(mask is not None and bool((mask > 0.5).mean() > EVERYTHING) for mask in given):
            notes = (f"{everything} of {len(photos)} masks are white all over: they count as no mask",)
        source = "auto"
    else:
        given = [load_mask(photo, config.size) for photo in photos]
    attention = None
    if source == "attention":
        attention = list(attention_maps(base, np.stack(pixels), photos[0].class_word or ""))
    elif source == "auto" and study.score.shifted.segmenter is None and any(mask is None for mask in given):
        try:
            attention = list(attention_maps(base, np.stack(pixels), photos[0].class_word or "", finest=FINE))
        except ModelError:  # no such maps, too coarse ones, or no class word: what stands out has to do
            attention = None
    hints = None
    asked = source == "saliency" or (source == "auto" and any(mask is None for mask in given))
    if asked and attention is None and encoder is not None and len(pixels) > 1:
        places = None if study.score.shifted.segmenter and source == "auto" else encoder.places(pixels)
        hints = None if places is None else common_places(places)
    found = subject_masks(
        pixels,
        source=source,
        given=given,
        attention=attention,
        segmenter=study.score.shifted.segmenter,
        class_word=photos[0].class_word,
        device=str(base.device),
        in_common=None if encoder is None else lambda: in_common(encoder.images(pixels), encoder),
        hints=hints,
    )
    return replace(found, notes=(*notes, *found.notes))


def _cut(path: Path, size: tuple[int, int]) -> np.ndarray:
    """float32 [H,W] in [0,1], cut as `load_pixels` cuts the photo."""
    import numpy as np

    grey = np.rint(255 * read_mask(path)).astype(np.uint8)
    return resize_and_crop(np.repeat(grey[..., None], 3, axis=2), size)[..., 0].astype(np.float32) / 255

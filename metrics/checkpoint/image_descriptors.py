"""Everything that is measured on one image by itself: colour, layout and features, for a whole set at once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from metrics.channels.colour import GRID, burn_features, colour_cdfs, sample_pixels, srgb_to_lab
from metrics.channels.composition import framing, layout_vectors, small_grey
from metrics.channels.own_photo import small_pixels
from metrics.checkpoint.encoders import Encoder, Images


@dataclass(frozen=True)
class Traits:
    """Arrays with one row per image.

    Attributes:
        colour_cdfs: float32 `[n, projections, edges]`.
        colour_means: `[n, 3]` mean CIELAB.
        thumbnails: `[n, 8, 8, 3]` CIELAB.
        burn: `[n, 5]`, see `metrics.channels.colour.BURN_FEATURES`.
        layouts: unit rows `[n, 128]`.
        framings: `[n, 4]`, see `metrics.channels.composition.framing`.
        pixels: `[n, 768]`, see `metrics.channels.own_photo.small_pixels`; `[n, 0]` where they were kept before it was
            measured.
        features: unit rows `[n, D]` of the encoder, `[n, 0]` without one.
        identity: unit rows of the identity encoder, or `features` again.
    """

    colour_cdfs: np.ndarray
    colour_means: np.ndarray
    thumbnails: np.ndarray
    burn: np.ndarray
    layouts: np.ndarray
    framings: np.ndarray
    pixels: np.ndarray
    features: np.ndarray
    identity: np.ndarray

    def __len__(self) -> int:
        return len(self.colour_means)

    def rows(self, index: np.ndarray) -> Traits:
        """The traits of some of the images: a boolean or integer index."""
        return Traits(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def measure(
    images: Images, encoder: Encoder | None, identity_encoder: Encoder | None = None, *, cache: bool = False
) -> Traits:
    """Traits of uint8 RGB images `[H, W, 3]`, sizes may differ. `cache` keeps the features on disk."""
    pixels = sample_pixels(images)
    lab = srgb_to_lab(pixels)
    features = np.zeros((len(pixels), 0), np.float32)
    if encoder is not None:
        features = encoder.images(images, cache=cache)
    identity = features if identity_encoder is None else identity_encoder.images(images, cache=cache)
    return Traits(
        colour_cdfs=colour_cdfs(lab).astype(np.float32),
        colour_means=lab.mean(axis=1, dtype=np.float64),
        thumbnails=lab.reshape(len(lab), 8, GRID // 8, 8, GRID // 8, 3).mean(axis=(2, 4)),
        burn=burn_features(pixels, lab),
        layouts=layout_vectors(small_grey(images)),
        framings=framing(lab),
        pixels=small_pixels(images),
        features=features,
        identity=identity,
    )

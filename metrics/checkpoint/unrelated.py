"""How alike an encoder calls photos that have nothing in common."""

from __future__ import annotations

import numpy as np

from metrics.checkpoint.encoders import Encoder

_SIDE = 256
_PHOTOS = (
    "astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field", "immunohistochemistry", "colorwheel",
)  # fmt: skip


def unrelated(encoder: Encoder) -> float:
    """Mean cosine between eight pictures of quite different things: 0.16 for EfficientNet-lite0, 0.45 for the demo's
    CLIP. They are public-domain pictures that scikit-image's wheel holds: nothing is downloaded.
    """
    from PIL import Image, ImageOps
    from skimage import data

    pictures = [Image.fromarray(np.asarray(getattr(data, name)())[..., :3]) for name in _PHOTOS]
    squares = [np.asarray(ImageOps.fit(picture, (_SIDE, _SIDE), Image.Resampling.BOX)) for picture in pictures]
    rows = encoder.images(squares).astype(np.float64)
    cosines = rows @ rows.T
    return float(cosines[~np.eye(len(rows), dtype=bool)].mean())


def in_common(features: np.ndarray, encoder: Encoder) -> float:
    """How alike photos are as a whole: 0 as unrelated pictures, 1 all the same.

    Args:
        features: unit rows `[N, D]` of the encoder, at least two.
    """
    rows = features.astype(np.float64)
    cosines, apart = rows @ rows.T, unrelated(encoder)
    return float((cosines[~np.eye(len(rows), dtype=bool)].mean() - apart) / max(1 - apart, 1e-6))

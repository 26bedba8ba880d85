"""Whether an image goes back to the very photo whose caption it was drawn from: what the copying onset is read from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GRID = 16  # pixels per side: what a photo looks like, without its grain
LEAST_CAPTIONS = 3  # of trained and of held-out photos each
_NEAR = 0.5  # levels: nearer than this is the photo itself


def small_pixels(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Mean colours of GRID × GRID fields: float32 `[n, GRID*GRID*3]` in levels of 255, of images `[H, W, 3]` uint8 of
    any sizes."""
    from PIL import Image

    size, box = (GRID, GRID), Image.Resampling.BOX
    small = [np.asarray(Image.fromarray(image).resize(size, box), np.float32).ravel() for image in images]
    return np.stack(small) if small else np.zeros((0, 3 * GRID * GRID), np.float32)


def nearness_gained(
    pixels: np.ndarray, base_pixels: np.ndarray, photos: np.ndarray, photo: np.ndarray, trained: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much nearer images have come to their captions' own photos: ln of the base's distance ÷ the checkpoint's.

    Following a caption brings an image nearer to the photo it describes, whether it is trained on or held out; what
    trained captions gain beyond held-out ones is copied. Paired with the base by prompt and seed; ours.

    Args:
        pixels, base_pixels: `[n, D]` of `small_pixels`, same prompts and seeds.
        photos: `[N, D]`, held-out ones included.
        photo: `[n]`, the photo whose caption each image was drawn from; -1 takes no part.
        trained: boolean `[N]`.

    Returns:
        One number per trained photo, and one per held-out photo: means over the images of its caption, in the photos'
        order.

    >>> import numpy as np
    >>> photos, base = np.array([[0.0], [100.0]]), np.array([[50.0], [50.0]])
    >>> both = nearness_gained(np.array([[25.0], [50.0]]), base, photos, np.arange(2), np.array([True, False]))
    >>> [gained.round(2).tolist() for gained in both]
    [[0.69], [0.0]]
    """
    photo, trained = np.asarray(photo), np.asarray(trained, bool)
    rows = photo >= 0
    own = photos[photo[rows]].astype(np.float64)
    now, before = (np.sqrt(np.square(each[rows] - own).mean(axis=1)) for each in (pixels, base_pixels))
    gained = np.log(np.maximum(before, _NEAR) / np.maximum(now, _NEAR))
    drawn, which = np.unique(photo[rows], return_inverse=True)
    means = np.bincount(which, gained, minlength=len(drawn)) / np.maximum(np.bincount(which, minlength=len(drawn)), 1)
    return means[trained[drawn]], means[~trained[drawn]]

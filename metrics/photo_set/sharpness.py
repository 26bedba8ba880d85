"""Whether photos are out of focus or shaken: how wide their edges are, in pixels."""

from __future__ import annotations

import numpy as np

SOFT = 1.3
"""Pixels: rendered and real photos that are sharp stay below 1.1 (choosing sets of `benchmarks.data_check`)."""
UNUSABLE = 2.5
"""Pixels: so wide is no edge of a sharp photo, whatever the others of its set are like."""
_OTHERS = 1.4  # times the median of the set: a whole set that is a little soft is a matter of taste
_SMOOTH, _AGAIN = 0.5, 1.0  # pixels: against noise; and by which edges are blurred once more
_STRONG, _LEAST_STEP, _LEAST_EDGES = 0.97, 0.01, 10
_SHARPEST = 0.8  # of the strong edges: what lies out of focus behind a sharp subject does not count


def edge_width(image: np.ndarray) -> float:
    """Standard deviation in pixels of the blur of an image's sharper edges, NaN where it has none.

    Blurring once more flattens a sharp edge much and a blurred one little; the ratio of the two slopes gives the width
    (Zhuo and Sim 2011, Defocus map estimation from a single image). The sharper fifth of the strong edges speaks for
    the photo, along x and along y; the wider of the two counts, since shaking widens the edges of one direction only.

    Args:
        image: uint8 `[H, W, 3]`, of the size at which it is trained on.

    >>> import numpy as np
    >>> stripes = np.repeat(np.repeat(np.uint8([0, 255]), 16)[None], 32, axis=0)[..., None].repeat(3, axis=2)
    >>> 0.8 < edge_width(np.tile(stripes, (1, 2, 1))) < 1.0
    True
    """
    from PIL import Image
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    grey = gaussian_filter(np.asarray(Image.fromarray(image).convert("L"), np.float64) / 255, _SMOOTH)
    widths = []
    for axis in (0, 1):
        slope = np.abs(np.gradient(grey, axis=axis))
        again = np.abs(np.gradient(gaussian_filter1d(grey, _AGAIN, axis=axis), axis=axis))
        strong = (slope >= np.quantile(slope, _STRONG)) & (slope > _LEAST_STEP)
        if strong.sum() < _LEAST_EDGES:
            continue
        ratio = max(float(np.quantile(slope[strong] / np.maximum(again[strong], 1e-6), _SHARPEST)), 1.0001)
        widths.append(_AGAIN / np.sqrt(ratio**2 - 1))
    return float(max(widths, default=np.nan))


def blurred(widths: np.ndarray) -> np.ndarray:
    """Which photos are blurred: boolean `[N]`; never those without edges.

    Args:
        widths: `[N]` from `edge_width`.

    >>> import numpy as np
    >>> blurred(np.array([0.8, 0.9, 1.0, 1.9, np.nan])).tolist()
    [False, False, False, True, False]
    """
    known = widths[np.isfinite(widths)]
    usual = float(np.median(known)) if len(known) else 0.0
    with np.errstate(invalid="ignore"):
        return (widths > max(SOFT, _OTHERS * usual)) | (widths > UNUSABLE)

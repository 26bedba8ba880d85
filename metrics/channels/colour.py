"""Colour of a set against the photos: sliced Wasserstein drift in CIELAB, burn beyond the photos, scatter."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from metrics.channels.bootstrap import half_splits, pseudo_values

GRID = 32  # pixels sampled per side: colour needs no more, and 512 px images cost no more than 64 px ones
NUM_PROJECTIONS = 24
EDGES = np.linspace(-140.0, 140.0, 141)  # of the CDFs along a projection, in CIELAB units
BURN_FEATURES = ("median chroma", "95th percentile of chroma", "clipped share", "spread of L*", "colourfulness")


def sample_pixels(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """A regular grid of pixels, unsmoothed: uint8 `[n, GRID*GRID, 3]` from images `[H, W, 3]` of any sizes."""
    samples = []
    for image in images:
        rows, columns = (
            ((np.arange(GRID) + 0.5) * side / GRID).astype(int) for side in (image.shape[0], image.shape[1])
        )
        samples.append(image[rows[:, None], columns[None, :]].reshape(-1, 3))
    return np.stack(samples)


def srgb_to_lab(pixels: np.ndarray) -> np.ndarray:
    """sRGB to CIELAB (D65, 2° observer): float32 of the same shape, L* in [0, 100].

    Source: IEC 61966-2-1 and CIE 15; checked against scikit-image's `rgb2lab`.

    Args:
        pixels: uint8 `[..., 3]`.

    >>> import numpy as np
    >>> srgb_to_lab(np.array([[255, 255, 255], [255, 0, 0]], np.uint8)).round().astype(int).tolist()
    [[100, 0, 0], [53, 80, 67]]
    """
    linear = _linear_light()[pixels]
    xyz = linear @ np.array(
        [[0.412453, 0.212671, 0.019334], [0.357580, 0.715160, 0.119193], [0.180423, 0.072169, 0.950227]], np.float32
    )
    xyz /= np.array([0.95047, 1.0, 1.08883], np.float32)
    roots = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = roots[..., 0], roots[..., 1], roots[..., 2]
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1).astype(np.float32)


@lru_cache(maxsize=1)
def _linear_light() -> np.ndarray:
    values = np.arange(256) / 255.0
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92).astype(np.float32)


@lru_cache(maxsize=1)
def projections() -> np.ndarray:
    """Directions in CIELAB, evenly over a half-sphere (golden spiral): unit rows `[NUM_PROJECTIONS, 3]`."""
    heights = 1 - (np.arange(NUM_PROJECTIONS) + 0.5) / NUM_PROJECTIONS
    angles = np.pi * (3 - np.sqrt(5)) * np.arange(NUM_PROJECTIONS)
    radii = np.sqrt(1 - heights**2)
    return np.stack([heights, radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def colour_cdfs(lab: np.ndarray) -> np.ndarray:
    """Cumulative distributions of each image's pixels along each projection: float64 `[n, projections, edges]`.

    Pooling images is averaging their CDFs, which makes half-splits, jackknife and bootstrap of the distance cheap.

    Args:
        lab: `[n, pixels, 3]` in CIELAB.
    """
    along = (lab - np.array([50.0, 0.0, 0.0], np.float32)) @ projections().T.astype(np.float32)  # [n, pixels, P]
    step = EDGES[1] - EDGES[0]
    bins = np.ceil((along - EDGES[0]) / step).astype(np.int64).clip(0, len(EDGES) - 1)  # first edge at or above
    num_images, num_pixels, num_projections = bins.shape
    offsets = (np.arange(num_images)[:, None, None] * num_projections + np.arange(num_projections)) * len(EDGES)
    counts = np.bincount((bins + offsets).ravel(), minlength=num_images * num_projections * len(EDGES))
    return counts.reshape(num_images, num_projections, len(EDGES)).cumsum(axis=2) / num_pixels


def sliced_wasserstein(cdfs: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean over projections of the 1-Wasserstein distance of pooled colours, in CIELAB units: `[...]`, ≥ 0.

    Source: Rabin et al. 2011 (sliced), Vallender 1974 (W1 as the area between CDFs).

    Args:
        cdfs, other: pooled CDFs `[..., projections, edges]`.
    """
    return np.abs(cdfs - other).sum(axis=-1).mean(axis=-1) * (EDGES[1] - EDGES[0])


def drift_null(photo_cdfs: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the distance between random halves of the photos.

    Args:
        photo_cdfs: `[N, projections, edges]`, N ≥ 4.
    """
    halves = half_splits(len(photo_cdfs)).astype(np.float64)
    flat = photo_cdfs.reshape(len(photo_cdfs), -1)
    first = (halves @ flat / halves.sum(axis=1, keepdims=True)).reshape(-1, *photo_cdfs.shape[1:])
    second = ((1 - halves) @ flat / (1 - halves).sum(axis=1, keepdims=True)).reshape(-1, *photo_cdfs.shape[1:])
    distances = sliced_wasserstein(first, second)
    return float(distances.mean()), max(float(distances.std()), 1e-3)


def drift(cdfs: np.ndarray, photo_cdfs: np.ndarray, null: tuple[float, float]) -> tuple[float, np.ndarray]:
    """Distance of the images' colours to the photos', z-scored by half-splits of the photos: z and `items [n]`.

    z near 0: as far as photos are from each other; larger is worse. The null of equal halves is scaled to the two set
    sizes (a distance of empirical distributions shrinks as the root of 1/n + 1/N). Items are jackknife pseudo-values.

    Args:
        cdfs: `[n, projections, edges]` of the images.
        photo_cdfs: `[N, projections, edges]`.
        null: from `drift_null`.
    """
    num_images, num_photos = len(cdfs), len(photo_cdfs)
    pooled, target = cdfs.mean(axis=0), photo_cdfs.mean(axis=0)
    distance = float(sliced_wasserstein(pooled, target))
    scale = np.sqrt((1 / num_images + 1 / num_photos) / (4 / num_photos))
    z = (distance - scale * null[0]) / (scale * null[1])
    if num_images == 1:
        return z, np.array([z])
    without = sliced_wasserstein((num_images * pooled - cdfs) / (num_images - 1), target)
    return z, pseudo_values(z, (without - scale * null[0]) / (scale * null[1]))


def burn_features(pixels: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """What burning changes, per image: `[n, 5]` in the order of `BURN_FEATURES`.

    Chroma and L* in CIELAB units, clipped share in [0, 1] (a channel at 2 or less, or 253 or more), colourfulness after
    Hasler and Süsstrunk 2003.

    Args:
        pixels: uint8 `[n, pixels, 3]`.
        lab: `[n, pixels, 3]`.
    """
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    rgb = pixels.astype(np.float32)
    red_green = rgb[..., 0] - rgb[..., 1]
    yellow_blue = (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2]
    colourfulness = np.hypot(red_green.std(axis=1), yellow_blue.std(axis=1)) + 0.3 * np.hypot(
        red_green.mean(axis=1), yellow_blue.mean(axis=1)
    )
    clipped = ((pixels <= 2) | (pixels >= 253)).any(axis=-1).mean(axis=1)
    median, high = np.quantile(chroma, [0.5, 0.95], axis=1)
    return np.stack([median, high, clipped, lab[..., 0].std(axis=1), colourfulness], axis=1).astype(np.float64)


def burn(features: np.ndarray, base_features: np.ndarray, photo_features: np.ndarray) -> np.ndarray:
    """How far each burn feature lies outside the range from base to photos, in standard deviations: `[n, 5]`, items.

    The mean over images of a column is 0 inside the range, positive beyond the photos or on the far side of the base;
    larger is worse, 1 is as far as photos differ among each other. Going from the base to the photos is learning, going
    beyond is burning. Units are those of what can be seen, not of what is significant: `burn_null` has the latter.

    Args:
        features, base_features: `[n, 5]`, `[m, 5]` from `burn_features`.
        photo_features: `[N, 5]`.
    """
    base, photos = base_features.mean(axis=0), photo_features.mean(axis=0)
    lower, upper = np.minimum(base, photos), np.maximum(base, photos)
    mean = features.mean(axis=0)
    outside = np.where(mean > upper, features - upper, np.where(mean < lower, lower - features, 0.0))
    return outside / np.maximum(photo_features.std(axis=0), [2.0, 3.0, 0.05, 2.0, 3.0])  # less is hardly seen


def burn_null(num_images: int, num_photos: int) -> float:
    """Standard error of a column's mean of `burn` when images and photos come from one distribution."""
    return float(np.sqrt(1 / num_images + 1 / num_photos))


def scatter(means: np.ndarray, photo_means: np.ndarray) -> np.ndarray:
    """Between-image variance of the mean colour ÷ that of the photos: items `[n]`, mean = the ratio; 1 as the photos.

    Args:
        means: `[n, 3]` mean CIELAB of each image, n ≥ 2.
        photo_means: `[N, 3]`, N ≥ 2.
    """
    deviations = ((means - means.mean(axis=0)) ** 2).sum(axis=1) * len(means) / (len(means) - 1)
    return deviations / max(float(photo_means.var(axis=0, ddof=1).sum()), 0.25)

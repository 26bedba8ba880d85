"""What is the subject of pictures, without any model: background detection over superpixels, then colours in common."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SIDE = 128  # pixels of the longer side at which subjects are looked for
LIGHTNESS_BINS, CHROMA_BINS = 12, 16
ROUNDS = 4  # of alternations
HINTS = 2.0  # weight of hints against what stands out of a photo by itself (docs/log.md)
TRUST_ITSELF = 0.5  # in what stands out of a photo by itself, against 1 in what is known of it (docs/log.md)


class CommonSaliency(NamedTuple):
    """Maps of several photos' subject, and how much there is one.

    Attributes:
        maps: float32 `[h, w]` each, above 0.5 the subject.
        shared: how much more alike the subjects' colours are to each other than to each other's surroundings, before
            photos help each other: mean over pairs of the difference of their histograms' Bhattacharyya coefficients,
            in [-1, 1]; NaN for a single photo.
    """

    maps: list[np.ndarray]
    shared: float


def common_saliency(
    images: Sequence[np.ndarray],
    starts: Sequence[np.ndarray] | None = None,
    *,
    hints: Sequence[np.ndarray] | None = None,
) -> CommonSaliency:
    """How much each place of photos of one subject belongs to it, the longer side `SIDE` pixels.

    Starts from each photo by itself, or from what is known of it, and alternates: which colours do most photos have
    inside their masks (a low quantile over photos, so that what lies in a few masks by mistake, a shadow or a tile,
    drops out), and which places have such colours rather than their photo's background colours. A joint GrabCut (Rother
    et al. 2004) with histograms; fewer than four photos share the mean instead of the quantile.

    Args:
        images: uint8 `[H, W, 3]`, sizes may differ.
        starts: maps `[h, w]` of any scale and size that are higher on the subject (a base's cross-attention): they
            tell it from what else stands out, and colours draw its outline.
        hints: maps as well, of where photos show the same (`metrics.subjects.common_places`): they are taken together
            with what stands out. Starts go before them.
    """
    with ThreadPoolExecutor() as pool:
        views = list(pool.map(_View.of, map(_lab_of, images)))
        alone = list(pool.map(_View.first_guess, views)) if starts is None else []
    if starts is None:
        first, trust = alone, TRUST_ITSELF
    else:
        first, trust = [_as_guess(start, view.labels.shape) for start, view in zip(starts, views, strict=True)], 1.0
    shared = _shared(*_colours(views, first))
    if starts is None and hints is not None:
        told = [_as_guess(hint, view.labels.shape) for hint, view in zip(hints, views, strict=True)]
        first = [(HINTS * hint + own) / (HINTS + 1) for hint, own in zip(told, first, strict=True)]
        trust = 1.0
    guesses = first
    for _ in range(ROUNDS):
        inside, outside = _colours(views, guesses)
        common = np.quantile(inside, 0.35, axis=0) if len(views) >= 4 else inside.mean(axis=0)
        common = common / (common.sum() + 1e-9)
        everywhere = outside.mean(axis=0)
        guesses = [
            view.refined(common, (own + everywhere) / 2, guess, trust * np.log((start + 0.1) / (1.1 - start)))
            for view, own, guess, start in zip(views, outside, guesses, first, strict=True)
        ]
    return CommonSaliency([guess.astype(np.float32).clip(0, 1) for guess in guesses], shared)


def _colours(views: "Sequence[_View]", guesses: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Histograms `[N, bins]` of the subjects, and of their surroundings."""
    pairs = list(zip(views, guesses, strict=True))
    inside = np.stack([_histogram(view.bins, guess) for view, guess in pairs])
    return inside, np.stack([_histogram(view.bins, 1 - guess) for view, guess in pairs])


def _as_guess(start: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A map of any scale as a first guess: 0.5 where Otsu's threshold lies, of the size `[h, w]`."""
    from PIL import Image
    from skimage.filters import threshold_otsu

    low, high = np.quantile(start, [0.02, 0.99])
    normal = np.clip((np.asarray(start, np.float32) - low) / max(float(high - low), 1e-9), 0, 1)
    large = Image.fromarray(normal.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    values = np.asarray(large, np.float64)
    return np.clip((values - threshold_otsu(values)) / 0.3 + 0.5, 0, 1) if np.ptp(values) > 1e-3 else 0.5 + 0 * values


def _shared(inside: np.ndarray, outside: np.ndarray) -> float:
    """`CommonSaliency.shared` of histograms `[N, bins]` of the subjects and of their surroundings."""
    apart = ~np.eye(len(inside), dtype=bool)
    roots = np.sqrt(inside)
    return float((roots @ roots.T - roots @ np.sqrt(outside).T)[apart].mean()) if len(inside) > 1 else float("nan")


@dataclass(frozen=True)
class _View:
    """One photo prepared: CIELAB `[h, w, 3]`, colour bins `[h, w]`, superpixels `[h, w]`, their area and smoother."""

    lab: np.ndarray
    bins: np.ndarray
    labels: np.ndarray
    area: np.ndarray
    smoother: np.ndarray

    @classmethod
    def of(cls, lab: np.ndarray) -> "_View":
        labels = _superpixels(lab, 500, compactness=10)
        colour, area = _mean_colours(lab, labels)
        apart = ((colour[:, None] - colour[None]) ** 2).sum(axis=-1)
        weights = np.where(_adjacent(labels), np.exp(-apart / (2 * 10.0**2)) + 0.02, 0)
        laplacian = np.diag(weights.sum(axis=1)) - weights
        return cls(lab, _colour_bins(lab), labels, area, np.linalg.inv(1.5 * laplacian + np.eye(len(area))))

    def first_guess(self) -> np.ndarray:
        from skimage.filters import threshold_otsu

        saliency = _single(self.lab)
        return np.clip((saliency - threshold_otsu(saliency)) / 0.3 + 0.5, 0, 1)

    def refined(self, inside: np.ndarray, outside: np.ndarray, guess: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The next guess `[h, w]` from colours `[bins]`, the last guess and `known`: log odds of the start."""
        from scipy import ndimage

        near = ndimage.gaussian_filter(guess, 0.12 * SIDE)
        near = near / (near.max() + 1e-9)
        evidence = 1.2 * np.log((inside + 1e-5) / (outside + 1e-5))[self.bins]
        evidence += np.log((near + 0.02) / (1.3 - near)) + known
        belief = 1 / (1 + np.exp(-evidence))
        smooth = self.smoother @ (np.bincount(self.labels.ravel(), belief.ravel(), len(self.area)) / self.area)
        return (smooth[self.labels] + ndimage.gaussian_filter(belief, 1.0)) / 2  # superpixels alone cut off thin parts


def _lab_of(image: np.ndarray) -> np.ndarray:
    """CIELAB of the image with its longer side at `SIDE` pixels."""
    from PIL import Image
    from skimage.color import rgb2lab

    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    resample = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    return rgb2lab(np.asarray(Image.fromarray(image).resize(size, resample)))


def _colour_bins(lab: np.ndarray) -> np.ndarray:
    lightness = (lab[..., 0] * (LIGHTNESS_BINS / 100)).clip(0, LIGHTNESS_BINS - 1).astype(int)
    green_red, blue_yellow = (
        ((lab[..., axis] + 80) * (CHROMA_BINS / 160)).clip(0, CHROMA_BINS - 1).astype(int) for axis in (1, 2)
    )
    return (lightness * CHROMA_BINS + green_red) * CHROMA_BINS + blue_yellow


def _histogram(bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the weight in each colour bin, smoothed over neighbouring colours."""
    from scipy import ndimage

    shape = (LIGHTNESS_BINS, CHROMA_BINS, CHROMA_BINS)
    counts = np.bincount(bins.ravel(), weights.ravel(), LIGHTNESS_BINS * CHROMA_BINS**2).reshape(shape)
    smooth = ndimage.gaussian_filter(counts, 0.7, mode="nearest").ravel()
    return smooth / (smooth.sum() + 1e-9)


def _superpixels(lab: np.ndarray, count: int, *, compactness: float) -> np.ndarray:
    from skimage.segmentation import slic

    return slic(lab, n_segments=count, compactness=compactness, channel_axis=-1, convert2lab=False, start_label=0)


def _mean_colours(lab: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean CIELAB `[S, 3]` and area `[S]` of each superpixel."""
    flat = labels.ravel()
    area = np.bincount(flat).astype(float)
    colour = np.stack([np.bincount(flat, lab[..., axis].ravel()) for axis in range(3)], axis=1) / area[:, None]
    return colour, area


def _adjacent(labels: np.ndarray) -> np.ndarray:
    """Which superpixels touch: boolean `[S, S]`."""
    touching = np.zeros((labels.max() + 1,) * 2, bool)
    for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        touching[first.ravel(), second.ravel()] = True
    touching |= touching.T
    np.fill_diagonal(touching, False)
    return touching


def _single(lab: np.ndarray) -> np.ndarray:
    """Of one photo, float32 `[h, w]` in [0, 1].

    Superpixels that reach the border through little change of colour are background; the rest is subject where it also
    differs from the background; both are reconciled by least squares on the superpixels' graph. Source: Zhu, Liang, Wei
    and Sun, Saliency Optimization from Robust Background Detection, CVPR 2014.
    """
    labels = _superpixels(lab, 250, compactness=12)
    picture = _optimised(lab, labels)[labels]
    low, high = picture.min(), picture.max()
    return ((picture - low) / (high - low + 1e-9)).astype(np.float32)


def _optimised(lab: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Saliency of each superpixel, `[S]`."""
    from scipy.sparse.csgraph import dijkstra

    colour, area = _mean_colours(lab, labels)
    count, flat = len(area), labels.ravel()
    rows, columns = np.indices(labels.shape)
    extent = max(labels.shape)
    position = (
        np.stack([np.bincount(flat, grid.ravel() / extent, count) for grid in (columns, rows)], axis=1) / area[:, None]
    )
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    border_length = np.bincount(edge, minlength=count).astype(float)

    apart = np.sqrt(((colour[:, None] - colour[None]) ** 2).sum(axis=-1))
    neighbours = _adjacent(labels)
    on_border = border_length > 0
    adjacent = neighbours | (
        on_border[:, None] & on_border[None]
    )  # the border is one piece of background, whatever lies on it
    np.fill_diagonal(adjacent, False)

    # small steps of colour are texture or shading: they cost nothing on the way to the border
    texture = np.where(neighbours, apart, np.inf).min(axis=1)
    steps = np.where(adjacent, np.maximum(apart - np.median(texture[np.isfinite(texture)]), 0) + 1e-6, 0)
    geodesic = dijkstra(steps, directed=False)
    similar = np.exp(-(geodesic**2) / (2 * 10.0**2))
    connectivity = (similar @ border_length) / np.sqrt(similar @ area)
    background = 1 - np.exp(-(connectivity**2) / 2)

    near = np.exp(-((position[:, None] - position[None]) ** 2).sum(axis=-1) / (2 * 0.4**2))
    contrast = (apart * near) @ (background * area) / ((near @ (background * area)) + 1e-9)
    foreground = contrast * (1 - background)
    foreground /= foreground.max() + 1e-9

    smooth = np.where(neighbours, np.exp(-(apart**2) / (2 * 10.0**2)) + 0.1, 0)
    laplacian = np.diag(smooth.sum(axis=1)) - smooth
    return np.linalg.solve(laplacian + np.diag(background + foreground + 1e-6), foreground)

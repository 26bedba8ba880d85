"""Layout and framing: edge-orientation layout vectors, energy distance to the photos, collapse over seeds."""

from collections.abc import Sequence

import numpy as np

from metrics.channels.bootstrap import half_splits, pseudo_values
from metrics.channels.diversity import prompt_groups

SIDE, CELLS, ORIENTATIONS = 64, 4, 8
FRAMING_SEEN = (0.05, 0.05, 0.05, 0.2)  # of `framing`: less is hardly seen


def small_grey(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Luma of the images squeezed to 64×64: float32 `[n, 64, 64]` in [0, 1], from uint8 `[H, W, 3]` of any sizes."""
    from PIL import Image

    grey = []
    for image in images:
        picture = Image.fromarray(image).convert("L")
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
        grey.append(np.asarray(picture, np.float32) / 255)
    return np.stack(grey)


def layout_vectors(grey: np.ndarray) -> np.ndarray:
    """Edge orientations on a 4×4 grid: float64 unit rows `[n, 128]`, non-negative, so that cosines lie in [0, 1].

    A histogram of oriented gradients (Dalal and Triggs 2005) with one block for the whole image, L1-sqrt (Hellinger)
    norm, and votes shared between the two nearest of 8 orientations: an upright edge lies between two of them, and the
    hard bins of scikit-image's `hog` would toss it back and forth.

    Args:
        grey: `[n, 64, 64]`.
    """
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    down[:, 1:-1, :] = grey[:, 2:, :] - grey[:, :-2, :]
    strength = np.hypot(across, down)
    angle = np.arctan2(down, across) * (ORIENTATIONS / np.pi) - 0.5  # in bins, the first one's middle at 0
    lower = np.floor(angle)
    share = angle - lower
    first = lower.astype(np.int64) % ORIENTATIONS
    cell = np.arange(SIDE) // (SIDE // CELLS)
    place = ((np.arange(len(grey))[:, None, None] * CELLS + cell[:, None]) * CELLS + cell) * ORIENTATIONS
    length = CELLS * CELLS * ORIENTATIONS
    votes = np.concatenate([(strength * (1 - share)).ravel(), (strength * share).ravel()])
    bins = np.concatenate([(place + first).ravel(), (place + (first + 1) % ORIENTATIONS).ravel()])
    histogram = np.bincount(bins, votes, len(grey) * length).reshape(len(grey), length)
    total = histogram.sum(axis=1, keepdims=True)
    flat = total < 1e-6  # an empty image has no edges: every layout is then equally far
    return np.where(flat, np.sqrt(1 / length), np.sqrt(histogram / np.where(flat, 1, total)))


def framing(lab: np.ndarray) -> np.ndarray:
    """Where the conspicuous part sits: `[n, 4]` centroid x and y in [0, 1], scale in [0, 1], ln aspect (wide positive).

    Conspicuous is what differs from the colours at the image's border (`border_contrast`); crude, fast, needs no model.

    Args:
        lab: CIELAB `[n, side², 3]` on a regular grid, as `metrics.channels.colour.sample_pixels` lays it.
    """
    weights = border_contrast(lab)
    total = weights.sum(axis=(1, 2)) + 1e-9
    axis = (np.arange(weights.shape[1]) + 0.5) / weights.shape[1]
    x = (weights * axis).sum(axis=(1, 2)) / total
    y = (weights * axis[:, None]).sum(axis=(1, 2)) / total
    spread_x = np.sqrt((weights * (axis - x[:, None, None]) ** 2).sum(axis=(1, 2)) / total) + 1e-3
    spread_y = np.sqrt((weights * (axis[:, None] - y[:, None, None]) ** 2).sum(axis=(1, 2)) / total) + 1e-3
    return np.stack([x, y, np.sqrt(spread_x * spread_y) * np.sqrt(12), np.log(spread_x / spread_y)], axis=1)


def border_contrast(lab: np.ndarray) -> np.ndarray:
    """How unlike the border's colours each place is: float `[n, side, side]`, ≥ 0, largest 1.

    Mahalanobis distance to the colours of the outer ring in CIELAB, less the ring's own 90th percentile.

    Args:
        lab: as `framing` takes it.
    """
    lab = lab.astype(np.float64)
    side = int(np.sqrt(lab.shape[1]))
    ring = np.ones((side, side), bool)
    ring[2:-2, 2:-2] = False
    border = lab[:, ring.ravel()]
    centred = lab - border.mean(axis=1, keepdims=True)
    edge = centred[:, ring.ravel()]
    covariance = np.einsum("npi,npj->nij", edge, edge) / edge.shape[1] + 9.0 * np.eye(3)
    squared = np.einsum("npi,nij,npj->np", centred, np.linalg.inv(covariance), centred)
    excess = np.maximum(squared - np.quantile(squared[:, ring.ravel()], 0.9, axis=1)[:, None], 0)
    excess = np.minimum(excess, 9.0)
    return (excess / (excess.max(axis=1, keepdims=True) + 1e-9)).reshape(-1, side, side)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances between rows: `[n, m]`, from `[n, D]` and `[m, D]`."""
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.sqrt(np.maximum(squared, 0))


def energy_distance(between: np.ndarray, within_first: np.ndarray, within_second: np.ndarray) -> float:
    """Unbiased energy distance `2 E|g-x| - E|g-g'| - E|x-x'|`: near 0 for sets from one distribution.

    Negative values happen, and well below the null they mean that the images are *nearer* to the photos than photos
    are.
    Source: Székely and Rizzo 2013, with U-statistics.

    Args:
        between: `[n, m]` distances; within_first: `[n, n]`; within_second: `[m, m]`, zero diagonals; n, m ≥ 2.
    """
    return float(2 * between.mean() - _mean_pair(within_first) - _mean_pair(within_second))


def energy_null(within: np.ndarray) -> float:
    """Standard deviation of the energy distance between random halves of the photos (its mean is 0 by construction).

    Args:
        within: `[N, N]` distances between the photos, N ≥ 4.
    """
    halves = half_splits(len(within)).astype(np.float64)
    rest = 1 - halves
    first, second = halves.sum(axis=1), rest.sum(axis=1)
    product = halves @ within
    between = (product * rest).sum(axis=1) / (first * second)
    inside = (product * halves).sum(axis=1) / (first * (first - 1))
    outside = ((rest @ within) * rest).sum(axis=1) / (second * (second - 1))
    return max(float((2 * between - inside - outside).std()), 1e-6)


def layout_drift(vectors: np.ndarray, photo_vectors: np.ndarray, null: float) -> tuple[float, np.ndarray]:
    """Energy distance of layouts to the photos', z-scored by half-splits: z and `items [n]` (pseudo-values).

    z near 0: laid out as the photos are; larger is worse; well below 0: nearer than photos are to each other. The null
    of equal halves is scaled to the set sizes (a degenerate U-statistic shrinks as 1/n + 1/N).

    Args:
        vectors: `[n, D]`, n ≥ 3; photo_vectors: `[N, D]`, N ≥ 4; null: from `energy_null`.
    """
    num_images, num_photos = len(vectors), len(photo_vectors)
    unit = null * (1 / num_images + 1 / num_photos) / (4 / num_photos)
    between, within = distances(vectors, photo_vectors), distances(vectors, vectors)
    among_photos = distances(photo_vectors, photo_vectors)
    z = energy_distance(between, within, among_photos) / unit
    rows, pairs = between.mean(axis=1), within.sum(axis=1)
    count = num_images - 1
    without = 2 * (rows.sum() - rows) / count - (pairs.sum() - 2 * pairs) / (count * (count - 1))
    return z, pseudo_values(z, (without - _mean_pair(among_photos)) / unit)


def framing_unit(framings: np.ndarray) -> np.ndarray:
    """Standard deviations of the photos' framings, `[4]`, at least what can be seen.

    Args:
        framings: `[N, 4]` of the photos.
    """
    return np.maximum(framings.std(axis=0), FRAMING_SEEN)


def framing_null(framings: np.ndarray) -> float:
    """`energy_null` of the photos' framings in their units; where they differ by less than can be seen, as if by that.

    Args:
        framings: `[N, 4]` of the photos, N ≥ 4.
    """
    unit = framing_unit(framings)
    lacking = np.sqrt(1 - (framings.std(axis=0) / unit) ** 2)
    filled = framings / unit + lacking * np.random.default_rng(0).normal(size=framings.shape)
    return energy_null(distances(filled, filled))


def framing_drift(framings: np.ndarray, photo_framings: np.ndarray, null: float) -> tuple[float, np.ndarray]:
    """`layout_drift` of framings in the photos' units.

    Args:
        framings: `[n, 4]`, n ≥ 3; photo_framings: `[N, 4]`, N ≥ 4; null: from `framing_null`.
    """
    unit = framing_unit(photo_framings)
    return layout_drift(framings / unit, photo_framings / unit, null)


def seed_spread(vectors: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Mean distance between the seeds of each prompt that has two or more: `[P]`.

    Args:
        vectors: `[n, D]`; prompts: `[n]` labels.
    """
    return np.array([_mean_pair(distances(vectors[rows], vectors[rows])) for rows in prompt_groups(prompts)])


def collapse(vectors: np.ndarray, base_vectors: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Spread of layouts over seeds ÷ the base's, per prompt: `[P]`, mean = the ratio; 0 stiff, 1 as the base.

    Args:
        vectors, base_vectors: `[n, D]`, same prompts and seeds; prompts: `[n]` labels.
    """
    spread = seed_spread(vectors, prompts)
    if not len(spread):
        return spread
    return spread / max(float(seed_spread(base_vectors, prompts).mean()), 1e-6)


def _mean_pair(within: np.ndarray) -> float:
    return float(within.sum() / (len(within) * (len(within) - 1)))

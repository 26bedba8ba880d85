"""Whether images reproduce the photos: nearest-neighbour AUC against leave-one-out, and the own-caption gap."""

import numpy as np

from metrics.channels.similarity import near_duplicates

_LEAST_SPREAD = 0.15  # of ln distances: photos that happen to be evenly far apart
_BEYOND_DOUBT = 4.6  # a hundredth of the least distance between photos: four photos say little about their spread


def leave_one_out_nearest(photos: np.ndarray) -> np.ndarray:
    """Cosine of each photo to its nearest other photo: `[N]`; needs two photos or more.

    Args:
        photos: unit rows `[N, D]`.

    >>> import numpy as np
    >>> photos = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> leave_one_out_nearest(photos).round(3).tolist()
    [0.8, 0.96, 0.96]
    """
    cosines = photos.astype(np.float64) @ photos.astype(np.float64).T
    np.fill_diagonal(cosines, -np.inf)
    return cosines.max(axis=1)


def copying(features: np.ndarray, photos: np.ndarray, *, remove_duplicates: bool = True) -> np.ndarray:
    """How often an image is nearer to the photos than the photos are to each other: `[n]` in [0, 1], mean = the AUC.

    With `u = max_j cos(g, x_j)` and `v_i = max_{j≠i} cos(x_i, x_j)` an item is `P(u > v) + ½ P(u = v)`; 0.5 is as near
    as photos are to each other, larger is worse. u is taken over N - 1 photos as v is: the mean over all ways to leave
    one photo out, computed exactly (N - 1 of N ways keep the nearest, one leaves the second nearest), so a copy reads
    `1 - 1/N·(1 - P(second nearest))`: a little below 1 with few photos. The leave-one-out calibration is
    ours; the nearest-neighbour test follows Alaa et al. 2022 (authenticity, arXiv 2102.08921).

    Args:
        features: unit rows `[n, D]` of generated images.
        photos: unit rows `[N, D]`, N ≥ 3.
        remove_duplicates: drop near-duplicate photos first; they would raise v and hide copying.

    >>> import numpy as np
    >>> photos = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> copying(np.array([[-1.0, 0.0]]), photos).tolist(), copying(photos[:1], photos).round(3).tolist()
    ([0.0], [0.722])
    """
    if remove_duplicates:
        kept = photos[~near_duplicates(photos)]
        photos = kept if len(kept) >= 3 else photos
    nearest_two = np.sort(features.astype(np.float64) @ photos.astype(np.float64).T, axis=1)[:, -2:]
    levels = leave_one_out_nearest(photos)
    beyond_second, beyond_first = (_exceedance(nearest_two[:, column], levels) for column in (0, 1))
    return ((len(photos) - 1) * beyond_first + beyond_second) / len(photos)


def copying_null(num_images: int, num_photos: int) -> float:
    """Standard deviation of the AUC when images and photos come from one distribution (Mann–Whitney, no ties).

    >>> round(copying_null(20, 10), 3)
    0.114
    """
    return float(np.sqrt((num_images + num_photos + 1) / (12 * num_images * num_photos)))


def clear_copies(
    features: np.ndarray, photos: np.ndarray, *, repeats: np.ndarray | None = None, level: float = 0.01
) -> np.ndarray:
    """Which images are nearer to a photo than chance allows: boolean `[n]`.

    Nearer than any photo is to another, and so much nearer that few sets of honest images would hold a single one.
    Distances to nearest neighbours follow a Weibull law whose shape is the data's dimension (Levina and Bickel 2004),
    so the spread of their logarithms among the photos (its upper 95 % limit: they are few) says how near chance comes
    once in n ÷ `level` images. At a hundredth of the least distance between photos there is no doubt. Ours.

    Args:
        features: unit rows `[n, D]` of generated images.
        photos: unit rows `[N, D]` without near-duplicates, N ≥ 3.
        repeats: unit rows `[M, D]` of the near-duplicates: they, too, may be copied, but say nothing of chance.
        level: share of sets of honest images that may seem to hold a copy.

    >>> import numpy as np
    >>> photos = np.eye(4)
    >>> clear_copies(np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]]), photos).tolist()
    [True, False]
    """
    from scipy.stats import chi2

    known = (photos if repeats is None else np.concatenate([photos, repeats])).astype(np.float64)
    levels = _log_distances(leave_one_out_nearest(photos))
    nearest = _log_distances((features.astype(np.float64) @ known.T).max(axis=1))
    freedom = len(levels) - 1
    spread = max(float(levels.std(ddof=1)), _LEAST_SPREAD) * np.sqrt(freedom / chi2.ppf(0.05, freedom))
    scale = spread * np.sqrt(6) / np.pi  # of the logarithm, a Gumbel law for minima
    limit = levels.mean() + np.euler_gamma * scale + np.log(level / max(len(nearest), 1)) * scale
    return nearest < min(max(float(limit), float(levels.min()) - _BEYOND_DOUBT), float(levels.min()))


def own_caption_gap(
    features: np.ndarray, photos: np.ndarray, photo: np.ndarray, trained: np.ndarray
) -> tuple[float, np.ndarray]:
    """P[nearest photo is the caption's own | trained] - P[the same | held out]: in [-1, 1], larger is worse.

    Following a caption makes an image resemble the photo it describes; only memorising makes it do so more often
    for trained captions than for held-out ones.

    Args:
        features: unit rows `[n, D]` of images drawn from the photos' captions.
        photos: unit rows `[N, D]` of all photos, held-out ones included.
        photo: `[n]`, the photo whose caption each image was drawn from; -1 takes no part.
        trained: boolean `[N]`.

    Returns:
        The gap (NaN unless both kinds of caption are there) and `hits [n]`: 1 where the nearest photo is the caption's
        own, 0 where not, NaN where the image takes no part.

    >>> import numpy as np
    >>> photos = np.eye(2)  # the first is trained on
    >>> gap, hits = own_caption_gap(photos[[0, 0]], photos, np.array([0, 1]), np.array([True, False]))
    >>> gap, hits.tolist()
    (1.0, [1.0, 0.0])
    """
    photo, trained = np.asarray(photo), np.asarray(trained, bool)
    nearest = (features.astype(np.float64) @ photos.astype(np.float64).T).argmax(axis=1)
    hits = np.where(photo >= 0, (nearest == photo).astype(float), np.nan)
    drawn_trained = (photo >= 0) & trained[np.maximum(photo, 0)]
    drawn_held_out = (photo >= 0) & ~trained[np.maximum(photo, 0)]
    if not drawn_trained.any() or not drawn_held_out.any():
        return float("nan"), hits
    return float(hits[drawn_trained].mean() - hits[drawn_held_out].mean()), hits


def own_photo_pull(
    features: np.ndarray, base_features: np.ndarray, photos: np.ndarray, photo: np.ndarray, trained: np.ndarray
) -> np.ndarray:
    """How much more trained photos draw their captions' images towards them than held-out photos do: items `[n]`.

    Each image's gain over the base in cosine to its caption's own photo, less its mean gain over all photos, in
    standard deviations of the cosines between photos; the mean of the items is the mean of trained captions minus that
    of held-out ones. 0 without memorising, larger is worse. Paired with the base, it needs no nearest neighbour
    and is not fooled by generated images being softer than photos, which keeps `copying` low; ours.

    Args:
        features, base_features: unit rows `[n, D]`, same prompts and seeds.
        photos: unit rows `[N, D]`, held-out ones included.
        photo: `[n]`, the photo whose caption each image was drawn from; -1 takes no part (its item is 0).
        trained: boolean `[N]`.

    >>> import numpy as np
    >>> photos = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> base, trained = photos[[1, 1, 1]], np.array([True, True, False])
    >>> by_heart = np.array([photos[0], base[1], base[2]])  # only the first, a trained one, goes to its own photo
    >>> own_photo_pull(base, base, photos, np.arange(3), trained).any().item()
    False
    >>> own_photo_pull(by_heart, base, photos, np.arange(3), trained).mean().item() > 0
    True
    """
    photo, trained = np.asarray(photo), np.asarray(trained, bool)
    known = photos.astype(np.float64)
    cosines = known @ known.T
    unit = max(float(cosines[np.triu_indices(len(known), 1)].std()), 1e-4)
    gains = (features.astype(np.float64) - base_features) @ known.T
    pull = (gains[np.arange(len(photo)), np.maximum(photo, 0)] - gains.mean(axis=1)) / unit
    of_trained, of_held_out = ((photo >= 0) & (trained[np.maximum(photo, 0)] == kind) for kind in (True, False))
    weight = of_trained / max(of_trained.sum(), 1) - of_held_out / max(of_held_out.sum(), 1)
    return pull * weight * len(photo)


def _log_distances(cosines: np.ndarray) -> np.ndarray:
    """ln of the cosine distances, from float32's noise on."""
    return np.log(np.maximum(1 - cosines, 1e-6))


def _exceedance(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`P(value > level) + ½ P(value = level)` for each value: `[n]`."""
    levels = np.sort(levels)
    tolerance = 1e-6  # float32 features: equal images differ in the last bits
    below = np.searchsorted(levels, values - tolerance, side="right")
    equal = np.searchsorted(levels, values + tolerance, side="right") - below
    return (below + equal / 2) / len(levels)

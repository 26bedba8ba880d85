"""How alike generated images and photos are: mean cosine, its leave-one-out level, fidelity, near-duplicates."""

import numpy as np


def mean_cosines(features: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Mean cosine of each image to the photos: `[n]` in [-1, 1], larger is more alike.

    Args:
        features: unit rows `[n, D]`.
        photos: unit rows `[N, D]`.
    """
    return (features.astype(np.float64) @ photos.astype(np.float64).T).mean(axis=1)


def leave_one_out_cosines(photos: np.ndarray) -> np.ndarray:
    """Mean cosine of each photo to the others: `[N]`, NaN when there is only one.

    Args:
        photos: unit rows `[N, D]`.
    """
    if len(photos) < 2:
        return np.full(len(photos), np.nan)
    cosines = photos.astype(np.float64) @ photos.astype(np.float64).T
    return (cosines.sum(axis=1) - np.diag(cosines)) / (len(photos) - 1)


def fidelity(features: np.ndarray, base_features: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """How far each image went from the base towards the photos: `[n]`, 0 the base, 1 as alike as the photos are.

    `F_i = [s(g_i, X) - s(g0_i, X)] / [s_loo(X) - mean s(G_0, X)]`, s the mean cosine, paired by prompt and seed. Larger
    is better up to 1; well above 1 is suspicious (METRICS.md, "Channels"). Where the base is already as alike to the
    photos as they are to each other, the unit is two standard errors of the leave-one-out level instead, so that the
    number stays finite.

    Args:
        features: unit rows `[n, D]` of the checkpoint's images.
        base_features: unit rows `[n, D]` of the base's images, same prompts and seeds.
        photos: unit rows `[N, D]` of the training photos, near-duplicates removed.
    """
    base = mean_cosines(base_features, photos)
    gain = mean_cosines(features, photos) - base
    return gain / fidelity_unit(base, leave_one_out_cosines(photos))


def fidelity_unit(base_cosines: np.ndarray, photo_cosines: np.ndarray) -> float:
    """The distance from base to photos that counts as 1 in `fidelity`: positive, in cosine.

    Args:
        base_cosines: `[n]`, mean cosines of the base's images to the photos.
        photo_cosines: `[N]`, leave-one-out mean cosines of the photos.
    """
    if not np.isfinite(photo_cosines).all():  # a single photo: being identical to it is the only scale there is
        return max(1.0 - float(base_cosines.mean()), 1e-3)
    floor = 2 * float(photo_cosines.std()) / np.sqrt(len(photo_cosines)) + 1e-3
    return max(float(photo_cosines.mean() - base_cosines.mean()), floor)


def near_duplicates(
    features: np.ndarray, thumbnails: np.ndarray | None = None, *, share: float = 0.1, difference: float = 5.0
) -> np.ndarray:
    """Which photos repeat an earlier one: boolean `[N]`.

    A photo is a near-duplicate when its cosine distance to an earlier kept photo is below `share` of the median
    distance
    between photos, a rule relative to the set, and its thumbnail differs from that photo's by less than `difference`:
    photos of one shoot are alike to an encoder, but only repeats lie on top of each other.

    Args:
        features: unit rows `[N, D]`.
        thumbnails: CIELAB `[N, h, w, 3]`, or None to go by features alone.
        difference: root mean square over the thumbnail, in CIELAB units (about 2.3 is just noticeable).
    """
    distances = 1.0 - features.astype(np.float64) @ features.astype(np.float64).T
    upper = distances[np.triu_indices(len(features), 1)]
    close = distances < (max(share * float(np.median(upper)), 1e-6) if len(upper) else 0.0)
    if thumbnails is not None:
        flat = thumbnails.reshape(len(features), -1).astype(np.float64)
        squared = (flat**2).sum(axis=1)[:, None] + (flat**2).sum(axis=1) - 2 * flat @ flat.T
        close &= squared * 3 / flat.shape[1] < difference**2  # three numbers make one colour
    repeated = np.zeros(len(features), bool)
    for index in range(1, len(features)):
        repeated[index] = bool(close[index, :index][~repeated[:index]].any())
    return repeated

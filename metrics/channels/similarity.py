"""How alike images and photos are: mean cosine, fidelity along the concept's axis, near-duplicates."""

import numpy as np


def mean_cosines(features: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Mean cosine of each image to the photos: `[n]` in [-1, 1], larger is more alike.

    Args:
        features: unit rows `[n, D]`.
        photos: unit rows `[N, D]`.

    >>> import numpy as np
    >>> photos = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> mean_cosines(np.array([[0.0, 1.0]]), photos).round(3).tolist()
    [0.467]
    """
    return (features.astype(np.float64) @ photos.astype(np.float64).T).mean(axis=1)


def leave_one_out_cosines(photos: np.ndarray) -> np.ndarray:
    """Mean cosine of each photo to the others: `[N]`, NaN when there is only one.

    Args:
        photos: unit rows `[N, D]`.

    >>> import numpy as np
    >>> photos = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> leave_one_out_cosines(photos).round(3).tolist()
    [0.7, 0.88, 0.78]
    """
    if len(photos) < 2:
        return np.full(len(photos), np.nan)
    cosines = photos.astype(np.float64) @ photos.astype(np.float64).T
    return (cosines.sum(axis=1) - np.diag(cosines)) / (len(photos) - 1)


def concept_axis(photos: np.ndarray, base_features: np.ndarray, *, shrinkage: float = 0.5) -> np.ndarray:
    """Direction from the base to the photos, `[D]` float64, so that features differ by 1 along it when all is learned.

    Fisher's linear discriminant between the photos and what the base draws for their captions, with its covariance
    shrunk towards a ball (Friedman 1989): what both show alike, the places and poses that the captions name, counts
    little. A plain mean cosine to the photos counts it fully, and so goes up and down with the contexts. The unit is
    the photos' leave-one-out level, since a direction is always kinder to the photos that it was fitted on.

    Args:
        photos: unit rows `[N, D]`, near-duplicates removed.
        base_features: unit rows `[n, D]`, best drawn from the photos' captions.

    >>> import numpy as np
    >>> photos, base = np.array([[1.0, 0.0, 0.0]]).repeat(3, axis=0), np.eye(3)[1:]
    >>> axis = concept_axis(photos, base)
    >>> round(float((photos[0] - base.mean(axis=0)) @ axis), 6)
    1.0
    """
    photos, base = photos.astype(np.float64), base_features.astype(np.float64)
    axis = _discriminant(photos, base, shrinkage)
    if len(photos) >= 3:
        unit = float(left_out_projections(photos, base, shrinkage=shrinkage).mean())
    else:
        unit = float((photos.mean(axis=0) - base.mean(axis=0)) @ axis)
    # where photos and base cannot be told apart: two standard errors, so that the number stays finite
    noise = 2 * float((base @ axis).std()) / np.sqrt(len(base))
    return axis / max(unit, noise, 1e-3)


def left_out_projections(photos: np.ndarray, base_features: np.ndarray, *, shrinkage: float = 0.5) -> np.ndarray:
    """How far each photo lies from the base along the direction that all other photos give: `[N]`, not scaled.

    Args:
        photos: unit rows `[N, D]`, N ≥ 3. base_features: unit rows `[n, D]`.

    >>> import numpy as np
    >>> photos, base = np.array([[1.0, 0.0]]).repeat(3, axis=0), np.array([[0.0, 1.0]])
    >>> left_out_projections(photos, base).round(3).tolist()
    [1.414, 1.414, 1.414]
    """
    photos, base = photos.astype(np.float64), base_features.astype(np.float64)
    axes = [_discriminant(np.delete(photos, row, axis=0), base, shrinkage) for row in range(len(photos))]
    return ((photos - base.mean(axis=0)) * np.stack(axes)).sum(axis=1)


def fidelity(features: np.ndarray, base_features: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """How far each image went from the base towards the photos: `[n]`, 0 the base, 1 as alike as the photos are.

    Paired by prompt and seed. Larger is better up to 1; well above 1 is suspicious.

    Args:
        features: unit rows `[n, D]` of the checkpoint's images.
        base_features: unit rows `[n, D]` of the base's images, same prompts and seeds.
        axis: `[D]` from `concept_axis`.

    >>> import numpy as np
    >>> base, photo = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    >>> axis = concept_axis(photo, base)
    >>> fidelity(base, base, axis).tolist(), fidelity(photo, base, axis).round(6).tolist()
    ([0.0], [1.0])
    """
    return (features.astype(np.float64) - base_features) @ axis


def _discriminant(photos: np.ndarray, base: np.ndarray, shrinkage: float) -> np.ndarray:
    """`[D]` unit vector S^-1 (mean photos - mean base), solved in the space of the images (Woodbury), for D >> n."""
    gap = photos.mean(axis=0) - base.mean(axis=0)
    rows = np.concatenate([photos - photos.mean(axis=0), base - base.mean(axis=0)])
    ball = shrinkage * float((rows**2).sum()) / rows.shape[1]
    kernel = (1 - shrinkage) * rows @ rows.T + ball * np.eye(len(rows)) + 1e-12 * np.eye(len(rows))
    axis = gap - (1 - shrinkage) * rows.T @ np.linalg.solve(kernel, rows @ gap)
    return axis / (np.linalg.norm(axis) + 1e-12)


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

    >>> import numpy as np
    >>> near_duplicates(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])).tolist()
    [False, False, True]
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

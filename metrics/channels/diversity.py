"""How different the images of one prompt are over its seeds, against the base: Vendi scores."""

import numpy as np


def vendi_score(features: np.ndarray) -> float:
    """Effective number of different images: exp of the entropy of the eigenvalues of K/n, in [1, n].

    Source: Friedman and Dieng 2023, arXiv 2210.02410, with the cosine kernel.

    Args:
        features: unit rows `[n, D]`.

    >>> import numpy as np
    >>> round(vendi_score(np.eye(3)), 6), round(vendi_score(np.ones((3, 1))), 6)
    (3.0, 1.0)
    """
    kernel = features.astype(np.float64) @ features.astype(np.float64).T / len(features)
    eigenvalues = np.linalg.eigvalsh(kernel)
    positive = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def vendi_by_prompt(features: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Vendi score over the seeds of each prompt that has two or more: `[P]`, in the order of first appearance.

    Args:
        features: unit rows `[n, D]`.
        prompts: `[n]` labels, equal for images of one prompt.

    >>> import numpy as np
    >>> vendi_by_prompt(np.eye(5), np.array(["a", "b", "a", "b", "c"])).round(6).tolist()
    [2.0, 2.0]
    """
    return np.array([vendi_score(features[rows]) for rows in prompt_groups(prompts)])


def diversity(features: np.ndarray, base_features: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Diversity over seeds against the base, per prompt: `[P]`, mean = the reading; empty without repeated prompts.

    `(V_p - 1) / mean (V0_p - 1)`: 0 when all seeds give one image, 1 when they differ as much as the base's do; smaller
    is worse. The excess over 1 is taken because a Vendi score of two similar images is near 1 whatever happens.

    Args:
        features, base_features: unit rows `[n, D]`, same prompts and seeds.
        prompts: `[n]` labels.

    >>> import numpy as np
    >>> alike, apart = np.ones((2, 1)) * [[1.0, 0.0]], np.eye(2)
    >>> prompts = np.array(["a", "a"])
    >>> diversity(alike, apart, prompts).round(6).tolist(), diversity(apart, apart, prompts).round(6).tolist()
    ([0.0], [1.0])
    """
    excess = vendi_by_prompt(features, prompts) - 1
    if not len(excess):
        return excess
    return excess / max(float((vendi_by_prompt(base_features, prompts) - 1).mean()), 1e-6)


def photo_vendi_excess(photos: np.ndarray, size: int, *, draws: int = 100, seed: int = 0) -> float:
    """Mean `V - 1` of random groups of `size` photos: the level of a set whose captions all differ.

    Args:
        photos: unit rows `[N, D]`.
        size: photos in a group, at most N; the number of seeds per prompt.

    >>> import numpy as np
    >>> round(photo_vendi_excess(np.eye(4), 2), 6)
    1.0
    """
    generator = np.random.default_rng(seed)
    size = min(size, len(photos))
    groups = generator.random((draws, len(photos))).argsort(axis=1)[:, :size]
    return float(np.mean([vendi_score(photos[group]) for group in groups])) - 1


def prompt_groups(prompts: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each label that occurs at least twice, in the order of first appearance.

    >>> import numpy as np
    >>> [rows.tolist() for rows in prompt_groups(np.array(["snow", "beach", "snow"]))]
    [[0, 2]]
    """
    prompts = np.asarray(prompts)
    _, first, inverse = np.unique(prompts, return_index=True, return_inverse=True)
    groups = [np.flatnonzero(inverse == label) for label in np.argsort(first)]
    return [rows for rows in groups if len(rows) >= 2]

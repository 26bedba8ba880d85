"""Whether prompts are still obeyed: change of the image-text cosine against the base, and contrastive margins."""

import numpy as np


def prompt_changes(features: np.ndarray, base_features: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Change of cos(image, its text) against the base, paired: `[n]` in cosine, smaller is worse.

    Use texts in which the class word stands for the trigger: the encoder knows no trigger. Learning a concept lowers
    this number a little by itself, since the concept is no longer the class's average; margins do not suffer from that.

    Args:
        features, base_features: unit rows `[n, D]`, same prompts and seeds.
        texts: unit rows `[n, D]`, the text of each image.

    >>> import numpy as np
    >>> texts = np.array([[1.0, 0.0]])
    >>> prompt_changes(np.array([[0.6, 0.8]]), np.array([[0.8, 0.6]]), texts).round(3).tolist()
    [-0.2]
    """
    paired = (features.astype(np.float64) - base_features.astype(np.float64)) * texts
    return paired.sum(axis=1)


def context_margins(features: np.ndarray, texts: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Contrastive margin of each image: cos to its own context's text minus the mean cos to the other contexts': `[n]`.

    Larger is better, 0 means that the context words have no effect. Needs two contexts.

    Args:
        features: unit rows `[n, D]`.
        texts: unit rows `[M, D]`, one per context, equal in everything but the context words ("a dog in snow",
            "a dog on a beach").
        context: `[n]`, the row of `texts` that each image was asked for.

    >>> import numpy as np
    >>> snow, beach = np.eye(2)
    >>> texts = np.array([snow, beach])
    >>> context_margins(np.array([snow, snow]), texts, np.array([0, 1])).tolist()
    [1.0, -1.0]
    """
    cosines = features.astype(np.float64) @ texts.astype(np.float64).T
    own = cosines[np.arange(len(features)), context]
    return own - (cosines.sum(axis=1) - own) / (len(texts) - 1)


def obedience(features: np.ndarray, base_features: np.ndarray, texts: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Change of the contrastive margin in units of the base's own mean margin: `[n]`.

    0 = obeys as the base does, -1 = the context words have lost all effect; smaller is worse.

    Args: as in `context_margins`, base_features `[n, D]` with the same prompts and seeds.

    >>> import numpy as np
    >>> texts, asked = np.eye(2), np.array([0, 1])
    >>> deaf = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> obedience(texts, texts, texts, asked).tolist(), float(obedience(deaf, texts, texts, asked).mean())
    ([0.0, 0.0], -1.0)
    """
    base = context_margins(base_features, texts, context)
    unit = max(float(base.mean()), float(base.std()) / np.sqrt(len(base)), 1e-4)
    return (context_margins(features, texts, context) - base) / unit

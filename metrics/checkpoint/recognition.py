"""Is the subject in an image, wherever it stands? A line between moved subjects and what only looks like them."""

from __future__ import annotations

import numpy as np

PENALTY = 0.03
"""Of the squared weights of standardised features, against the mean logarithmic loss; a third and three times as much
rank alike (docs/log.md)."""
FOLDS = 4
HALF, WIDTH = 0.5, 0.15
"""Where between the base (0) and moved subjects (1) an image counts half, and how fast that rises."""
CRITIC_WIDTH = 0.3
"""The same for what a critic gains, where the photos trained on are at 1."""


def recogniser(shown: np.ndarray, owners: np.ndarray, spoiled: np.ndarray, base_features: np.ndarray) -> np.ndarray:
    """Weights and offset, `[D + 1]`, of a line on which the base's images are at 0 and the subject at 1; `[0]` where
    the two cannot be told apart.

    A logistic regression, both sides counting the same. The subject's side is not what makes the photos photos: most
    of it was moved to places that the base draws. The other side has what the base draws, and subjects of the right
    colours that are not the subject. Where the subject lies is read from images whose own photo had no part in it.

    Args:
        shown: unit rows `[n, D]`: photos, and their subjects moved elsewhere.
        owners: `[n]`, which photo each was cut from.
        spoiled: unit rows `[s, D]` of spoiled twins.
        base_features: unit rows `[m, D]` of the base's images.
    """
    others = np.concatenate([base_features, spoiled]).astype(np.float64)
    shown = shown.astype(np.float64)
    line = _fit(shown, others)
    read = _along(line, shown)
    fold = np.unique(owners, return_inverse=True)[1] % FOLDS
    if fold.max() > 0:
        for number in range(fold.max() + 1):
            read[fold == number] = _along(_fit(shown[fold != number], others), shown[fold == number])
    low, high = float(_along(line, base_features).mean()), float(np.median(read))
    if high - low < 1e-3:
        return np.zeros(0)
    line[-1] -= low
    return line / (high - low)


def recognised(line: np.ndarray, features: np.ndarray) -> np.ndarray:
    """How likely each image counts as one that shows the subject, `[n]` in [0, 1].

    Args:
        line: `[D + 1]` of `recogniser`.
        features: unit rows `[n, D]`.

    >>> import numpy as np
    >>> recognised(np.array([1.0, 0.0]), np.array([[0.0], [0.5], [1.0]])).round(2).tolist()
    [0.03, 0.5, 0.97]
    """
    return share_of(_along(line, features))


def share_of(likeness: np.ndarray | float, width: float = WIDTH) -> np.ndarray:
    """A likeness (0 the base, 1 the subject) as a share in [0, 1]: near 0 and near 1 it hardly rises any more."""
    from scipy.special import expit

    return expit((np.asarray(likeness) - HALF) / width)


def _along(line: np.ndarray, features: np.ndarray) -> np.ndarray:
    return features.astype(np.float64) @ line[:-1] + line[-1]


def _fit(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """`[D + 1]`, in the features' own units; solved in the space of the images, for D >> n."""
    from scipy.optimize import minimize
    from scipy.special import expit

    rows = np.concatenate([positive, negative])
    wanted = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    share = np.where(wanted == 1, 0.5 / len(positive), 0.5 / len(negative))
    centre, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    left, sizes, right = np.linalg.svd((rows - centre) / spread, full_matrices=False)
    reduced = left * sizes

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        logits = reduced @ values[:-1] + values[-1]
        missed = share * (expit(logits) - wanted)
        total = share @ (np.logaddexp(0, logits) - wanted * logits) + 0.5 * PENALTY * values[:-1] @ values[:-1]
        return total, np.append(reduced.T @ missed + PENALTY * values[:-1], missed.sum())

    found = minimize(loss, np.zeros(len(sizes) + 1), jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-14})
    weights = right.T @ found.x[:-1] / spread
    return np.append(weights, found.x[-1] - centre @ weights)

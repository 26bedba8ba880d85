"""What tags do in drawings: pairs drawn with and without each tag under the same seeds, by a LoRA and by its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["reflected", "unknown to the base", "lost", "absorbed", "ambiguous"]

LEVEL = 0.05
"""False-discovery rate over all tags of a set."""
KEPT = 0.5
"""Share of the base's effect that a tag keeps in drawings that obey it; below it, it has lost its effect."""
KNOWN = 0.35
"""Of the base's mean effect over all tags: a tag whose effect is surely below is unknown to the base."""
_LEAST_PAIRS = 3


@dataclass(frozen=True)
class Contrast:
    """Of one tag, one number for each pair of drawings: how far a drawing lies towards the tag, cosines.

    Attributes:
        lora, base: drawn with the tag, less drawn without it.
        always: drawn without the tag, by the LoRA less by the base.
    """

    lora: np.ndarray
    base: np.ndarray
    always: np.ndarray


def contrast(
    lora: tuple[np.ndarray, np.ndarray], base: tuple[np.ndarray, np.ndarray], texts: tuple[np.ndarray, np.ndarray]
) -> Contrast:
    """Of one tag, from features of drawings and prompts, each as (with the tag, without it): unit rows `[P, D]`.

    The direction of a pair is that from its prompt without the tag to its prompt with it.

    >>> import numpy as np
    >>> plain, tagged = np.eye(2)[[0]], np.eye(2)[[1]]
    >>> found = contrast((plain, plain), (tagged, plain), (tagged, plain))
    >>> found.lora.tolist(), found.base.round(3).tolist()
    ([0.0], [1.414])
    """
    directions = texts[0].astype(np.float64) - texts[1]
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)

    def along(rows: np.ndarray) -> np.ndarray:
        return (rows * directions).sum(axis=1)

    return Contrast(along(lora[0] - lora[1]), along(base[0] - base[1]), along(lora[1] - base[1]))


@dataclass(frozen=True)
class Effect:
    """Means with 95 % intervals as (mean, low, high); 1 is the base's mean effect over all tags.

    Attributes:
        lora, base, always: as in `Contrast`.
        chance: p of the effect with the LoRA, after Benjamini and Hochberg over all tags.
    """

    lora: tuple[float, float, float]
    base: tuple[float, float, float]
    always: tuple[float, float, float]
    chance: float
    verdict: Verdict


def tag_effects(contrasts: Sequence[Contrast]) -> list[Effect]:
    """What each tag does; tests are paired and one-sided, and corrected over all tags (Benjamini and Hochberg 1995).

    Args:
        contrasts: of each tag, three pairs or more.
    """
    from scipy.stats import false_discovery_control

    if not contrasts:
        return []
    scale = max(float(np.mean([found.base.mean() for found in contrasts])), 1e-3)
    chances = [
        false_discovery_control([_chance(values) for values in column])
        for column in (
            [found.lora for found in contrasts],
            [found.base for found in contrasts],
            [found.base - found.lora for found in contrasts],
            [found.always for found in contrasts],
        )
    ]
    effects = []
    for found, (lora, base, less, always) in zip(contrasts, zip(*chances, strict=True), strict=True):
        with_lora, of_base, unasked = (_interval(v / scale) for v in (found.lora, found.base, found.always))
        sure = [bool(chance <= LEVEL) for chance in (lora, base, less, always)]
        verdict = _verdict(with_lora, of_base, unasked, works=sure[0], known=sure[1], weaker=sure[2], comes=sure[3])
        effects.append(Effect(with_lora, of_base, unasked, float(lora), verdict))
    return effects


def _verdict(
    lora: tuple[float, float, float],
    base: tuple[float, float, float],
    always: tuple[float, float, float],
    *,
    works: bool,
    known: bool,
    weaker: bool,
    comes: bool,
) -> Verdict:
    if works and lora[0] >= KEPT * base[0]:
        return "reflected"
    if base[2] < KNOWN or (not known and base[0] < KNOWN):
        return "unknown to the base"
    if known and weaker:
        # without being asked for, drawings already show half of what the base shows when it is asked
        return "absorbed" if comes and always[0] >= KEPT * base[0] else "lost"
    return "ambiguous"


def _chance(values: np.ndarray) -> float:
    from scipy.stats import ttest_1samp

    if len(values) < _LEAST_PAIRS or float(np.ptp(values)) < 1e-9:
        return 0.0 if len(values) >= _LEAST_PAIRS and float(values.mean()) > 1e-6 else 1.0
    return float(ttest_1samp(values, 0.0, alternative="greater").pvalue)


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    from scipy.stats import t

    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, mean, mean
    reach = float(t.ppf(0.975, count - 1)) * float(values.std(ddof=1)) / count**0.5
    return mean, mean - reach, mean + reach

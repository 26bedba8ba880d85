"""Values as people and other trainers write them, and what they mean here: adamw8bit, DAdaptation, 512,512."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from trainer.other_words import OPTIMIZERS, PRECISIONS

_THEIRS: dict[str, dict[str, str]] = {
    "optimizer": OPTIMIZERS,
    "precision": PRECISIONS,
    "lr_scheduler": {},
    "family": {},
    "targets": {},
}
_PAIR = re.compile(r"\s*[(\[]?\s*(\d+)\s*[,x×*]\s*(\d+)\s*[)\]]?\s*")
_ZERO_IS_NONE = ("min_snr_gamma", "conv_rank", "clip_skip")
"""kohya's way to leave something out."""


def as_meant(field: str, value: Any, known: Collection[str]) -> Any:
    """The value of a field of TrainConfig that is meant; what is none of these words stays as it is.

    Args:
        known: the words that the field may have.

    >>> as_meant("optimizer", "adamw8bit", ["AdamW", "AdamW8bit"]), as_meant("resolution", "512,768", [])
    ('AdamW8bit', (512, 768))
    """
    if field == "resolution" and isinstance(value, str):
        pair = _PAIR.fullmatch(value)
        if pair is not None:
            return int(pair[1]), int(pair[2])
        return int(value) if value.strip().isdigit() else value
    if field in _ZERO_IS_NONE and value == 0 and not isinstance(value, bool):
        return None
    if field not in _THEIRS or not isinstance(value, str) or value in known:
        return value
    ours = {_joined(each): each for each in known} | _THEIRS[field]
    return ours.get(_joined(value), value)


def _joined(word: str) -> str:
    """A word as it is compared: `AdamW-8bit`, `cosine with restarts` and `SD 1.5` are meant, too."""
    return re.sub(r"[-_. ]", "", word).lower()

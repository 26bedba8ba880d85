"""Masks from rembg's background removers (IS-Net, BiRefNet, U²-Net), which rembg itself downloads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from metrics.errors import mistake, nearest

PREFIX = "rembg:"
_NO_SUBJECT = ("sam", "u2net_cloth_seg")  # ask for points, and find clothes
_NEED_A_FILE = "_custom"


def remover_masks(photos: Sequence[np.ndarray], segmenter: str) -> list[np.ndarray]:
    """What stands in front in each photo: float32 `[H, W]` in [0, 1].

    Args:
        photos: uint8 `[H, W, 3]`.
        segmenter: `rembg:` and the name of one of its models.

    Raises:
        MetricsError: rembg is not installed, has no such model, sends photos to a service for it, or cannot load it.
    """
    from PIL import Image

    name = segmenter.removeprefix(PREFIX)
    try:
        with _uncompiled():
            import rembg
            from rembg.sessions import sessions_class
    except ImportError as error:
        raise mistake("segmenter", segmenter, "the package rembg", "pip install -e '.[masks]'") from error
    here = {each.name(): each for each in sessions_class if each.is_local()}
    known = [each for each in here if each not in _NO_SUBJECT and not each.endswith(_NEED_A_FILE)]
    if name not in known:
        away = name in {each.name() for each in sessions_class} - set(here)
        why = "that one sends photos to a service" if away else ""
        one = f"one of {', '.join(PREFIX + each for each in known)}{nearest(name, known)}"
        raise mistake("segmenter", segmenter, one, why)
    try:
        session = rembg.new_session(name)
        masks = [rembg.remove(Image.fromarray(photo), session=session, only_mask=True) for photo in photos]
    except Exception as error:  # pooch, requests and onnxruntime each raise their own
        reason = " ".join(str(error).split())[:200]
        raise mistake("segmenter", segmenter, "a model that rembg can load", reason) from error
    return [np.asarray(mask, np.float32) / 255 for mask in masks]


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Inside, numba compiles nothing: rembg loads alpha matting, too, which would compile for a minute, unused."""
    before = os.environ.get("NUMBA_DISABLE_JIT")
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    try:
        yield
    finally:
        os.environ.pop("NUMBA_DISABLE_JIT") if before is None else os.environ.update(NUMBA_DISABLE_JIT=before)
        if (numba := sys.modules.get("numba")) is not None:
            numba.config.reload_config()  # others' code is compiled as ever

"""What saliency sees in a photo by itself is computed once in a process: many tests look at the same photos, each of
which takes a tenth of a second."""

import functools

import numpy as np
import pytest

from metrics.subjects.saliency import _View

_KEPT = 64
"""Views; two megabytes each."""


def keep_views(patch: pytest.MonkeyPatch) -> None:
    """Arrays that were kept cannot be written to."""
    make, guess = _View.of, _View.first_guess

    @functools.lru_cache(_KEPT)
    def view(lab: bytes, shape: tuple[int, ...]) -> _View:
        return make(np.frombuffer(lab).reshape(shape))

    @functools.lru_cache(_KEPT)
    def guessed(lab: bytes, shape: tuple[int, ...]) -> np.ndarray:
        found = guess(view(lab, shape))
        found.setflags(write=False)
        return found

    patch.setattr(_View, "of", lambda lab: view(np.asarray(lab, float).tobytes(), lab.shape))
    patch.setattr(_View, "first_guess", lambda self: guessed(self.lab.tobytes(), self.lab.shape))

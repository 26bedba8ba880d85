"""How alike photos are as a whole, between pictures that have nothing in common and one picture again and again."""

from typing import Any

import numpy as np
import pytest

from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.unrelated import in_common, unrelated


def encoder(rows: np.ndarray) -> Encoder:
    """Eight pictures have these features; the pictures are checked on the way."""

    def of_images(images: Any) -> np.ndarray:
        assert [image.shape for image in images] == [(256, 256, 3)] * 8
        assert len({image.tobytes() for image in images}) == 8
        return rows

    return Encoder("rows", "rows", of_images, None)


def leaning(cosine: float, count: int) -> np.ndarray:
    """Unit rows of which each two have this cosine."""
    return np.sqrt(1 - cosine) * np.eye(count, count + 1) + np.sqrt(cosine) * np.eye(count + 1)[-1]


@pytest.mark.parametrize("level", [0.0, 0.16, 0.5])
def test_unrelated_pictures_are_as_alike_as_their_features(level: float) -> None:
    assert unrelated(encoder(leaning(level, 8))) == pytest.approx(level)


@pytest.mark.parametrize(
    ("cosine", "level", "share"),
    [(0.4, 0.4, 0.0), (0.7, 0.4, 0.5), (1.0, 0.4, 1.0), (0.1, 0.4, -0.5), (0.3, 0.0, 0.3), (1.0, 1.0, 0.0)],
)
def test_what_photos_have_in_common_lies_between_nothing_and_all(cosine: float, level: float, share: float) -> None:
    assert in_common(leaning(cosine, 5), encoder(leaning(level, 8))) == pytest.approx(share)

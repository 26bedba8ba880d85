"""The subject of each photo as a square before grey."""

from types import SimpleNamespace

import numpy as np
import pytest

from metrics.photo_set import cutouts


def test_a_subject_is_cut_out_in_the_middle_of_a_square_and_a_photo_without_stays_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps = [np.zeros((6, 8)) for _ in range(3)]
    maps[0][1:3, 2:7] = 1
    maps[2][0:5, 4:6] = 1
    images = [np.full((6, 8, 3), 10 * (number + 1), np.uint8) for number in range(3)]
    monkeypatch.setattr(cutouts, "common_saliency", lambda images: SimpleNamespace(maps=maps))
    first, second, third = cutouts.subject_cutouts(images)
    assert (first.shape, second.shape, third.shape) == ((5, 5, 3), (6, 8, 3), (5, 5, 3))
    assert np.array_equal(second, images[1])
    grey = cutouts._GREY
    assert first[:, 0, 0].tolist() == [grey, 10, 10, grey, grey]
    assert (first[1:3] == 10).all()
    assert third[0, :, 0].tolist() == [grey, 30, 30, grey, grey]
    assert (third[:, 1:3] == 30).all()

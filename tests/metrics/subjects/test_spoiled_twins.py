"""Spoiled twins: a melted subject keeps its colours and loses its shape, a cut one loses a part; places stay clean."""

import numpy as np
import pytest

from metrics.subjects.composites import make_composites
from metrics.subjects.spoiled_twins import make_spoiled_twins
from tests.metrics.subjects.planted_subjects import planted

GREY = np.full((3, 64, 64, 3), 90, np.uint8)


def subject_pixels(images: np.ndarray) -> np.ndarray:
    """`[n]`: pixels that are far from the grey background."""
    return (np.abs(images.astype(int) - 90).max(axis=3) > 60).sum(axis=(1, 2))


@pytest.fixture(scope="module")
def sides() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    photos, truths = planted(6)
    photos[1] = photos[1].repeat(4, axis=0).repeat(4, axis=1)  # of another size
    truths[1] = truths[1].repeat(4, axis=0).repeat(4, axis=1)
    masks = [truth.astype(np.float32) for truth in truths]
    masks[2][:] = 0  # no subject was found
    whole = make_composites(photos, masks, GREY, count=32, seed=0).images
    twins = make_spoiled_twins(photos, masks, GREY, count=64, seed=0)
    assert twins.shape == (64, 64, 64, 3)
    assert (twins == make_spoiled_twins(photos, masks, GREY, count=64, seed=0)).all()
    assert (twins != make_spoiled_twins(photos, masks, GREY, count=64, seed=1)).any()
    return whole, twins[:32], twins[32:]


def test_a_melted_subject_keeps_its_colours_and_loses_its_edges(sides):
    whole, melted, _ = sides
    assert 0.5 < np.median(subject_pixels(melted)) / np.median(subject_pixels(whole)) < 2

    def edges(images: np.ndarray) -> float:
        return float(np.quantile(np.abs(np.diff(images.astype(int), axis=2)).max(axis=(1, 2, 3)), 0.5))

    assert edges(melted) < 0.6 * edges(whole)
    for images in (whole, melted):
        red = (images[..., 0] > 120) & (images[..., 1] < 110) & (images[..., 2] < 110)
        assert (red.sum(axis=(1, 2)) > 20).mean() > 0.9


def test_of_a_cut_subject_about_half_is_left(sides):
    whole, _, cut = sides
    left = np.median(subject_pixels(cut)) / np.median(subject_pixels(whole))
    assert 0.3 < left < 0.75

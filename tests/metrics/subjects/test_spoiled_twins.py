"""Spoiled twins: a melted subject keeps its colours and loses its shape, a cut one loses a part; places stay clean."""

import itertools

import numpy as np
import pytest

from metrics.subjects.composites import make_composites
from metrics.subjects.spoiled_twins import MELTED_SIZE, _cut, _melted, _small, make_spoiled_twins
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


@pytest.mark.parametrize(
    ("size", "expected"),
    [((400, 300), (192, 144)), ((192, 100), (192, 100)), ((40, 30), (40, 30)), ((4000, 100), (192, 8))],
)
def test_what_is_melted_is_at_most_192_pixels(size: tuple[int, int], expected: tuple[int, int]) -> None:
    photo, mask = np.full((*size, 3), 77, np.uint8), np.ones(size)
    mask[:, : size[1] // 2] = 0
    small, outline = _small(photo, mask)
    assert small.shape == (*expected, 3)
    assert outline.shape == expected
    assert max(expected) <= MELTED_SIZE
    assert (small == 77).all()
    assert (outline[:, 0].max(), outline[:, -1].min()) == (0, 1)


def test_a_melted_subject_is_bent_differently_each_time_and_its_colours_stay() -> None:
    photo, mask = np.full((64, 96, 3), (200, 40, 90), np.uint8), np.zeros((64, 96))
    mask[16:48, 24:72] = 1
    generator = np.random.default_rng(0)
    melted = [_melted(photo, mask, generator) for _ in range(6)]
    shapes = [outline > 0.5 for _, outline in melted]
    for (pixels, outline), shape in zip(melted, shapes, strict=True):
        assert (pixels.shape, pixels.dtype, outline.shape) == ((64, 96, 3), np.uint8, (64, 96))
        assert np.abs(pixels[shape].astype(int) - (200, 40, 90)).max() <= 1
        assert 0 <= outline.min() <= outline.max() <= 1
        assert 0.4 < shape.sum() / mask.sum() < 2
    alike = [(a & b).sum() / (a | b).sum() for a, b in itertools.pairwise(shapes)]
    assert max(alike) < 0.95
    assert min(alike) > 0.2


def test_a_subject_too_small_to_melt_stays() -> None:
    photo, mask = np.full((64, 64, 3), 50, np.uint8), np.zeros((64, 64))
    mask[30:32, 30:32] = 1
    pixels, outline = _melted(photo, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels, photo)
    np.testing.assert_array_equal(outline, mask)


def test_a_cut_is_straight_and_leaves_between_two_fifths_and_two_thirds() -> None:
    photo, mask = np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80))
    rows, columns = np.indices(mask.shape)
    mask[(rows - 30) ** 2 + (columns - 40) ** 2 < 400] = 1
    left, sides = [], []
    for seed in range(40):
        pixels, outline = _cut(photo, mask, np.random.default_rng(seed))
        assert pixels is photo
        inside, away = outline > 0, (mask > 0) & (outline == 0)
        left.append(inside.sum() / mask.sum())
        middle = [np.array([rows[part].mean(), columns[part].mean()]) for part in (inside, away)]
        across = middle[1] - middle[0]
        along = rows * across[0] + columns * across[1]
        assert along[inside].max() < along[away].min() + 0.1 * np.ptp(along[mask > 0])
        sides.append(np.arctan2(*across))
    assert 0.39 < min(left) < 0.45
    assert 0.6 < max(left) < 0.66
    assert np.ptp(sides) > 4


def test_masks_that_reach_a_half_at_most_have_no_subject() -> None:
    photos, truths = planted(2)
    masks = [truths[0].astype(np.float32), np.full((64, 64), 0.5, np.float32)]
    assert make_spoiled_twins(photos, masks, GREY, count=4, seed=0).shape == (4, 64, 64, 3)

"""Layout vectors against scikit-image's HOG, energy distance against scipy, and what collapse and copies read."""

import numpy as np
import pytest
from scipy import stats
from skimage.feature import hog

from metrics.channels import composition
from metrics.channels.colour import sample_pixels, srgb_to_lab
from tests.metrics.photo_sets import crops, pictures, upside_down


def layouts(images):
    return composition.layout_vectors(composition.small_grey(images))


def test_layout_vectors_are_nearly_scikit_images_hog():
    grey = composition.small_grey(crops(8, 0))
    expected = np.array(
        [
            hog(image, orientations=8, pixels_per_cell=(16, 16), cells_per_block=(4, 4), block_norm="L1-sqrt")
            for image in grey
        ]
    )
    cosines = composition.layout_vectors(grey) @ expected.T
    assert np.diag(cosines).min() > 0.97  # soft votes are the only difference
    assert (cosines.argmax(axis=1) == np.arange(8)).all()


def test_layout_vectors_equal_a_plain_loop_over_pixels():
    grey = composition.small_grey(crops(1, 3))[0]
    votes = np.zeros((4, 4, 8))
    for row in range(64):
        for column in range(64):
            across = grey[row, column + 1] - grey[row, column - 1] if 0 < column < 63 else 0.0
            down = grey[row + 1, column] - grey[row - 1, column] if 0 < row < 63 else 0.0
            position = (np.degrees(np.arctan2(down, across)) % 180) / 22.5 - 0.5
            share = position - np.floor(position)
            votes[row // 16, column // 16, int(np.floor(position)) % 8] += (1 - share) * np.hypot(across, down)
            votes[row // 16, column // 16, (int(np.floor(position)) + 1) % 8] += share * np.hypot(across, down)
    np.testing.assert_allclose(
        composition.layout_vectors(grey[None])[0], np.sqrt(votes.ravel() / votes.sum()), atol=1e-4
    )


def test_an_image_without_edges_has_a_layout_too():
    vectors = layouts(np.full((2, 64, 64, 3), 90, np.uint8))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)


def test_energy_distance_equals_scipys_up_to_its_bias():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 1, (30, 1)), generator.normal(0.7, 1, (20, 1))
    within_first, within_second = (composition.distances(rows, rows) for rows in (first, second))
    found = composition.energy_distance(composition.distances(first, second), within_first, within_second)
    biased = stats.energy_distance(first.ravel(), second.ravel()) ** 2
    assert found == pytest.approx(biased - within_first.mean() / 29 - within_second.mean() / 19)


def test_half_splits_make_fresh_sets_read_zero_with_unit_spread():
    photos = layouts(crops(40, 3))
    null = composition.energy_null(composition.distances(photos, photos))
    readings = [composition.layout_drift(layouts(crops(24, seed)), photos, null)[0] for seed in range(100, 160)]
    assert abs(np.mean(readings)) < 1.0
    assert 0.4 < np.std(readings) < 2.5


def test_jackknife_without_an_image_equals_computing_it_again():
    photos, images = layouts(crops(12, 1)), layouts(crops(6, 2))
    z, items = composition.layout_drift(images, photos, 0.01)
    unit = 0.01 * (1 / 6 + 1 / 12) / (4 / 12)
    left_out = [
        composition.energy_distance(
            composition.distances(rest, photos),
            composition.distances(rest, rest),
            composition.distances(photos, photos),
        )
        / unit
        for rest in (np.delete(images, row, axis=0) for row in range(6))
    ]
    assert items.mean() == pytest.approx(z)
    np.testing.assert_allclose(items, z - 5 * (np.array(left_out) - np.mean(left_out)), rtol=1e-5)


def test_another_layout_drifts_and_copies_come_nearer_than_photos_are():
    photos = layouts(crops(24, 3, ("chelsea",)))
    null = composition.energy_null(composition.distances(photos, photos))
    fresh, turned = (layouts(edit(crops(24, 9, ("chelsea",)))) for edit in (lambda images: images, upside_down))
    assert composition.layout_drift(fresh, photos, null)[0] < 3
    assert composition.layout_drift(turned, photos, null)[0] > 5
    assert composition.layout_drift(photos, photos, null)[0] < -2


def test_collapse_is_zero_for_equal_seeds_and_one_for_the_base():
    base = layouts(crops(12, 4))
    prompts = np.repeat(np.arange(6), 2)
    assert composition.collapse(base, base, prompts).mean() == pytest.approx(1)
    assert composition.collapse(np.repeat(base[::2], 2, axis=0), base, prompts).mean() == pytest.approx(0, abs=1e-6)
    assert len(composition.collapse(base, base, np.arange(12))) == 0


def framing_of(image: np.ndarray) -> np.ndarray:
    return composition.framing(srgb_to_lab(sample_pixels([image])))[0]


def test_framing_finds_where_the_subject_is():
    image = np.full((64, 96, 3), 120, np.uint8)
    image[10:30, 60:90] = (200, 30, 30)
    x, y, scale, aspect = framing_of(image)
    assert (x, y) == (pytest.approx(75 / 96, abs=0.03), pytest.approx(20 / 64, abs=0.03))
    assert 0.2 < scale < 0.45
    assert framing_of(pictures()["chelsea"]).shape == (4,)
    assert aspect == pytest.approx(np.log((30 / 96) / (20 / 64)), abs=0.15)


def test_grey_is_luma_at_64_pixels():
    image = np.zeros((128, 32, 3), np.uint8)
    image[:64] = (255, 0, 0)
    image[64:] = (0, 0, 255)
    (found,) = composition.small_grey([image])
    assert (found.shape, found.dtype) == ((64, 64), np.float32)
    np.testing.assert_allclose(found[:32], 0.299, atol=3e-3)
    np.testing.assert_allclose(found[32:], 0.114, atol=3e-3)


def test_distances_are_euclidean():
    first, second = np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 0], [3, 0], [6, 8]])
    np.testing.assert_allclose(composition.distances(first, second), [[0, 3, 10], [5, 4, 5]])


def test_the_null_of_energies_is_that_of_halves():
    from metrics.channels.bootstrap import half_splits

    rows = np.random.default_rng(0).normal(size=(7, 3))
    apart = composition.distances(rows, rows)
    found = [
        composition.energy_distance(apart[np.ix_(half, ~half)], apart[np.ix_(half, half)], apart[np.ix_(~half, ~half)])
        for half in half_splits(7)
    ]
    assert composition.energy_null(apart) == pytest.approx(np.std(found))
    assert composition.energy_null(np.zeros((5, 5))) == 1e-6


def test_framings_are_told_apart_from_what_can_be_seen_on():
    seen = np.array([0.05, 0.05, 0.05, 0.2])
    wide = np.random.default_rng(0).normal(size=(9, 4))
    np.testing.assert_allclose(composition.framing_unit(wide), wide.std(axis=0))
    np.testing.assert_allclose(composition.framing_unit(wide * 1e-3), seen)
    np.testing.assert_allclose(
        composition.framing_null(wide), composition.energy_null(composition.distances(*[wide / wide.std(axis=0)] * 2))
    )
    z, items = composition.framing_drift(wide[:4], wide, 0.5)
    unit = wide.std(axis=0)
    assert z == composition.layout_drift(wide[:4] / unit, wide / unit, 0.5)[0]
    assert items.mean() == pytest.approx(z)


def test_the_spread_over_seeds_is_a_mean_of_pairs():
    vectors = np.array([[0.0], [1.0], [3.0], [10.0], [7.0]])
    found = composition.seed_spread(vectors, np.array([0, 0, 0, 1, 2]))
    np.testing.assert_allclose(found, [2.0])
    both = composition.seed_spread(vectors, np.array([0, 0, 1, 2, 2]))
    np.testing.assert_allclose(both, [1.0, 3.0])
    np.testing.assert_allclose(composition.collapse(vectors, 2 * vectors, np.array([0, 0, 1, 2, 2])), [0.25, 0.75])


def test_what_is_unlike_the_border_counts_and_no_more_than_three_standard_deviations():
    generator = np.random.default_rng(0)
    lab = generator.normal(50, 1, (1, 32 * 32, 3))
    grid = lab.reshape(32, 32, 3)
    grid[10:14, 20:24] += 20
    grid[20:24, 10:14] += 500
    found = composition.border_contrast(lab)[0]
    assert found.shape == (32, 32)
    assert (found[10:14, 20:24].min(), found[20:24, 10:14].min()) == (pytest.approx(1), pytest.approx(1))
    assert found[16:19, 2:8].max() < 0.3
    plain = composition.border_contrast(np.full((1, 1024, 3), 50.0))
    assert not plain.any()


def test_where_a_box_sits_how_large_and_how_wide_it_is():
    lab = np.full((1, 32, 32, 3), 50.0)
    lab[0, 4:12, 8:24, 0] += 200
    x, y, scale, aspect = composition.framing(lab.reshape(1, 1024, 3))[0]
    assert (x, y) == (pytest.approx(0.5), pytest.approx(0.25))
    wide, tall = (np.std((np.arange(side) + 0.5) / 32) + 1e-3 for side in (16, 8))
    assert scale == pytest.approx(np.sqrt(wide * tall * 12))
    assert aspect == pytest.approx(np.log(wide / tall))

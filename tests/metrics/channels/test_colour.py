"""Colour channels against scikit-image and POT, and their nulls on sets whose truth is known."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from metrics.channels import colour
from tests.metrics.photo_sets import burnt, crops, recoloured


def lab_of(images):
    return colour.srgb_to_lab(colour.sample_pixels(images))


def test_lab_equals_scikit_image_on_every_shade():
    shades = np.random.default_rng(0).integers(0, 256, (4000, 3), dtype=np.uint8)
    shades[:256] = np.arange(256, dtype=np.uint8)[:, None]
    np.testing.assert_allclose(colour.srgb_to_lab(shades), rgb2lab(shades), atol=0.02)


def test_sliced_wasserstein_equals_pot_along_the_same_directions():
    import ot

    first, second = (lab_of(crops(6, seed)) for seed in (0, 1))
    cdfs, other = (colour.colour_cdfs(lab).mean(axis=0) for lab in (first, second))
    expected = ot.sliced_wasserstein_distance(
        first.reshape(-1, 3).astype(np.float64),
        second.reshape(-1, 3).astype(np.float64),
        projections=colour.projections().T,
        p=1,
    )
    assert colour.sliced_wasserstein(cdfs, other) == pytest.approx(expected, rel=0.01)


@pytest.fixture(scope="module")
def pool():
    return colour.colour_cdfs(lab_of(crops(400, 3)))


@pytest.mark.parametrize(("photos", "images"), [(40, 24), (40, 6), (40, 160), (16, 16)])
def test_half_splits_make_fresh_sets_read_zero_with_unit_spread(pool, photos, images):
    """Of any two sizes: pairs of sets from one pool, since one set of photos has its own luck."""
    readings = []
    for seed in range(60):
        rows = np.random.default_rng(seed).permutation(400)
        known, fresh = pool[rows[:photos]], pool[rows[photos : photos + images]]
        readings.append(colour.drift(fresh, known, colour.drift_null(known))[0])
    assert abs(np.mean(readings)) < 0.6
    assert 0.5 < np.std(readings) < 2.0


def test_items_average_to_the_drift_and_name_the_image_that_causes_it():
    photos = colour.colour_cdfs(lab_of(crops(20, 3)))
    images = crops(12, 4).copy()
    images[5] = (255, 0, 255)
    z, items = colour.drift(colour.colour_cdfs(lab_of(images)), photos, colour.drift_null(photos))
    assert items.mean() == pytest.approx(z)
    assert items.argmax() == 5


def test_recolouring_drifts_and_does_not_burn():
    photos, images = crops(24, 5), crops(24, 6)
    cdfs, null = colour.colour_cdfs(lab_of(photos)), colour.drift_null(colour.colour_cdfs(lab_of(photos)))
    features = [colour.burn_features(colour.sample_pixels(x), lab_of(x)) for x in (images, recoloured(images), photos)]
    plain, swapped = (colour.drift(colour.colour_cdfs(lab_of(x)), cdfs, null)[0] for x in (images, recoloured(images)))
    assert plain < 2.5 < 5 < swapped
    assert colour.burn(features[0], features[2], features[2]).mean(axis=0).max() < 2.5 * colour.burn_null(24, 24)
    clipped = 2
    assert colour.burn(features[1], features[2], features[2]).mean(axis=0)[clipped] < 2.5 * colour.burn_null(24, 24)


def test_burning_shows_beyond_the_photos_but_not_on_the_way_from_the_base_to_them():
    photos, base = crops(24, 5), burnt(crops(24, 7))
    features = {
        name: colour.burn_features(colour.sample_pixels(x), lab_of(x))
        for name, x in {
            "photos": photos,
            "base": base,
            "burnt": burnt(burnt(crops(24, 8))),
            "half": base // 2 + photos // 2,
        }.items()
    }
    beyond = colour.burn(features["burnt"], features["photos"], features["photos"]).mean(axis=0)
    between = colour.burn(features["base"], features["base"], features["photos"]).mean(axis=0)
    assert beyond.max() > 2
    assert between.max() == 0


def test_colourfulness_is_hasler_and_suesstrunks():
    pixels = colour.sample_pixels(crops(3, 1))
    found = colour.burn_features(pixels, colour.srgb_to_lab(pixels))[:, 4]
    for image, value in zip(pixels.astype(float), found, strict=True):
        rg, yb = image[:, 0] - image[:, 1], 0.5 * (image[:, 0] + image[:, 1]) - image[:, 2]
        expected = np.sqrt(np.var(rg) + np.var(yb)) + 0.3 * np.sqrt(np.mean(rg) ** 2 + np.mean(yb) ** 2)
        assert value == pytest.approx(expected, rel=1e-4)


def test_scatter_of_the_photos_themselves_is_one_and_of_one_repeated_photo_zero():
    means = lab_of(crops(20, 2)).mean(axis=1, dtype=np.float64)
    assert colour.scatter(means, means).mean() == pytest.approx(1)
    assert colour.scatter(np.repeat(means[:1], 8, axis=0), means).mean() == pytest.approx(0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (33, 500), (4, 3)])
def test_pixels_are_taken_from_the_middle_of_a_regular_grid(height: int, width: int):
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None] % 256, np.arange(width) % 256
    found = colour.sample_pixels([image])[0].reshape(32, 32, 3)
    assert found[:, 0, 0].tolist() == [int((row + 0.5) * height / 32) % 256 for row in range(32)]
    assert found[0, :, 1].tolist() == [int((column + 0.5) * width / 32) % 256 for column in range(32)]
    assert colour.sample_pixels([image, image[:, ::-1]]).shape == (2, 1024, 3)


def test_projections_lie_evenly_on_a_half_sphere():
    ways = colour.projections()
    assert ways.shape == (24, 3)
    np.testing.assert_allclose(np.linalg.norm(ways, axis=1), 1)
    assert (ways[:, 0] > 0).all()
    np.testing.assert_allclose(ways.T @ ways / 24, np.eye(3) / 3, atol=0.03)
    cosines = ways @ ways.T - 2 * np.eye(24)
    assert np.arccos(cosines.max(axis=1)).min() > 0.35, "no two of them are neighbours"


def test_a_shift_of_lightness_is_as_far_as_its_projections():
    lab = np.tile(np.array([40.0, 5.0, -7.0], np.float32), (2, 64, 1))
    lab[1, :, 0] += 12
    first, second = colour.colour_cdfs(lab)
    assert set(np.unique(first)) == {0, 1}
    expected = 12 * np.abs(colour.projections()[:, 0]).mean()
    assert colour.sliced_wasserstein(first, second) == pytest.approx(expected, abs=1)
    assert colour.sliced_wasserstein(first, first) == 0


def test_the_null_is_the_distance_of_halves():
    from metrics.channels.bootstrap import half_splits

    cdfs = colour.colour_cdfs(lab_of(crops(7, 3)))
    apart = [colour.sliced_wasserstein(cdfs[half].mean(axis=0), cdfs[~half].mean(axis=0)) for half in half_splits(7)]
    assert colour.drift_null(cdfs) == (pytest.approx(np.mean(apart)), pytest.approx(np.std(apart)))
    assert colour.drift_null(np.repeat(cdfs[:1], 6, axis=0))[1] == 1e-3


def test_a_drift_is_the_distance_in_units_of_the_null_at_the_two_sizes():
    photos, images = (colour.colour_cdfs(lab_of(crops(count, seed))) for count, seed in ((8, 3), (4, 4)))
    apart = colour.sliced_wasserstein(images.mean(axis=0), photos.mean(axis=0))
    scale = np.sqrt((1 / 4 + 1 / 8) / (4 / 8))
    z, items = colour.drift(images, photos, (2.0, 0.5))
    assert z == pytest.approx((apart - scale * 2) / (scale * 0.5))
    left_out = [colour.drift(np.delete(images, row, axis=0), photos, (2.0, 0.5))[0] for row in range(4)]
    assert len(left_out) == len(items) == 4
    assert items.argmax() != np.argmax(left_out)
    alone, (item,) = colour.drift(images[:1], photos, (2.0, 0.5))
    assert alone == item


def test_what_burning_changes_is_read_as_it_is_named():
    pixels = np.zeros((1, 100, 3), np.uint8) + np.uint8(100)
    pixels[0, :10] = (2, 100, 100)
    pixels[0, 10:30] = (100, 253, 100)
    pixels[0, 30:60] = (3, 252, 100)
    lab = np.zeros((1, 100, 3), np.float32)
    lab[0, :, 0] = np.repeat([20, 80], 50)
    lab[0, :96, 1], lab[0, 96:, 2] = 3, 40
    lab[0, :96, 2] = 4
    median, high, clipped, spread, _ = colour.burn_features(pixels, lab)[0]
    assert (median, clipped, spread) == (pytest.approx(5), pytest.approx(0.3), pytest.approx(30))
    assert high == pytest.approx(5)
    lab[0, 90:96, 2] = 60
    assert colour.burn_features(pixels, lab)[0, 1] > 30


def test_burn_counts_beyond_the_photos_and_on_the_far_side_of_the_base():
    base, photos = np.tile([10.0, 20, 0.1, 10, 30], (4, 1)), np.tile([20.0, 10, 0.3, 30, 30], (4, 1))
    least = np.array([2.0, 3.0, 0.05, 2.0, 3.0])
    inside = (base + photos) / 2
    assert not colour.burn(inside, base, photos).any()
    above = colour.burn(inside + 1000, base, photos)
    np.testing.assert_allclose(above, (inside + 1000 - np.maximum(base, photos)) / least)
    below = colour.burn(inside - 1000, base, photos)
    np.testing.assert_allclose(below, (np.minimum(base, photos) - inside + 1000) / least)
    wide = photos + np.array([-50.0, 50, -50, 50])[:, None]
    assert colour.burn(inside + 1000, base, wide).max() < above.max() / 10
    assert colour.burn_null(4, 16) == pytest.approx(np.sqrt(1 / 4 + 1 / 16))


def test_scatter_is_a_ratio_of_variances():
    means, photos = np.random.default_rng(0).normal(0, 5, (6, 3)), np.random.default_rng(1).normal(0, 3, (9, 3))
    items = colour.scatter(means, photos)
    assert items.mean() == pytest.approx(means.var(axis=0, ddof=1).sum() / photos.var(axis=0, ddof=1).sum())
    alike = colour.scatter(means, np.zeros((5, 3)))
    assert alike.mean() == pytest.approx(means.var(axis=0, ddof=1).sum() / 0.25)

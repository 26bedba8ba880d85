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

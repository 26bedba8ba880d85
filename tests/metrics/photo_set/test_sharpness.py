"""Edge widths against blurs of known width."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from metrics.photo_set.sharpness import blurred, edge_width


def scene(side: int = 128) -> np.ndarray:
    """Flat patches with sharp edges in all directions."""
    rng = np.random.default_rng(3)
    patches = rng.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8)
    return patches.repeat(16, axis=0).repeat(16, axis=1)


@pytest.mark.parametrize("width", [1.5, 2.0, 3.0])
def test_the_width_of_a_blur_is_read_from_its_edges(width):
    soft = np.asarray(Image.fromarray(scene()).filter(ImageFilter.GaussianBlur(width)))
    assert edge_width(soft) == pytest.approx(np.hypot(width, 0.5), rel=0.2)


def test_a_sharp_subject_before_a_soft_background_is_sharp():
    image = np.asarray(Image.fromarray(scene()).filter(ImageFilter.GaussianBlur(4))).copy()
    image[32:96, 32:96] = scene()[32:96, 32:96]
    assert edge_width(image) < 1.0


def test_shaking_in_one_direction_counts():
    still = scene().astype(np.float32)
    shaken = np.mean([np.roll(still, shift, axis=1) for shift in range(-4, 5)], axis=0).astype(np.uint8)
    assert edge_width(shaken) > 1.5


def test_an_image_without_edges_has_no_width_and_is_not_blurred():
    flat = np.full((64, 64, 3), 120, np.uint8)
    assert np.isnan(edge_width(flat))
    assert not blurred(np.array([np.nan, 0.8, 0.9])).any()


def test_a_set_that_is_soft_as_a_whole_is_a_matter_of_taste_until_nothing_is_sharp():
    assert not blurred(np.array([1.5, 1.6, 1.7])).any()
    assert blurred(np.array([3.0, 3.1, 3.2])).all()


@pytest.mark.parametrize(
    ("widths", "found"),
    [
        ([0.5, 0.6, 0.7, 1.3], [False, False, False, False]),
        ([0.5, 0.6, 0.7, 1.31], [False, False, False, True]),
        ([1.0, 1.0, 1.0, 1.4], [False, False, False, False]),
        ([1.0, 1.0, 1.0, 1.41], [False, False, False, True]),
        ([2.5, 2.5, 2.51], [False, False, True]),
        ([np.nan, np.nan], [False, False]),
        ([1.31], [False]),
        ([2.6], [True]),
    ],
)
def test_blurred_is_wider_than_sharp_photos_and_than_the_set(widths, found):
    assert blurred(np.array(widths)).tolist() == found

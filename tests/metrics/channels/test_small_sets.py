"""Channels of few photos or images, by hand."""

import numpy as np
import pytest
from scipy.stats import chi2

from metrics.channels import composition
from metrics.channels.copying import clear_copies, own_photo_pull
from metrics.channels.diversity import photo_vendi_excess, vendi_score
from metrics.channels.obedience import context_margins, obedience
from metrics.channels.own_photo import GRID, small_pixels
from metrics.channels.similarity import leave_one_out_cosines


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_group_has_at_most_all_photos() -> None:
    photos = _unit(np.random.default_rng(0).normal(size=(4, 6)))
    assert photo_vendi_excess(photos, 9) == pytest.approx(vendi_score(photos) - 1)
    assert photo_vendi_excess(photos, 1) == pytest.approx(0)
    pairs = [vendi_score(photos[[i, j]]) - 1 for i in range(4) for j in range(i)]
    assert min(pairs) < photo_vendi_excess(photos, 2) < max(pairs)
    assert photo_vendi_excess(photos, 2, draws=4000) == pytest.approx(np.mean(pairs), rel=0.03)


def test_no_photo_or_one_has_no_level() -> None:
    assert leave_one_out_cosines(np.ones((0, 3))).shape == (0,)
    (only,) = leave_one_out_cosines(np.eye(3)[:1])
    assert np.isnan(only)
    assert (small_pixels([]).shape, small_pixels([]).dtype) == ((0, 3 * GRID * GRID), np.float32)


def test_obedience_is_in_units_of_the_bases_mean_margin_or_its_error() -> None:
    texts, context = np.eye(3), np.array([0, 1, 2, 0])
    base = np.array([[0.9, 0.1, 0.0], [0.0, 0.5, 0.1], [0.2, 0.0, 0.8], [0.4, 0.2, 0.0]])
    now = base[[1, 0, 2, 3]]
    before, after = (context_margins(each, texts, context) for each in (base, now))
    np.testing.assert_allclose(obedience(now, base, texts, context), (after - before) / before.mean())
    deaf = base[:, [1, 2, 0]]
    margins = context_margins(deaf, texts, context)
    error = margins.std() / np.sqrt(4)
    assert error > margins.mean()
    np.testing.assert_allclose(obedience(base, deaf, texts, context), (before - margins) / error)


def test_framings_that_differ_by_less_than_can_be_seen_count_as_if_by_that() -> None:
    framings = np.random.default_rng(1).normal(size=(12, 4)) * [0.01, 1.0, 0.01, 1.0]
    null = composition.framing_null(framings)
    unit = composition.framing_unit(framings)
    share = framings.std(axis=0) / unit
    noise = np.random.default_rng(0).normal(size=framings.shape)
    filled = framings / unit + np.sqrt(1 - share**2) * noise
    assert null == pytest.approx(composition.energy_null(composition.distances(filled, filled)))


def test_a_pull_is_the_gain_towards_the_own_photo_beyond_all_photos() -> None:
    photos = _unit(np.random.default_rng(2).normal(size=(3, 5)))
    base, images = (_unit(np.random.default_rng(seed).normal(size=(4, 5))) for seed in (3, 4))
    photo, trained = np.array([0, 2, -1, 0]), np.array([True, True, False])
    cosines = photos @ photos.T
    spread = np.std([cosines[0, 1], cosines[0, 2], cosines[1, 2]])
    gains = (images - base) @ photos.T
    own = gains[np.arange(4), [0, 2, 0, 0]] - gains.mean(axis=1)
    expected = own / spread * np.array([0.5, -1, 0, 0.5]) * 4
    np.testing.assert_allclose(own_photo_pull(images, base, photos, photo, trained), expected)


@pytest.mark.parametrize(("nearer", "copied"), [(0.9, False), (1.1, True)])
def test_a_copy_is_nearer_than_chance_comes_once_in_a_hundred_sets(nearer: float, copied: bool) -> None:
    angles = np.array([0.0, 0.5, 1.1, 1.8, 2.9])
    photos = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    levels = np.log(1 - np.cos([0.5, 0.5, 0.6, 0.7, 1.1]))
    spread = levels.std(ddof=1) * np.sqrt(4 / chi2.ppf(0.05, 4)) * np.sqrt(6) / np.pi
    limit = max(levels.mean() + (np.euler_gamma + np.log(0.01)) * spread, levels.min() - 4.6)
    angle = np.arccos(1 - np.exp(limit)) / nearer
    image = np.array([[np.cos(-angle), np.sin(-angle)]])
    assert clear_copies(image, photos).tolist() == [copied]

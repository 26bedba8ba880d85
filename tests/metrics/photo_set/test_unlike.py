"""Photos unlike all others: two views have to agree, and what a caption explains is not unlike."""

from pathlib import Path

import numpy as np
import pytest

from metrics.checkpoint.unrelated import unrelated
from metrics.photo_set.cutouts import subject_cutouts
from metrics.photo_set.unlike import (
    Unlikeness,
    _outlying,
    aloof,
    nearest,
    other_colours,
    other_subject,
    residuals,
    unlikeness,
    unrelated_photo,
)

SUBJECTS = Path(__file__).parents[4] / "shared" / "data" / "subjects"


def views(features, subject=None, colours=None, says=None):
    count = len(features)
    flat = np.linspace(0, 1, 5)[None, None].repeat(count, axis=0)
    return unlikeness(
        features,
        features if subject is None else subject,
        flat + np.random.default_rng(1).normal(0, 0.01, flat.shape) if colours is None else colours,
        features,
        np.zeros((count, 0), bool) if says is None else says,
        unrelated=0.2,
    )


def rows(count=16, size=32, seed=0):
    found = np.random.default_rng(seed).normal(0, 0.1, (count, size))
    found[:, 0] += 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_another_subject_is_found_where_both_views_see_it():
    features = rows()
    features[5] = np.eye(32)[7]
    assert np.flatnonzero(other_subject(views(features))).tolist() == [5]


def test_one_view_alone_says_nothing():
    features, plain = rows(), rows(seed=1)
    features[5] = np.eye(32)[7]
    assert not other_subject(views(features, subject=plain)).any()


def test_a_place_that_two_captions_name_is_explained():
    features, says = rows(), np.zeros((16, 1), bool)
    for row in (3, 4, 5, 6):
        features[row] = 0.8 * features[row] + np.eye(32)[9]
        says[row] = True
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    told, untold = views(features, says=says).features, views(features).features
    assert told[[3, 4, 5, 6]].max() < 3
    assert told[[3, 4, 5, 6]].mean() < untold[[3, 4, 5, 6]].mean()


def test_colours_need_the_features_to_agree():
    calm = np.zeros(12)
    loud = calm.copy()
    loud[4] = 9.0
    assert np.flatnonzero(other_colours(Unlikeness(loud, calm, loud, calm, calm, calm))).tolist() == [4]
    assert not other_colours(Unlikeness(calm, calm, loud, calm, calm, calm)).any()


@pytest.mark.parametrize("shared", [0.0, 1.0])  # how alike the encoder finds whatever it is shown
def test_one_foreign_photo_among_few_is_found_whatever_the_encoder_calls_alike(shared: float):
    found = accused = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        common, own, other = generator.normal(size=(3, 64))
        features = shared * common + np.array([own] * 5 + [other]) + 0.7 * generator.normal(size=(6, 64))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        lack = shared**2 / (shared**2 + 1 + 0.7**2)
        for rows in (features, features[:5]):
            marked = unrelated_photo(*aloof(rows, np.zeros((len(rows), 0), bool), lack))
            found += bool(marked[5:].any())
            accused += bool(marked[:5].any())
    assert found >= 19
    assert accused == 0


def test_a_wrong_caption_makes_no_foreign_photo():
    """Half of the photos show a place that their caption names; one of them is said to show the other place."""
    features, says = rows(), np.zeros((16, 1), bool)
    features[8:] += 1.5 * np.eye(32)[9]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    says[8:] = True
    says[3] = True
    assert not unrelated_photo(*aloof(features, says, 0.2)).any()
    features[3] = np.eye(32)[20]
    assert np.flatnonzero(unrelated_photo(*aloof(features, says, 0.2))).tolist() == [3]


def test_two_photos_of_one_kind_are_not_alone():
    features = rows(8)
    features[5], features[6] = np.eye(32)[7], np.eye(32)[7] + 0.1 * np.eye(32)[8]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    apart, alone = aloof(features, np.zeros((8, 0), bool), 0.2)
    assert apart[5] > 0.2
    assert alone[5] < 0.35


@pytest.mark.services
def test_a_photo_of_another_real_subject_is_found_among_five():
    from benchmarks.data_check import real_encoder
    from benchmarks.data_faults import subject

    encoder = real_encoder()
    sets = [encoder.images(subject(path.name).images) for path in sorted(SUBJECTS.iterdir()) if path.is_dir()]
    lack, found = unrelated(encoder), []
    assert len(sets) >= 17
    for own, other in zip(sets, [*sets[1:], sets[0]], strict=True):
        mixed, says = np.concatenate([own, other[:1]]), np.zeros((len(own) + 1, 0), bool)
        found.append(bool(unrelated_photo(*aloof(mixed, says, lack))[-1]))
        assert not unrelated_photo(*aloof(own, says[:-1], lack)).any()
    assert sum(found) >= 0.85 * len(found)


def test_three_photos_are_too_few_to_call_one_unlike():
    assert not other_subject(views(np.eye(32)[:3])).any()


def test_a_subject_is_cut_out_before_grey_and_fills_its_square():
    images = []
    for left in (10, 20, 30, 34):
        image = np.full((64, 64, 3), (90, 140, 200), np.uint8)
        image[20:44, left : left + 24] = (220, 40, 30)
        images.append(image)
    for cut in subject_cutouts(images):
        assert cut.shape[0] == cut.shape[1] <= 34
        assert (cut.reshape(-1, 3) == (220, 40, 30)).all(axis=1).mean() > 0.6


def test_what_captions_explain_is_what_the_other_photos_say_of_them():
    """Ridge regression of all other rows, by an equation for each row that is left out."""
    generator = np.random.default_rng(3)
    values, says = generator.normal(size=(9, 4)), generator.random((9, 2)) < 0.5
    found = residuals(values, says)
    for row in range(9):
        rest = np.arange(9) != row
        design = np.column_stack([np.ones(9), says])
        penalty = np.diag([1e-6, 1, 1])
        weights = np.linalg.solve(design[rest].T @ design[rest] + penalty, design[rest].T @ values[rest])
        np.testing.assert_allclose(found[row], values[row] - design[row] @ weights, atol=1e-9)


def test_aloof_is_what_its_definition_says():
    features = rows(6, 8, seed=2)
    cosines = features @ features.T
    apart, alone = aloof(features, np.zeros((6, 0), bool), 0.3)
    for row in range(6):
        others = [other for other in range(6) if other != row]
        among = [cosines[a, b] for a in others for b in others if a != b]
        usual = np.mean([max(cosines[a, b] for b in others if b != a) for a in others])
        assert apart[row] == pytest.approx((np.mean(among) - np.mean([cosines[row, a] for a in others])) / 0.7)
        assert alone[row] == pytest.approx((usual - max(cosines[row, a] for a in others)) / (1 - usual))
    for few in (3, 1):
        assert not np.any(aloof(features[:few], np.zeros((few, 0), bool), 0.3))


@pytest.mark.parametrize(("apart", "alone", "found"), [(0.29, 0.36, True), (0.28, 0.36, False), (0.29, 0.35, False)])
def test_an_unrelated_photo_is_apart_and_alone(apart: float, alone: float, found: bool):
    assert unrelated_photo(np.array([apart]), np.array([alone])).tolist() == [found]


@pytest.mark.parametrize(("count", "times"), [(3, np.inf), (4, 1.75), (12, 1.25), (300, 1.01)])
def test_limits_are_higher_in_small_sets(count: int, times: float):
    def alike(**values: float) -> Unlikeness:
        names = ("features", "subject", "colours", "layout", "apart", "alone")
        return Unlikeness(**{name: np.full(count, values.get(name, 0.0)) for name in names})

    high = 1e9 if times == np.inf else times
    for factor, told in ((1.001, times < np.inf), (0.999, False)):
        assert other_subject(alike(features=9 * high, subject=factor * 2.05 * high)).all() == told
        assert other_subject(alike(features=factor * 2.05 * high, subject=9 * high)).all() == told
        assert other_colours(alike(colours=factor * 2.93 * high, features=9 * high)).all() == told
        assert other_colours(alike(colours=9 * high, features=factor * 1.6 * high)).all() == told


def test_outlying_is_counted_in_robust_spreads_of_logarithms():
    values = np.exp(np.array([0.0, 1.0, 2.0, 3.0, 9.0]))
    np.testing.assert_allclose(_outlying(values), np.array([-2, -1, 0, 1, 7]) / 1.4826)
    np.testing.assert_allclose(_outlying(np.exp([0.0, 0.0, 0.0, 1.0])), [0, 0, 0, 10], atol=1e-9)


def test_the_nearest_others_are_averaged():
    apart = np.array([[0.0, 1, 4, 9], [1, 0, 3, 8], [4, 3, 0, 5], [9, 8, 5, 0]])
    assert nearest(apart, 2).tolist() == [2.5, 2.0, 3.5, 6.5]
    assert nearest(apart, 9).tolist() == pytest.approx([14 / 3, 4, 4, 22 / 3])

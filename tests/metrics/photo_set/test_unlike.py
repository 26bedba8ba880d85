"""Photos unlike all others: two views have to agree, and what a caption explains is not unlike."""

import numpy as np

from metrics.photo_set.cutouts import subject_cutouts
from metrics.photo_set.unlike import Unlikeness, other_colours, other_subject, unlikeness


def views(features, subject=None, colours=None, says=None):
    count = len(features)
    flat = np.linspace(0, 1, 5)[None, None].repeat(count, axis=0)
    return unlikeness(
        features,
        features if subject is None else subject,
        flat + np.random.default_rng(1).normal(0, 0.01, flat.shape) if colours is None else colours,
        features,
        np.zeros((count, 0), bool) if says is None else says,
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
    assert np.flatnonzero(other_colours(Unlikeness(loud, calm, loud, calm))).tolist() == [4]
    assert not other_colours(Unlikeness(calm, calm, loud, calm)).any()


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

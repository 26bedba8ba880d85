"""Captions that contradict their image, in features that are made so."""

import numpy as np

from metrics.captions.contradictions import caption_ranks, contradictions, missing

RNG = np.random.default_rng(0)
SNOW, BEACH, SUBJECT = np.eye(16)[:3]


def photos(shows: list[int], noise: float = 0.1) -> np.ndarray:
    """Unit rows: a subject, before snow (0) or on a beach (1)."""
    rows = np.stack([SUBJECT + (SNOW, BEACH)[place] for place in shows]) + noise * RNG.normal(size=(len(shows), 16))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fits(features: np.ndarray) -> np.ndarray:
    texts = np.stack([SUBJECT + SNOW, SUBJECT + BEACH]) / np.sqrt(2)
    return features @ texts.T


def test_a_photo_that_shows_the_other_tag_is_found_and_the_others_are_not():
    features = photos([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    said = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])  # the fifth one shows snow
    (found,) = contradictions(fits(features), features, said)
    assert (found.photo, found.said, found.shown) == (4, 1, 0)
    assert found.text > 0.8
    assert found.image > 0.6


def test_nothing_is_said_where_the_encoder_cannot_tell_the_tags_apart():
    features = photos([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    blind = 0.01 * RNG.normal(size=(10, 2))
    assert contradictions(blind, features, np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])) == []


def test_likeness_to_the_other_photos_has_a_say():
    features = photos([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])  # the fifth looks like those that say what it says
    texts = fits(features)
    texts[4] = texts[4, ::-1]  # only the text view is fooled
    assert contradictions(texts, features, np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])) == []


def test_a_caption_that_says_no_tag_of_a_group_gets_the_one_that_its_image_shows():
    features = photos([0, 0, 0, 1, 1, 1, 1])
    found = missing(fits(features), np.array([0, 0, -1, 1, 1, 1, -1]))
    assert [(each.photo, each.shown) for each in found] == [(2, 0), (6, 1)]
    assert found[0].text == 1.0


def test_how_surely_a_missing_tag_is_shown_is_the_share_of_captions_that_agree_with_their_image():
    features = photos([0, 0, 1, 1, 1, 1])
    (found,) = missing(fits(features), np.array([0, 1, 1, 1, 1, -1]))  # the second shows the first tag
    assert (found.shown, found.text) == (1, 0.8)


def test_ranks_of_right_captions_are_low_and_of_exchanged_ones_no_better_than_chance():
    rows = np.eye(8)
    right = caption_ranks(rows, rows, range(8))
    assert right.ranks.tolist() == [1.0] * 8
    assert right.chance == 4.5
    assert right.told
    exchanged = caption_ranks(rows, rows, [1, 0, 2, 3, 4, 5, 6, 7])
    assert np.flatnonzero(exchanged.worse_than_chance).tolist() == [0, 1]


def test_a_caption_that_fits_every_image_gains_nothing_by_it():
    texts = np.eye(4)
    texts[0] += 0.6  # near to all images
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    assert caption_ranks(np.eye(4), texts, range(4)).ranks.tolist() == [1.0] * 4


def test_an_encoder_that_knows_nothing_of_the_captions_accuses_nobody():
    images, texts = RNG.normal(size=(12, 32)), RNG.normal(size=(12, 32))
    found = caption_ranks(images, texts, range(12))
    assert not found.told
    assert not found.worse_than_chance.any()

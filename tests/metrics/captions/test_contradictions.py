"""Captions that contradict their image, in features that are made so."""

import numpy as np
import pytest

from metrics.captions.contradictions import Ranks, _likeness, _way, caption_ranks, contradictions, missing

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


def test_ranks_are_told_in_shares_and_by_chance() -> None:
    found = Ranks(np.array([1.0, 3.0, 2.0, 5.0]), 5)
    assert found.chance == 3.0
    assert found.shares.tolist() == [0, 0.5, 0.25, 1]
    assert not found.told, "a mean of 0.44"
    assert not found.worse_than_chance.any()
    good = Ranks(np.array([1.0, 1.0, 1.0, 5.0]), 5)
    assert good.told, "a quarter"
    assert good.worse_than_chance.tolist() == [False, False, False, True]
    assert not Ranks(np.array([1.0, 1.0]), 2).told, "two captions tell nothing"
    assert Ranks(np.array([1.0]), 1).shares.tolist() == [0]


def test_ties_share_their_ranks() -> None:
    found = caption_ranks(np.eye(4)[[0, 1, 2, 0]], np.eye(4)[[0, 0, 1, 2]], [0, 2, 3, 1])
    assert found.ranks.tolist() == [1.5, 1.0, 1.0, 1.5]


SAID = np.array([0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("margins", "photo", "way"),
    [
        ([9, -1, -1, -1, 1, 1, 1, 1], 0, 5.0),  # from -1 to 1
        ([-1, -1, -1, -1, 1, 1, 1, 1], 0, 0.0),
        ([1, -1, -1, -1, 1, 1, 1, 1], 0, 1.0),
        ([0, -1, -1, -1, 3, 3, 3, 3], 0, 0.25),
        ([0, 1, 1, 1, -1, -1, -1, -1], 0, np.nan),  # the other way round
        ([0, 1, 1, 1, 1, 1, 1, 1], 0, np.nan),
        ([np.nan, -1, -1, -1, 1, 1, 1, 1], 0, np.nan),
        ([0, -1, -1, np.nan, 1, 1, 1, 1], 0, 0.5),
        ([0, -3, -1, 1, 1, 1, 1, 1], 0, 0.5),  # medians
    ],
)
def test_how_far_a_photo_lies_between_those_that_say_each(margins: list[float], photo: int, way: float) -> None:
    found = _way(np.array(margins, float), SAID, photo, 0, 1, least=0.0)
    assert found == pytest.approx(way, nan_ok=True)


def test_one_who_is_alone_with_its_tag_is_held_against_the_other_side_of_nothing() -> None:
    margins, said = np.array([1.0, 2.0, 2.0, 2.0]), np.array([0, 1, 1, 1])
    assert _way(margins, said, 0, 0, 1, least=0.0) == pytest.approx(0.75)  # from -2 to 2
    assert _way(-margins, 1 - said, 0, 1, 0, least=0.0) != _way(margins, said, 0, 0, 1, least=0.0)
    none = _way(margins, np.array([0, -1, -1, -1]), 0, 0, 1)
    assert np.isnan(none)
    only = _way(np.array([0.5, -1.0, -1.0]), np.array([0, 0, 0]), 0, 0, 1, least=0.0)
    assert only == pytest.approx(0.75), "nobody says the other: as far on the other side"


@pytest.mark.parametrize(("spread", "told"), [(0.2, True), (0.4, False)])
def test_groups_that_lie_within_four_spreads_are_not_told_apart(spread: float, told: bool) -> None:
    """Three middles of 2 apart: the robust spread is 1.4826 of the median deviation."""
    margins = np.array([0.0, -1 - spread, -1, -1 + spread, 1 - spread, 1, 1 + spread, 1])
    middle = 1.4826 * np.median(np.abs([-spread, 0, spread, -spread, 0, spread, 0]))
    assert bool(4 * middle < 2) is told
    assert bool(np.isfinite(_way(margins, SAID, 0, 0, 1))) is told


def test_likeness_is_a_distance_to_the_mean_of_the_others() -> None:
    rows = np.array([[0.0, 0], [2, 0], [4, 0], [0, 3]])
    found = _likeness(rows, np.array([0, 0, 0, 1]), 3)
    np.testing.assert_allclose(found[:, 0], [-3, 0, -3, -np.hypot(2, 3)])
    np.testing.assert_allclose(found[:3, 1], [-3, -np.hypot(2, 3), -5])
    assert np.isnan(found[3, 1])
    assert np.isnan(found[:, 2]).all()


def test_of_several_other_tags_the_likeliest_is_told() -> None:
    features = np.repeat(np.eye(3), 4, axis=0)
    said = np.repeat([0, 1, 2], 4)
    fits = 10 * features[:, :3] + 0.0
    fits[0], features[0] = [0, 8, 12], np.eye(3)[2]
    (found,) = contradictions(fits, features, said)
    assert (found.photo, found.said, found.shown) == (0, 0, 2)
    assert missing(fits, np.full(12, -1))[0].text != missing(fits, np.full(12, -1))[0].text, "nobody says any: NaN"


@pytest.mark.parametrize(
    ("text", "image", "told"), [(0.801, 1, True), (0.799, 1, False), (1, 0.63, True), (1, 0.57, False)]
)
def test_both_views_have_a_limit_of_their_own(text: float, image: float, told: bool) -> None:
    """How far the first photo has gone from those of its own tag to those of the other, by captions and by likeness."""
    said = np.array([0] * 40 + [1] * 40)
    fits = np.where(said[:, None] == [0, 1], 1.0, 0.0)
    fits[0] = [1 - text, text]
    features = np.where(said[:, None] == [0, 1], 1.0, 0.0)
    features[0] = [1 - image, image]
    found = contradictions(fits, features, said)
    assert [each.photo for each in found] == ([0] if told else [])
    if told:
        assert (found[0].text, found[0].image) == (pytest.approx(text), pytest.approx(image, abs=0.02))


@pytest.mark.parametrize(("spread", "told"), [(0.33, True), (0.34, False)])
def test_the_spread_of_those_who_say_a_tag_is_robust(spread: float, told: bool) -> None:
    """Four times 1.4826 times the median deviation, which is `spread` here, against middles that lie 2 apart."""
    margins = np.array([0.0, -1 - spread, -1 + spread, -1, 1 - spread, 1 + spread, 1 - spread, 1 + spread])
    assert (4 * 1.4826 * spread < 2) is told
    assert bool(np.isfinite(_way(margins, SAID, 0, 0, 1))) is told

"""The parts of masks: pieces, specks, segments by label, what is said of them, and when nothing is cut."""

from typing import Any

import numpy as np
import pytest

from metrics.subjects.masks import (
    SubjectMasks,
    _border_share,
    _drawn,
    _elsewhere,
    _notes,
    _of_segments,
    _overlap,
    _split,
    _without_specks,
    subject_masks,
)
from metrics.subjects.saliency import CommonSaliency
from tests.metrics.photo_sets import pictures
from tests.metrics.subjects.planted_subjects import planted

COVER = "cover less than 1 % or more than 75 % of the picture"
LOOK = "look at the sheet of composites"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, []),
        ({"usable": [False] * 4}, []),
        (
            {"sources": ["given", "none", "none", "given"], "usable": [True, False, False, True], "source": "given"},
            ["2 of 4 photos have no given mask and are not moved"],
        ),
        ({"usable": [True, False, True, False]}, [f"2 of 4 photos are not moved: their masks {COVER}"]),
        (
            {"sources": ["given", "none", "given", "given"], "usable": [True, False, False, True]},
            ["1 of 4 photos have no auto mask and are not moved", f"1 of 4 photos are not moved: their masks {COVER}"],
        ),
        ({"sources": ["segmentation", "given", "segmentation", "given"]}, ["2 of 4 photos were cut out by net"]),
        ({"sources": ["segmentation"] * 4, "usable": [False] * 4}, []),
        (
            {"sources": ["segmentation"] * 4, "unnamed": 3, "class_word": "toy"},
            ["3 of 4 photos have no segment that net calls 'toy'", "4 of 4 photos were cut out by net"],
        ),
        ({"sources": ["segmentation"] * 4, "unnamed": 3}, ["4 of 4 photos were cut out by net"]),
        (
            {"sources": ["attention"] * 4, "elsewhere": 3, "class_word": "toy"},
            ["where the base looks for 'toy' is not what stands out in 3 of 4 photos"],
        ),
        ({"sources": ["attention"] * 4, "elsewhere": 3, "usable": [False] * 4}, []),
        ({"sources": ["saliency", "given", "given", "given"]}, ["found by saliency, which is crude"]),
        ({"sources": ["saliency"] * 4, "hinted": True}, ["found by saliency and what the encoder sees in all photos"]),
        ({"sources": ["saliency"] * 4, "usable": [False] * 4}, []),
    ],
)
def test_what_a_person_is_told_of_masks(asked: dict[str, Any], expected: list[str]) -> None:
    usual = {
        "source": "auto", "sources": ["given"] * 4, "usable": [True] * 4, "unnamed": 0, "elsewhere": 0,
        "segmenter": "net", "class_word": None, "hinted": False,
    }  # fmt: skip
    found = _notes(**{**usual, **asked})
    assert len(found) == len(expected)
    for note, words in zip(found, expected, strict=True):
        assert words in note


@pytest.mark.parametrize(
    ("sources", "usable", "style", "reason"),
    [
        ("aaaa", [True, True, False, False], False, None),
        ("aaaa", [True] * 4, False, None),
        ("aaaa", [True, False, False, False], False, "no subject stands out in 3 of 4 photos"),
        ("", [], False, "no subject stands out in 0 of 0 photos"),
        ("gggg", [True, False, False, False], False, "the masks of 3 of 4 photos cover"),
        ("agga", [False, False, False, False], False, "no subject stands out in 4 of 4 photos"),
        ("gaga", [False, False, False, True], False, "the masks of 3 of 4 photos cover"),
        ("nnnn", [False] * 4, True, "a style, as masks: none says"),
        ("aaaa", [False] * 4, True, "what stands out in one photo is not what stands out in the others"),
    ],
)
def test_nothing_is_cut_out_where_less_than_half_of_the_photos_have_a_subject(
    sources: str, usable: list[bool], style: bool, reason: str | None
) -> None:
    names = {"a": "saliency", "g": "given", "n": "none"}
    found = SubjectMasks((), tuple(names[each] for each in sources), tuple(usable), style=style).reason
    assert (found is None) == (reason is None)
    assert reason is None or reason in (found or "")


def boxed(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 40)) -> np.ndarray:
    """1 in boxes of (top, bottom, left, right)."""
    mask = np.zeros(size, np.float32)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = 1
    return mask


MAIN = (10, 30, 10, 24)


def assert_all_but_corners(mask: np.ndarray, expected: np.ndarray) -> None:
    """Soft edges take a box's corners off."""
    assert ((mask > 0.5) & (expected < 0.5)).sum() == 0
    assert ((mask < 0.5) & (expected > 0.5)).sum() <= 8


@pytest.mark.parametrize(
    ("also", "kept"),
    [
        ((16, 24, 27, 37), True),  # large and near
        ((16, 20, 27, 31), False),  # near, but small
        ((16, 24, 31, 39), False),  # large, but far
        ((0, 1, 0, 40), False),  # a hair
    ],
)
def test_of_a_map_the_main_piece_and_large_ones_near_it_stay(also: tuple[int, int, int, int], kept: bool) -> None:
    assert_all_but_corners(_drawn(boxed(MAIN, also), (40, 40)), boxed(MAIN, *([also] if kept else [])))


def test_holes_are_filled_and_a_strip_along_the_border_is_no_subject() -> None:
    hollow = boxed(MAIN)
    hollow[16:20, 14:18] = 0
    assert_all_but_corners(_drawn(hollow, (40, 40)), boxed(MAIN))
    sky = boxed((0, 10, 0, 40), (20, 34, 14, 28))  # the strip is larger
    assert_all_but_corners(_drawn(sky, (40, 40)), boxed((20, 34, 14, 28)))
    assert not _drawn(np.zeros((40, 40)), (40, 40)).any()
    large = _drawn(boxed(MAIN), (80, 120))
    assert large.shape == (80, 120)
    assert _overlap(large, boxed((20, 60, 30, 72), size=(80, 120))) > 0.95
    soft = _drawn(boxed(MAIN), (40, 40))
    assert ((soft > 0.1) & (soft < 0.9)).any()


def test_a_score_is_split_at_otsus_threshold_and_a_flat_one_shows_nothing() -> None:
    score = 0.2 + 0.5 * boxed(MAIN)
    assert_all_but_corners(_split(score, (40, 40)), boxed(MAIN))
    assert not _split(np.full((40, 40), 0.9), (20, 30)).any()
    assert _split(np.full((40, 40), 0.9), (20, 30)).shape == (20, 30)


@pytest.mark.parametrize(("side", "kept"), [(1, False), (3, True)])  # of 400 pixels, 1 % is a speck
def test_specks_of_less_than_a_hundredth_go(side: int, kept: bool) -> None:
    mask = boxed((10, 30, 10, 30), (0, side, 36, 36 + side))
    np.testing.assert_array_equal(_without_specks(mask), mask if kept else boxed((10, 30, 10, 30)))
    soft = 0.4 * boxed((0, 4, 0, 4)) + boxed((10, 30, 10, 30))
    np.testing.assert_array_equal(_without_specks(soft), soft)
    beside = boxed((10, 30, 10, 30))
    beside[30, 30] = 1  # at a corner: it belongs to it
    np.testing.assert_array_equal(_without_specks(beside + boxed((0, 4, 0, 4))), beside + boxed((0, 4, 0, 4)))


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        (boxed(MAIN), boxed(MAIN), 1.0),
        (boxed((0, 10, 0, 10)), boxed((0, 10, 5, 15)), 50 / 150),
        (boxed((0, 10, 0, 10)), boxed((20, 30, 0, 10)), 0.0),
        (boxed(), boxed(), 0.0),
        (boxed((0, 10, 0, 10)), 0.5 * boxed((0, 10, 0, 10)), 0.0),
    ],
)
def test_overlap_is_intersection_over_union(first: np.ndarray, second: np.ndarray, share: float) -> None:
    assert _overlap(first, second) == pytest.approx(share)


def test_attention_elsewhere_is_told_where_it_is_so_in_most_photos() -> None:
    here, there = boxed((4, 20, 4, 20)), boxed((22, 38, 22, 38))
    salient = CommonSaliency([here] * 4, 0.5)
    for shown, told in (([there] * 4, 4), ([here, there, there, there], 3), ([here, here, there, there], 0)):
        assert _elsewhere(shown, ["attention"] * 4, salient) == told
    assert _elsewhere([there] * 4, ["given", "attention", "given", "given"], salient) == 1
    assert _elsewhere([there] * 4, ["given"] * 4, salient) == 0


SKY, TOY, BALL = boxed((0, 12, 0, 40)), boxed((20, 30, 10, 20)), boxed((20, 30, 25, 35))


@pytest.mark.parametrize(
    ("segments", "words", "mask", "named"),
    [
        ([("sky", SKY), ("Toy, doll", TOY), ("ball", BALL)], "red toy", TOY, True),
        ([("sky", SKY), ("toy", TOY), ("toy", BALL)], "toy", np.maximum(TOY, BALL), True),
        ([("sky", SKY), ("toy", TOY)], "lamp", TOY, False),  # what touches the border least
        ([("toys", TOY), ("sky", SKY)], "toy", TOY, False),
        ([("sky", SKY)], "", SKY, False),
        ([], "toy", boxed(), False),
    ],
)
def test_segments_are_chosen_by_their_labels(
    segments: list[tuple[str, np.ndarray]], words: str, mask: np.ndarray, named: bool
) -> None:
    found, is_named = _of_segments(segments, set(words.split()), (40, 40))
    np.testing.assert_array_equal(found, mask)
    assert is_named is named


def test_the_border_s_share_is_more_than_that_of_the_whole_for_what_lies_along_it() -> None:
    along = 12 + 12 + 40  # of 160 places, corners twice
    assert _border_share(SKY) == pytest.approx(along / 160 - 0.3)
    assert _border_share(TOY) == pytest.approx(-100 / 1600)
    assert _border_share(boxed((20, 22, 10, 18))) == 1.0  # a hundredth of the picture is no segment


def test_six_photos_are_enough_to_take_a_set_for_a_style_and_five_are_not() -> None:
    photos = [photo[::4, ::4] for photo in pictures().values()]
    assert subject_masks(photos[:6]).style
    assert not subject_masks(photos[:5]).style


def test_masks_of_a_hundredth_to_three_quarters_can_be_moved() -> None:
    images, _ = planted(1, size=(40, 40))
    for rows, usable in ((30, True), (31, False)):
        mask = boxed((0, rows, 0, 40))
        assert subject_masks(images, given=[mask], source="given").usable == (usable,)
    for area, usable in ((16, True), (15, False)):
        mask = boxed()
        mask.ravel()[800 : 800 + area] = 1
        assert subject_masks(images, given=[mask], source="given").usable == (usable,)


@pytest.mark.parametrize(("rows", "given"), [(39, True), (40, False)])
def test_a_mask_of_nearly_everything_is_none(rows: int, given: bool) -> None:
    images, _ = planted(1, size=(40, 40))
    found = subject_masks(images, given=[255 * boxed((0, rows, 0, 40))], source="given")
    assert found.sources == (("given",) if given else ("none",))
    assert found.masks[0].max() == (1 if given else 0)

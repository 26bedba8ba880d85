"""Every kind of finding is told, about photos or about a tag alone."""

from typing import get_args

import pytest

from search.findings.sentences import PARTS, facts, figure, headline, short_names, told
from search.record.data_check import DataCheck, Evidence, Finding, Kind, TagEffect


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_has_words_and_a_part_of_the_page(kind):
    assert [kind in kinds for _, kinds in PARTS].count(True) == 1
    for photos in ((), ("a.png",), ("a.png", "b.png")):
        words = told(Finding(kind, "know", photos, tag="snow", shown="beach"))
        assert all((words.what, words.do, words.why))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_what_is_found_names_its_photos_or_its_tag_and_what_to_do_does_not_repeat_it(kind):
    """Only of drawings the photos stand with what to do: look at them."""
    words = told(Finding(kind, "know", ("a.png", "b.png"), tag="snow", shown="beach"), {"a.png": "A1", "b.png": "B2"})
    named = [any(name in part for name in ("A1", "snow")) for part in (words.what, words.do, words.why)]
    of_drawings = kind in ("colours_scatter", "framing_off")
    assert named == [not of_drawings, of_drawings or kind == "repeated", False]
    assert ("B2" in words.what) == (kind == "repeated")
    assert ("beach" in words.what) == (kind in ("wrong_tag", "missing_tag"))


def test_the_headline_counts_photos_copies_and_captions():
    findings = (
        Finding("blurred", "replace", ("a.png",)),
        Finding("repeated", "keep_one", ("b.png", "c.png", "d.png")),
        Finding("wrong_tag", "retag", ("e.png",), tag="snow", shown="beach"),
        Finding("tag_lost", "reword", tag="snow"),
    )
    check = DataCheck("x", "", 5, 4.0, findings=findings)
    assert headline(check) == "Replace 1 photo, take out 2 copies, correct 1 caption, then go on"
    assert check.needs_changes
    for place, said in enumerate(("Replace 1 photo", "Take out 2 copies", "Correct 1 caption")):
        assert headline(DataCheck("x", "", 5, 4.0, findings=findings[place : place + 1])) == f"{said}, then go on"
    assert headline(DataCheck("x", "", 5, 4.0)) == "These photos and captions can be trained on"
    assert headline(DataCheck("x", "", 5, 4.0, findings=findings[:1] * 2)).startswith("Replace 1 photo")
    advice = DataCheck("x", "", 5, 4.0, findings=findings[3:])
    assert not advice.needs_changes


def test_the_large_numbers_are_those_that_were_found():
    tags = tuple(
        TagEffect("t", *(0.0,) * 9, chance=1.0, verdict=verdict) for verdict in ("reflected", "lost", "reflected")
    )
    check = DataCheck("x", "", 24, 19.7, rank=1.96, chance=12.5, tags=tags)
    assert [number for number, _ in facts(check)] == ["24", "20", "2.0", "2 of 3"]
    assert "12.5" in facts(check)[2][1]
    assert [number for number, _ in facts(DataCheck("x", "", 3, 3.0))] == ["3", "3"]


def test_a_figure_has_its_interval_and_what_is_usual_where_they_are_known():
    assert figure(Evidence("width", 3.14159)) == "width: 3.1"
    assert figure(Evidence("copies", 3.0, low=1.0, high=5.26)) == "copies: 3 (1 to 5.3)"
    assert figure(Evidence("share", 75.0, usual=16.6667, usual_is="the base")) == "share: 75 (the base: 17)"


def test_photos_lose_their_folder_in_sentences_only_where_names_stay_different():
    assert short_names(["1_a/x.png", "1_a/y.png"]) == {"1_a/x.png": "x.png", "1_a/y.png": "y.png"}
    assert short_names(["1_a/x.png", "2_b/x.png"]) == {"1_a/x.png": "1_a/x.png", "2_b/x.png": "2_b/x.png"}

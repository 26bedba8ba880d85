"""Every kind of finding is told, about photos or about a tag alone."""

from typing import get_args

import pytest

from search.findings.sentences import PARTS, headline, short_names, told
from search.record.data_check import DataCheck, Finding, Kind


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_has_words_and_a_part_of_the_page(kind):
    assert [kind in kinds for _, kinds in PARTS].count(True) == 1
    for photos in ((), ("a.png",), ("a.png", "b.png")):
        words = told(Finding(kind, "know", photos, tag="snow", shown="beach"))
        assert all((words.what, words.do, words.why))


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
    advice = DataCheck("x", "", 5, 4.0, findings=findings[3:])
    assert not advice.needs_changes


def test_photos_lose_their_folder_in_sentences_only_where_names_stay_different():
    assert short_names(["1_a/x.png", "1_a/y.png"]) == {"1_a/x.png": "x.png", "1_a/y.png": "y.png"}
    assert short_names(["1_a/x.png", "2_b/x.png"]) == {"1_a/x.png": "1_a/x.png", "2_b/x.png": "2_b/x.png"}

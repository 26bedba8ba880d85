"""Captions taken apart into tags, and tags that stand in each other's place."""

import pytest

from metrics.captions.tags import tag_table

CAPTIONS = (
    "sks toy, large, on the left, snow",
    "sks toy, large, on the left, beach",
    "sks toy, large, on the right, beach",
    "sks toy, Large, on the right, snow, shiny",
    "sks toy, large, on the left, beach",
)


def test_the_subject_is_no_tag_and_case_does_not_count():
    table = tag_table(CAPTIONS, "sks", "toy")
    assert table.tags == ("large", "on the left", "snow", "beach", "on the right", "shiny")
    assert table.counts.tolist() == [5, 3, 2, 3, 2, 1]


def test_a_tag_that_always_comes_with_the_trigger_and_one_that_comes_once():
    table = tag_table(CAPTIONS, "sks", "toy")
    assert [table.tags[tag] for tag in table.everywhere] == ["large"]
    assert [table.tags[tag] for tag in table.once] == ["shiny"]


def test_tags_of_which_each_caption_says_one_are_a_group():
    table = tag_table(CAPTIONS, "sks", "toy")
    groups = [sorted(table.tags[tag] for tag in group) for group in table.groups]
    assert sorted(groups) == [["beach", "snow"], ["on the left", "on the right"]]
    assert table.said(table.groups[0]).min() >= 0


def test_a_tag_is_replaced_where_it_stands_added_where_none_is_said_and_taken_out():
    table = tag_table((*CAPTIONS, "sks toy, large, on the left"), "sks", "toy")
    places = next(group for group in table.groups if table.tags.index("snow") in group)
    beach = table.tags.index("beach")
    assert table.with_tag(0, places, beach) == "sks toy, large, on the left, beach"
    assert table.with_tag(5, places, beach) == "sks toy, large, on the left, beach"
    assert table.without(3, table.tags.index("shiny")) == "sks toy, Large, on the right, snow"


def test_a_sentence_that_names_the_trigger_has_no_tags():
    table = tag_table(["a photo of sks toy on a beach", "a photo of sks toy in snow"], "sks", "toy")
    assert table.tags == ()
    assert table.says.shape == (2, 0)
    assert table.groups == []


def test_the_class_word_alone_is_the_subject_and_beside_other_words_a_tag():
    assert tag_table(["sks, Toy, beach", "sks, toy, toy box"], "sks", "toy").tags == ("beach", "toy box")


def test_a_trigger_inside_a_word_is_another_word():
    assert tag_table(["desks, beach", "chairs, beach"], "sks").tags == ("desks", "beach", "chairs")


@pytest.mark.parametrize(
    ("captions", "everywhere", "once"),
    [
        (["a, b"], [], []),
        (["a, b", "a"], ["a"], []),
        (["a, b", "a, c"], ["a"], []),
        (["a, b", "a, c", "a, c"], ["a"], ["b"]),
        (["a, a", "b", "b"], [], ["a"]),
    ],
)
def test_few_captions_say_nothing_of_single_tags(captions: list[str], everywhere: list[str], once: list[str]) -> None:
    table = tag_table(captions)
    assert [table.tags[tag] for tag in table.everywhere] == everywhere
    assert [table.tags[tag] for tag in table.once] == once


@pytest.mark.parametrize(("saying", "grouped"), [(8, True), (7, False)])
def test_a_group_is_said_by_four_of_five_captions(saying: int, grouped: bool) -> None:
    table = tag_table([f"x{row}, {('snow', 'beach')[row % 2]}" if row < saying else f"x{row}" for row in range(10)])
    named = [{table.tags[tag] for tag in group} for group in table.groups]
    assert any({"snow", "beach"} <= group for group in named[:1]) is True
    plain = tag_table([("snow", "beach")[row % 2] if row < saying else "other, both" for row in range(10)])
    assert len(plain.groups) == 1
    pair = tag_table([("snow", "beach")[row % 2] if row < saying else "snow, beach" for row in range(10)])
    assert pair.groups == []
    few = tag_table([("snow", "beach")[row % 2] if row < saying else "" for row in range(10)])
    assert bool(few.groups) is grouped


def test_groups_come_in_falling_order_of_use() -> None:
    table = tag_table(["a, x", "b, x", "b, y", "b, y", "c, y"])
    assert [[table.tags[tag] for tag in group] for group in table.groups] == [["b", "a", "c"], ["y", "x"]]
    assert table.said(table.groups[0]).tolist() == [1, 0, 0, 0, 2]
    assert tag_table(["a", "b", "", "a"]).said([0, 1]).tolist() == [0, 1, -1, 0]


def test_a_tag_that_is_said_twice_is_replaced_once_and_taken_out_twice() -> None:
    table = tag_table(["snow, toy; Snow、beach，x", "beach"])
    group = [table.tags.index("snow"), table.tags.index("beach")]
    assert table.with_tag(0, group, table.tags.index("beach")) == "beach, toy, x"
    assert table.without(0, table.tags.index("snow")) == "toy, beach, x"

"""What a space holds: every value, how many configurations, and whether values that others chose are among them."""

import pytest

from search.study.space import Entry, Space
from search.study.space_values import every_value, given_values, misfit, size, why_not_given
from tests.search.study.test_space import D_COEF, OPTIMIZER, RANK, RATE, SEED, SPACE

OTHER_RATE = Entry("learning_rate_scale", "learning_rate_scale#2", values=(3.0,), when=(("optimizer", ("Prodigy",)),))


def test_every_value_of_ranges_with_steps_and_how_many_there_are() -> None:
    assert list(every_value(RANK)) == [4, 7, 10]
    assert list(every_value(D_COEF)) == [0.5, 1.0, 2.0]
    tenths = Entry("noise_offset", "noise_offset", low=0.1, high=0.4, step=0.1)
    assert list(every_value(tenths)) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    whole = Entry("rank", "rank", low=2, high=5, whole=True)
    assert list(every_value(whole)) == [2, 3, 4, 5]
    assert all(isinstance(value, int) for value in every_value(whole))
    assert size(Space((OPTIMIZER, RANK, D_COEF))) == 3 + 3 * 3
    assert size(SPACE) is None, "a range without steps"
    assert size(Space((Entry("seed", "seed", low=1, high=4096, whole=True),))) == 4096
    assert size(Space((Entry("seed", "seed", low=1, high=4097, whole=True),))) is None


def test_what_anothers_values_lack_is_named() -> None:
    for params, why in (
        ({"optimizer": "AdamW", "rank": 4, "learning_rate_scale": 0.5}, None),
        ({"rank": 10, "learning_rate_scale": 8.0}, None),
        ({"alpha": 4}, "alpha, which is not searched"),
        ({"rank": 5}, "rank: 5, which is outside what is searched"),
        ({"rank": 1}, "rank: 1, which is outside what is searched"),
        ({"rank": 13}, "rank: 13, which is outside what is searched"),
        ({"rank": True}, "rank: True, which is outside what is searched"),
        ({"rank": "4"}, "rank: 4, which is outside what is searched"),
        ({"learning_rate_scale": 8.1}, "learning_rate_scale: 8.1, which is outside what is searched"),
        ({"optimizer": "Lion"}, "optimizer: Lion, which is outside what is searched"),
        ({"d_coef": True}, "d_coef: True, which is outside what is searched"),
    ):
        assert misfit(SPACE, params) == why, params


def test_values_that_somebody_gives_count_where_their_conditions_are_met() -> None:
    space = Space((OPTIMIZER, RANK, RATE, OTHER_RATE, SEED))
    for fields, stored in (
        ({"optimizer": "AdamW", "learning_rate_scale": 2}, {"optimizer": "AdamW", "learning_rate_scale": 2.0}),
        ({"optimizer": "Prodigy", "learning_rate_scale": 2}, {"optimizer": "Prodigy"}),
        ({"learning_rate_scale": 2}, {"learning_rate_scale": 2.0}),
        ({"optimizer": "Prodigy", "learning_rate_scale": 3.0}, {"optimizer": "Prodigy"}),
        ({"rank": 7.0}, {"rank": 7}),
        ({"rank": 5}, {}),
        ({"seed": 7}, {}),
        ({}, {}),
    ):
        assert given_values(space, fields) == stored, fields
    assert isinstance(given_values(space, {"rank": 7.0})["rank"], int)


def test_the_first_value_that_cannot_be_tried_is_told_with_what_can() -> None:
    space = Space((OPTIMIZER, RANK, RATE, OTHER_RATE))
    for fields, field, expected in (
        ({"alpha": 4, "rank": 5}, "alpha", "a field that is searched (optimizer, rank, learning_rate_scale)"),
        ({"rank": 5}, "rank", "one of the values that are searched"),
        ({"optimizer": "Prodigy", "learning_rate_scale": 2.0}, "learning_rate_scale", "beside the others here"),
    ):
        told = why_not_given(space, fields)
        assert told is not None
        assert told[0] == field
        assert expected in told[1]
    assert why_not_given(space, {"optimizer": "AdamW", "learning_rate_scale": 2.0, "rank": 10}) is None
    assert why_not_given(space, {"learning_rate_scale": 3.0}) is None

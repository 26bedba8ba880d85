"""The picture of likeness against obedience: what is drawn where, and which trials have their names there."""

from typing import Any

import numpy as np
import pytest

from search.verdict.front import Front, Place, front_of
from search.verdict.front_picture import _draw, _figure, _named

PLACES = [Place(0, 10, 0.9, -0.4), Place(1, 11, 0.5, 0.1), Place(2, 12, 0.7, -0.2), Place(3, 13, 0.4, -0.3)]


def drawn(winner: int, finalists: list[int]) -> tuple[Any, dict[str, list[tuple[float, float]]]]:
    """The axis, and by the words of its legend where dots stand."""
    front = front_of(PLACES, winner)
    assert front is not None
    axis = _figure("toy", "what is said of it").axes[0]
    _draw(axis, PLACES, front, finalists)
    dots = {each.get_label(): [tuple(p) for p in each.get_offsets().tolist()] for each in axis.collections}
    dots |= {line.get_label(): [tuple(p) for p in line.get_xydata().tolist()] for line in axis.lines}
    return axis, dots


def test_trials_finalists_the_front_and_the_winner_stand_where_they_read() -> None:
    at = {place.trial: (place.likeness, place.obedience) for place in PLACES}
    axis, dots = drawn(2, [1, 2])
    assert dots == {
        "a trial at its epoch to ship": [at[n] for n in range(4)],
        "the front": [at[0], at[2], at[1]],
        "drawn again as a finalist": [at[1], at[2]],
        "the winner": [at[2]],
    }
    assert "drawn again as a finalist" not in drawn(2, [])[1]
    title, said = axis.figure.texts
    assert (title.get_text(), said.get_text()) == ("toy: likeness against obedience", "what is said of it")
    assert 1 > title.get_position()[1] > said.get_position()[1] > axis.get_position().y1
    assert title.get_position()[0] == said.get_position()[0] < 0.2
    assert "likeness" in axis.get_xlabel()
    assert "obedience" in axis.get_ylabel()
    names = {text.get_text(): (text.get_weight(), text.xy) for text in axis.texts}
    assert names == {
        "trial 0, epoch 10": ("normal", at[0]), "trial 1, epoch 11": ("normal", at[1]),
        "trial 2, epoch 12": ("bold", at[2]),
    }  # fmt: skip


def test_a_winner_off_the_front_has_its_name_too() -> None:
    names = [text.get_text() for text in drawn(3, [])[0].texts]
    assert sorted(names) == [f"trial {n}, epoch {10 + n}" for n in range(4)]


@pytest.mark.parametrize(("count", "shown"), [(12, [*range(12)]), (23, [*range(0, 23, 2)]), (3, [0, 1, 2])])
def test_of_many_both_ends_and_some_between_are_named(count: int, shown: list[int]) -> None:
    places = tuple(Place(n, n, 1 - n / count, n / count) for n in range(count))
    assert [place.trial for place in _named(Front(places, places[0], None, count))] == shown
    winner = Place(99, 1, 0.0, 0.0)
    assert _named(Front(places, winner, 0, count))[-1] == winner


def test_names_of_trials_that_read_alike_do_not_lie_on_each_other() -> None:
    places = [Place(n, n, 0.5 + 0.0001 * n, 0.5 - 0.0001 * n) for n in range(5)]
    places += [Place(5, 5, 0.0, 1.0), Place(6, 6, 1.0, 0.0)]
    front = front_of(places, 0)
    assert front is not None
    axis = _figure("toy", "").axes[0]
    _draw(axis, places, front, [])
    heights = sorted(text.xyann[1] for text in axis.texts if 0.4 < text.xy[0] < 0.6)
    assert len(heights) == 5
    assert np.diff(heights).min() >= 12.9

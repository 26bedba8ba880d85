"""Charts of the report, read back from their SVG: where lines, dots, bands and numbers stand."""

import re
from typing import Any

import pytest

from search.verdict.charts import _levels, _range, _ticks, score_chart, spark
from search.verdict.sheet import Marks

NAN = float("nan")
LEFT, RIGHT, TOP, BOTTOM = 44, 1080 - 12, 18, 300 - 30
"""Of the place for lines, on our own scale."""


def points(svg: str) -> list[list[tuple[float, float]]]:
    """Of each line, in the order in which they are drawn."""
    lines = re.findall(r'<polyline[^>]*points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in line.split())] for line in lines]


def near(*expected: tuple[float, float]) -> Any:
    return [pytest.approx(point, abs=0.051) for point in expected]


def test_a_small_curve_fills_its_cell_and_has_a_dot_where_it_ships() -> None:
    drawn = spark([0, 5, 10], [0.0, 0.5, 1.0], 5)
    assert points(drawn) == [near((3, 25), (40, 14), (77, 3))]
    assert re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn) == [("40.0", "14.0")]
    assert points(spark([0, 5, 10], [-1.0, 0.5, 2.0], None)) == [near((3, 25), (40, 14), (77, 3))], "cut off"
    assert points(spark([0, 5, 10], [NAN, 0.5, 1.0], 0)) == [near((40, 14), (77, 3))]
    for shipped in (None, 7, 0):
        assert "circle" not in spark([0, 5, 10], [NAN, 0.5, 1.0], shipped)
    assert points(spark([2, 4], [10.0, 30.0], None, None)) == [near((40, 25), (77, 3))], "a scale of its own"
    assert points(spark([2, 4], [7.0, 7.0], None, None)) == [near((40, 14), (77, 14))]


@pytest.mark.parametrize(("epochs", "scores"), [([], []), ([3], [0.5]), ([0, 3], [0.2, NAN])])
def test_of_less_than_two_scores_there_is_no_curve(epochs: list[float], scores: list[float]) -> None:
    assert spark(epochs, scores, None) == ""
    assert score_chart([(0, epochs, scores)], 0) == ""
    assert score_chart([], None) == ""


def test_lines_of_all_trials_share_one_place_and_the_best_is_drawn_last() -> None:
    drawn = score_chart([(0, [0, 10], [0.0, 1.0]), (1, [0, 20], [0.5, 0.5]), (2, [5, 15], [0.25, 0.75])], 0)
    half, quarter = (TOP + BOTTOM) / 2, (BOTTOM - TOP) / 4
    middle, end = (LEFT + RIGHT) / 2, RIGHT
    assert points(drawn) == [
        near((LEFT, half), (end, half)),
        near((LEFT + (RIGHT - LEFT) / 4, BOTTOM - quarter), (LEFT + 3 * (RIGHT - LEFT) / 4, TOP + quarter)),
        near((LEFT, BOTTOM), (middle, TOP)),
    ]
    assert re.findall(r'class="(line[^"]*)"[^>]*><title>([^<]*)', drawn) == [
        ("line", "trial 1"), ("line", "trial 2"), ("line best", "trial 0"),
    ]  # fmt: skip
    levels = re.findall(r'<text x="36" y="([\d.]+)" text-anchor="end">([\d.]+)<', drawn)
    assert [(float(y) - 4, text) for y, text in levels] == [
        (pytest.approx(BOTTOM - k * quarter), f"{k / 4:g}") for k in range(5)
    ]
    ticks = re.findall(r'<text x="([\d.]+)" y="292" text-anchor="middle">(\d+)<', drawn)
    assert [text for _, text in ticks] == [str(2 * k) for k in range(11)]
    assert [float(x) for x, _ in ticks] == pytest.approx([LEFT + (RIGHT - LEFT) * k / 10 for k in range(11)], abs=0.06)
    assert "circle" not in drawn


def test_what_ships_has_its_dot_and_the_onset_its_band() -> None:
    trials = [(0, [0, 10, 20], [0.0, 1.0, 0.5]), (1, [0, 10], [0.2, 0.3])]
    marks = Marks(shipped=10, onset=12.0, low=8.0, high=16.0, onset_name="context onset")
    drawn = score_chart(trials, 0, marks)
    at = {epoch: LEFT + (RIGHT - LEFT) * epoch / 20 for epoch in (8, 10, 12, 16, 20)}
    assert re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn) == [(f"{at[10]:.1f}", f"{TOP:.1f}")]
    assert re.search(rf'<text x="{at[10]:.1f}" y="{TOP - 12:.1f}" text-anchor="middle">ship 10<', drawn)
    (band,) = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', drawn)
    assert [float(each) for each in band] == pytest.approx([at[8], TOP, at[16] - at[8], BOTTOM - TOP], abs=0.11)
    (line,) = re.findall(
        r'<line x1="([\d.]+)" x2="([\d.]+)" y1="([\d.]+)" y2="([\d.]+)" stroke="var\(--onset\)"', drawn
    )
    assert [float(each) for each in line] == pytest.approx([at[12], at[12], TOP, BOTTOM], abs=0.06)
    assert re.search(rf'<text x="{at[12]:.1f}" y="{TOP - 3:.1f}"[^>]*>context onset<', drawn)

    def width(**changes: Any) -> float:
        shown = score_chart(trials, 0, Marks(**{"onset": 12.0, "low": 8.0, "high": 16.0, **changes}))
        return float(re.findall(r'<rect [^>]*width="([\d.]+)"', shown)[0])

    assert width(high=None) == pytest.approx(at[20] - at[8], abs=0.11), "open: up to the last epoch"
    assert width(high=99.0) == pytest.approx(at[20] - at[8], abs=0.11)
    assert width(low=None) == pytest.approx(at[16] - at[12], abs=0.11)
    assert width(low=12.0, high=12.0) == 2
    assert "rect" not in score_chart(trials, 0, Marks(shipped=10))
    assert "circle" not in score_chart(trials, 1, Marks(shipped=20)), "of the best trial alone"
    assert 'text-anchor="end">ship 20' in score_chart(trials, 0, Marks(shipped=20)), "at the edge"
    assert "&lt;b&gt;" in score_chart(trials, 0, Marks(onset=12.0, onset_name="<b>"))


def test_a_scale_of_its_own_leaves_out_the_base() -> None:
    drawn = score_chart([(0, [0, 10, 20], [-900.0, 10.0, 30.0]), (1, [10, 20], [20.0, 20.0])], None, scale=None)
    left = 64
    assert points(drawn) == [
        near((left, BOTTOM), ((left + RIGHT) / 2, BOTTOM), (RIGHT, TOP)),
        near(((left + RIGHT) / 2, (TOP + BOTTOM) / 2), (RIGHT, (TOP + BOTTOM) / 2)),
    ]
    assert re.findall(r'text-anchor="end">([\d.]+)<', drawn) == ["10", "15", "20", "25", "30"]


@pytest.mark.parametrize(
    ("scores", "ends"), [([3, 1, 2], (1, 3)), ([2, 2], (1.5, 2.5)), ([], (-0.5, 0.5)), ([-4], (-4.5, -3.5))]
)
def test_a_range_is_never_nothing(scores: list[float], ends: tuple[float, float]) -> None:
    assert _range(iter(scores)) == ends


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 6, [0, 1, 2, 3, 4, 5, 6]),
        (0, 6.1, [0, 2, 4, 6]),
        (0, 12, [0, 2, 4, 6, 8, 10, 12]),
        (0, 15, [0, 2.5, 5, 7.5, 10, 12.5, 15]),
        (-0.03, 0.03, [-0.03, -0.02, -0.01, 0, 0.01, 0.02, 0.03]),
        (101, 129, [105, 110, 115, 120, 125]),
    ],
)
def test_levels_are_round_and_lie_within(low: float, high: float, levels: list[float]) -> None:
    assert _levels(low, high) == pytest.approx(levels)


def test_levels_are_three_to_seven_on_any_scale() -> None:
    for power in range(-6, 7):
        for low in (-3.7, 0.0, 12.3):
            for width in (1.0, 1.9, 3.1, 5.0, 7.7):
                found = _levels(low * 10.0**power, (low + width) * 10.0**power)
                assert 3 <= len(found) <= 7


@pytest.mark.parametrize(
    ("last", "ticks"),
    [
        (1, [0, 1]),
        (10, [*range(11)]),
        (11, [*range(0, 11, 2)]),
        (40, [*range(0, 41, 5)]),
        (999, [*range(0, 901, 100)]),
    ],
)
def test_ticks_are_ten_steps_at_most(last: float, ticks: list[float]) -> None:
    assert _ticks(last) == ticks

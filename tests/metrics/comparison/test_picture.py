"""The picture of a comparison: what is drawn of each measure and pair, and that nothing lies on anything else."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from metrics.comparison.compare import FolderScores, Level, Measure
from metrics.comparison.copies import Pair
from metrics.comparison.picture import COLOURS, _short, _shown_pairs, draw_folder_scores, folder_figure, headline
from metrics.images.image_folder import ImageFolder
from metrics.images.sample_notes import Figure as Drawn
from metrics.images.sample_notes import note_of


def folder(name: str, count: int, height: int) -> ImageFolder:
    """Images of one grey each, brighter by one from image to image."""
    images = tuple(np.full((height, 40, 3), level, np.uint8) for level in range(count))
    return ImageFolder(Path(name), tuple(f"{name}{n}.png" for n in range(count)), images, ("",) * count)


def measure(units: float, level: Level = "fine") -> Measure:
    return Measure(f"m{units}", f"label {units}, z", 0, 0, 0, 0, units, f"says {units}", level)


def figure_of(units: list[float], pairs: list[Pair], height: int = 40) -> Figure:
    levels: list[Level] = ["clear" if each > 4 else "fine" for each in units]
    scores = FolderScores(tuple(map(measure, units, levels)), tuple(pairs), {}, (), ())
    return folder_figure(scores, folder("p", 9, height), folder("s", 9, 40))


def pair(number: int, copied: bool = False, mirrored: bool = False) -> Pair:
    return Pair(f"s{number}.png", f"p{8 - number}.png", 0.75, 0.5, copied, mirrored)


@pytest.mark.parametrize(
    ("units", "limit", "drawn"),
    [
        ([1.0, -2.5], 4, [1, -2.5]),
        ([5.2, -1.0, float("nan")], 6, [5.2, -1]),
        ([-6.5, 1.0], 7, [-6.5, 1]),
        ([30.0, -13.0, 12.0], 12, [12, -12, 12]),
    ],
)
def test_bars_have_room_for_four_to_twelve_units_and_longer_ones_end_in_a_point(
    units: list[float], limit: float, drawn: list[float]
) -> None:
    (axes,) = figure_of(units, []).axes
    known = [each for each in units if each == each]
    assert axes.get_xlim() == (-limit, limit)
    assert [bar.get_width() for bar in axes.patches if bar.get_height() < 0.6] == drawn
    assert [line.get_marker() for line in axes.lines[1:]] == [
        ">" if full > 0 else "<" for full, cut in zip(known, drawn, strict=True) if full != cut
    ]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"label {each}" for each in known]
    said = {text.get_text(): text.get_color() for text in axes.texts}
    assert {f"{each:+.1f}  says {each}" for each in known} <= said.keys()
    for each in known:
        assert said[f"{each:+.1f}  says {each}"] == (COLOURS["clear"] if each > 4 else "#333333")


def test_samples_stand_above_their_nearest_photos_with_what_is_said_of_them() -> None:
    figure = figure_of([], [pair(0), pair(1, copied=True), pair(2, copied=True, mirrored=True)])
    shown = [(axes.get_title(), int(axes.images[0].get_array()[0, 0, 0])) for axes in figure.axes]
    assert shown == [
        ("cos 0.75\nnearer than\n50% of photos", 0), ("cos 0.75\ncopied", 1), ("cos 0.75\ncopied, mirrored", 2),
        ("p8.png", 8), ("p7.png", 7), ("p6.png", 6),
    ]  # fmt: skip
    colours = [axes.title.get_color() for axes in figure.axes[:3]]
    assert colours == ["#333333", COLOURS["clear"], COLOURS["clear"]]
    assert {"samples", "nearest photos"} < {text.get_text() for text in figure.texts}


@pytest.mark.parametrize("units", [[], [1.0], [1.0, 5.0, -30.0, 2.0, 0.0, 3.0]])
@pytest.mark.parametrize("pairs", [0, 1, 6])
@pytest.mark.parametrize("height", [10, 40, 200])
def test_nothing_lies_on_anything_else(units: list[float], pairs: int, height: int) -> None:
    figure = figure_of(units, [pair(number) for number in range(pairs)], height)
    boxes = [axes.get_position() for axes in figure.axes]
    assert len(boxes) == bool(units) + 2 * pairs
    for box in boxes:
        assert 0 < box.x0 < box.x1 < 1
        assert 0 < box.y0 < box.y1 < 1
    for one, other in combinations(boxes, 2):
        apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
        assert apart
    wide, high = figure.get_size_inches()
    assert wide >= 7
    title = figure.texts[-1].get_position()[1] * high
    assert all(box.y1 * high < title - 0.3 for box in boxes)


def test_high_images_get_more_room_and_no_more_than_there_is() -> None:
    heights = [figure_of([], [pair(0)], height).get_size_inches()[1] for height in (20, 40, 50, 80, 400)]
    assert heights[0] == heights[1], "the samples are squares"
    assert heights[1] < heights[2] < heights[3]
    assert heights[3] == heights[4]
    many = figure_of([1.0] * 6, [pair(n) for n in range(6)])
    alone = figure_of([1.0] * 6, [])
    assert many.get_size_inches()[0] > alone.get_size_inches()[0] + 6
    bars = [each.axes[0].get_position().height * each.get_size_inches()[1] for each in (many, alone)]
    assert bars[0] > bars[1], "bars stretch beside pictures"
    nothing, one = (figure_of(units, []).get_size_inches()[1] for units in ([], [1.0]))
    assert nothing < one - 0.4


def test_the_finding_is_the_title() -> None:
    scores = FolderScores((measure(5, "clear"),), (), {}, (), ())
    figure = folder_figure(scores, folder("p", 4, 40), folder("s", 3, 40))
    assert " ".join(figure.texts[-1].get_text().split()) == headline(scores)


def scores(*measures: tuple[str, str, float, str, str], copied: int = 0, pairs: int = 4) -> FolderScores:
    made = tuple(Measure(n, label, 0, 0, 0, 0, units, says, level) for n, label, units, says, level in measures)
    found = tuple(Pair(f"s{n}", f"p{n % 2}", 0.9, 0.5, n < copied) for n in range(pairs))
    return FolderScores(made, found, {"p0": tuple(f"s{n}" for n in range(copied))} if copied else {}, (), ())


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            scores(),
            "Nothing that was measured is off: the samples differ from the photos as photos do from each other.",
        ),
        (scores(("burn", "burn", 5, "glaring", "clear")), "Clearly off: burn (glaring)."),
        (scores(("burn", "burn", 3, "glaring", "notable")), "Slightly off: burn (glaring)."),
        (
            scores(("burn", "burn", 5, "glaring", "clear"), ("colour", "colour drift, z", 3, "off", "notable")),
            "Clearly off: burn (glaring).",
        ),
        (
            scores(
                ("a", "a", 5, "x", "clear"),
                ("b", "b, z", 9, "y", "clear"),
                ("c", "c", 7, "z", "clear"),
                ("d", "d", 4.5, "w", "clear"),
            ),
            "Clearly off: b (y), c (z), a (x).",
        ),
        (
            scores(("a", "a", 5, "x", "clear"), ("fidelity", "fidelity", float("nan"), "not learned", "clear")),
            "Clearly off: fidelity (not learned), a (x).",
        ),
        (scores(("subject", "apart", float("nan"), "…", "clear")), "This is not your subject."),
        (
            scores(("subject", "apart", float("nan"), "…", "fine")),
            "Nothing that was measured is off: the samples differ from the photos as photos do from each other.",
        ),
        (scores(("copying", "copying, AUC", 9, "2 of 4 copied", "clear"), copied=2), "2 of 4 samples copy a photo."),
        (scores(("copying", "copying, AUC", 9, "nearer", "clear")), "Clearly off: copying (nearer)."),
        (
            scores(("subject", "a", 9, "", "clear"), ("burn", "burn", 5, "glaring", "clear"), copied=1),
            "This is not your subject; 1 of 4 samples copy a photo; clearly off: burn (glaring).",
        ),
    ],
)
def test_the_finding_is_told_in_a_sentence(found: FolderScores, text: str) -> None:
    assert headline(found) == text


def test_every_photo_is_shown_once_by_its_nearest_sample() -> None:
    assert [pair.sample for pair in _shown_pairs(scores())] == ["s0", "s1"]
    many = replace(scores(), pairs=tuple(Pair(f"s{n}", f"p{n}", 0.9, 0.5, False) for n in range(9)))
    assert [pair.sample for pair in _shown_pairs(many)] == [f"s{n}" for n in range(6)]


@pytest.mark.parametrize(
    ("name", "short"),
    [("a" * 22, "a" * 22), ("a" * 23, "…" + "a" * 21), ("b.png", "b.png"), ("", "")],
)
def test_the_end_of_a_long_name_is_shown(name: str, short: str) -> None:
    assert _short(name) == short


@pytest.mark.parametrize(
    ("name", "short"), [("写" * 11, "写" * 11), ("写" * 12, "…" + "写" * 10), ("a" + "写" * 11, "…" + "写" * 10)]
)
def test_wide_letters_take_the_room_of_two(name: str, short: str) -> None:
    assert _short(name) == short


def test_a_picture_is_written_as_what_it_is(tmp_path: Path) -> None:
    target, found = tmp_path / "new" / "drift.png", scores(("burn", "burn", 5, "glaring", "clear"), pairs=0)
    draw_folder_scores(target, found, folder("p", 4, 40), folder("s", 4, 40))
    with Image.open(target) as picture:
        assert note_of(picture, tmp_path / "x.png") == Drawn()

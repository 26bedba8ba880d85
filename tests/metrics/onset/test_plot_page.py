"""What pictures of a run share, read from matplotlib's own figure: marks, rows of labels, panels, and the file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from metrics.images.sample_notes import Figure as Drawn
from metrics.images.sample_notes import note_of
from metrics.onset.plot_page import COLOURS, WIDTH, Mark, marks_of, open_page, write_page
from metrics.onset.turns import Choice, Onset, Turn
from metrics.trajectory.readings import Readings
from metrics.trajectory.trajectory import Trajectory

TRAJECTORY = Trajectory(tuple(Readings(epoch, float(epoch), {}) for epoch in range(0, 101, 10)))
CONTEXT = Turn("found", 30.0, 20.0, 45.0, ("context_loss",))
MEMORY = Turn("found", 60.26, 50.0, None, ("heldout_loss",))
ONSET = Onset("found", CONTEXT, MEMORY, learned=10, best=40, safe=Choice(20, 10, 30), alike=Choice(50, 40, 60))


def told(onset: Onset, best: str | None = "ship", **more: Any) -> dict[str, Mark]:
    return {mark.text: mark for mark in marks_of(TRAJECTORY, onset, best, **more)}


def test_onsets_are_marked_with_their_intervals_and_what_could_ship() -> None:
    marks = told(ONSET)
    assert list(marks) == [
        "safe 20", "context onset 30 (20–45)", "ship 40", "most alike 50", "memory onset 60.3 (50–open)"
    ]  # fmt: skip
    context, memory = marks["context onset 30 (20–45)"], marks["memory onset 60.3 (50–open)"]
    assert (context.epoch, context.low, context.high, context.colour) == (30, 20, 45, COLOURS["context_loss"])
    assert (memory.epoch, memory.low, memory.high, memory.colour) == (60.26, 50, 100, COLOURS["heldout_loss"])
    assert all(mark.colour == COLOURS["score"] for text, mark in marks.items() if "onset" not in text)
    assert all((mark.low, mark.high) == (None, None) for text, mark in marks.items() if "onset" not in text)
    assert list(told(ONSET, None)) == ["context onset 30 (20–45)", "memory onset 60.3 (50–open)"]
    assert "best 40" in told(ONSET, "best")


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"safe": Choice(40, 30, 40)}, {"ship 40", "most alike 50"}),
        ({"alike": None}, {"safe 20", "ship 40"}),
        ({"context": Turn("beyond")}, {"safe 20", "ship 40", "most alike 50"}),
        ({"context": Turn("found", 30.0, channels=("copying", "prompt"))},
         {"context onset 30, copies of photos and how well prompts are obeyed"}),
        ({"context": Turn("found", 30.0)}, {"context onset 30"}),
        ({"context": Turn("found", 30.0, 20.0, 300.0, ("shifted_loss", "heldout_loss"))},
         {"context onset 30 (20–300)"}),
    ],
)  # fmt: skip
def test_what_is_not_known_has_no_mark(changes: dict[str, Any], texts: set[str]) -> None:
    marks = told(replace(ONSET, memory=Turn("unmeasured"), **changes))
    assert texts <= marks.keys()
    assert len(marks) == 3 + bool(replace(ONSET, **changes).context.epoch) - ("alike" in changes or "safe" in changes)
    for text, mark in marks.items():
        if text.startswith("context"):
            assert mark.high == (100 if "300" in text or "(" not in text else 45)
            first = "shifted_loss" if "300" in text or "(" not in text else "context_loss"
            assert mark.colour == COLOURS[first]


def test_channels_are_called_as_their_study_calls_them() -> None:
    onset = replace(ONSET, context=Turn("found", 30.0, channels=("prompt",)))
    assert "context onset 30, words" in told(onset, words={"prompt": "words"})


def test_labels_that_would_collide_stand_in_rows_and_those_at_the_end_to_the_left() -> None:
    near = told(replace(ONSET, safe=None, alike=None, best=31))
    assert [mark.row for mark in near.values()] == [0, 1, 0]
    assert [mark.leftwards for mark in near.values()] == [False, False, False]
    late = Onset("found", Turn("found", 95.0, 90.0, 99.0, ("shifted_loss",)), Turn("unmeasured"), 10, best=10)
    assert {text: (mark.row, mark.leftwards) for text, mark in told(late).items()} == {
        "ship 10": (0, False), "context onset 95 (90–99)": (0, True),
    }  # fmt: skip


def page(**more: Any) -> tuple[Any, Any]:
    marks = marks_of(TRAJECTORY, ONSET, "ship")
    given = {"title": "The title", "said": "word " * 60, **more}
    return open_page(TRAJECTORY, marks, [1.6, 0.6], **given)


@pytest.mark.parametrize("strip", [0.0, 1.5])
def test_a_page_has_its_panels_marks_and_head_and_nothing_is_cut_off(strip: float) -> None:
    figure, axes = page(strip=strip)
    wide, high = figure.get_size_inches()
    assert wide == WIDTH
    boxes = [axis.get_position() for axis in axes]
    assert boxes[0].height / boxes[1].height == pytest.approx(1.6 / 0.6)
    assert boxes[0].height * high == pytest.approx(3.2, abs=0.15)
    assert boxes[1].y0 * high == pytest.approx(0.52 + strip)
    assert boxes[0].y0 > boxes[1].y1
    assert axes[1].get_xlim() == axes[0].get_xlim() == (0, 100)
    assert axes[1].get_xlabel() == "epochs trained"
    for axis in axes:
        assert [line.get_xdata()[0] for line in axis.lines] == [20, 30, 40, 50, 60.26]
        spans = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in axis.patches)
        assert spans == [(20, 45), (50, 100)]
    assert [text.get_text() for text in axes[0].texts] == list(told(ONSET))
    assert not axes[1].texts
    tops = [boxes[0].y1 * 72 * high + text.xyann[1] for text in axes[0].texts]  # points from below
    said = [text.get_position()[1] * high * 72 for text in figure.texts]
    assert figure.texts[0].get_text() == "The title"
    assert said == sorted(said, reverse=True)
    assert len(said) == 1 + 3, "300 letters in lines of 108"
    assert max(tops) + 8 < said[-1] < said[0] < 72 * high


def test_intervals_are_shaded_only_where_they_should_be_and_labels_stand_at_their_lines() -> None:
    _, axes = page(shaded=False)
    assert not axes[0].patches
    late = [Mark(95.0, "late", "#112233", leftwards=True, row=2), Mark(5.0, "early", "#112233")]
    _, axes = open_page(TRAJECTORY, late, [1.0], title="t", said="s")
    assert [(text.xy[0], text.get_ha(), text.xyann) for text in axes[0].texts] == [
        (95.0, "right", (-2, 25)), (5.0, "left", (2, 3)),
    ]  # fmt: skip
    steps = Trajectory(tuple(replace(r) for r in TRAJECTORY.readings), unit="step")
    assert open_page(steps, [], [1.0], title="t", said="s")[1][0].get_xlabel() == "steps trained"


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.svg", "a.pdf"])
def test_a_page_is_written_as_its_name_says(tmp_path: Path, name: str) -> None:
    assert write_page(page()[0], tmp_path / "new" / name) == tmp_path / "new" / name
    head = (tmp_path / "new" / name).read_bytes()[:5]
    assert head == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[name[2:].lower()]
    if name.endswith("png"):
        with Image.open(tmp_path / "new" / name) as picture:
            assert note_of(picture, Path("x.png")) == Drawn()

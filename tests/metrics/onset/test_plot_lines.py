"""The lines of an onset's pictures, read from matplotlib's own figure: what is drawn is what was measured."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from metrics.onset import plot, plot_behaviour
from metrics.onset.curves import onset_curves
from metrics.onset.onset import find_onset
from metrics.onset.plateau import Dip, fitted_dip
from metrics.onset.plot import _draw_plateau, plot_onset
from metrics.onset.plot_behaviour import plot_behaviour as draw_behaviour
from metrics.onset.plot_page import COLOURS, FAINT, GRID
from metrics.onset.turns import Turn
from metrics.trajectory.readings import OWN_SCORE, Reading, Readings
from metrics.trajectory.trajectory import Trajectory

EPOCHS = np.arange(0, 82, 2)
LOSS = -0.4 * EPOCHS / (3 + EPOCHS) + 0.012 * np.maximum(EPOCHS - 30, 0)
Draw = Callable[..., Any]


def run(*channels: str, scored: bool = True, effort: np.ndarray | None = None) -> Trajectory:
    """Losses fall and rise again; what images do grows by a tenth in ten epochs, each with a spread of 0.2."""
    readings = []
    for row, epoch in enumerate(EPOCHS.tolist()):
        read = {}
        for name in channels:
            value = float(LOSS[row]) if name.endswith("_loss") else epoch / 100
            half = 0.0 if name.endswith("_loss") else 0.1
            read[name] = Reading(value, value - half, value + half)
        items = {name: np.full(6, LOSS[row]) for name in channels if name.endswith("_loss")}
        at = float(epoch if effort is None else effort[row])
        readings.append(Readings(epoch, at, read, items, epoch / 100 if scored else float("nan")))
    return Trajectory(tuple(readings))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Draws and returns the figure instead of writing it."""
    figures: list[Any] = []

    def keep(figure: Any, path: Path) -> Path:
        figures.append(figure)
        return path

    monkeypatch.setattr(plot, "write_page", keep)
    monkeypatch.setattr(plot_behaviour, "write_page", keep)

    def draw(trajectory: Trajectory, behaviour: bool = False, **more: Any) -> Any:
        by = draw_behaviour if behaviour else plot_onset
        by("a.png", trajectory, find_onset(trajectory), **more)
        return figures[-1]

    return draw


def line_of(axis: Any, colour: str, width: float | None = None) -> Any:
    """The one line of this colour and width that is more than two points long."""
    (found,) = [
        line
        for line in axis.lines
        if to_hex(line.get_color()) == colour and len(line.get_xdata()) > 2 and width in (None, line.get_linewidth())
        and line.get_marker() != "o"
    ]  # fmt: skip
    return found


def percent(logs: np.ndarray) -> np.ndarray:
    return 100 * np.expm1(logs)


def test_a_loss_that_places_an_onset_is_drawn_with_its_points_valley_and_plateau(drawn: Draw) -> None:
    trajectory = run("heldout_loss")
    axis = drawn(trajectory).axes[0]
    colour, curves = COLOURS["heldout_loss"], onset_curves(trajectory)["memory"].curves
    dip, turn = fitted_dip(curves.mean, curves.epochs, curves.jitter), find_onset(trajectory).memory
    assert dip.until == pytest.approx(turn.epoch)
    points = next(line for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata()) > 1)
    np.testing.assert_array_equal(points.get_xdata(), EPOCHS)
    np.testing.assert_allclose(points.get_ydata(), percent(curves.mean), atol=1e-9)
    valley = line_of(axis, colour, 1.9)
    np.testing.assert_allclose(valley.get_xdata(), dip.epochs)
    np.testing.assert_allclose(valley.get_ydata(), percent(dip.line))
    end = next(line for line in axis.lines if line.get_marker() == "o" and len(np.atleast_1d(line.get_xdata())) == 1)
    level = percent(np.array(dip.threshold))
    assert float(np.squeeze(end.get_xdata())) == pytest.approx(dip.until)
    assert float(np.squeeze(end.get_ydata())) == pytest.approx(level)
    plateau = next(line for line in axis.lines if list(line.get_xdata()) == [dip.since, dip.until])
    assert list(plateau.get_ydata()) == pytest.approx([level, level])
    band, filled = axis.collections
    inside = (dip.epochs >= dip.since) & (dip.epochs <= (dip.until or 0))
    corners = filled.get_paths()[0].get_extents()
    assert (corners.x0, corners.x1) == (dip.epochs[inside][0], dip.epochs[inside][-1])
    assert (corners.y0, corners.y1) == (pytest.approx(percent(dip.line[inside]).min()), pytest.approx(level))
    assert band.get_paths()[0].get_extents().x1 == 80
    notes = [text.get_text() for text in axis.texts]
    rise = percent(np.array(dip.threshold - dip.level))
    assert f"the plateau ends {rise:.1f} % above its lowest" in notes
    assert "held-out photos" in notes
    assert axis.get_ylabel() == "loss against the base"
    show = axis.yaxis.get_major_formatter()
    assert [show(value, 0) for value in (-12.5, 0, 7)] == ["−12.5 %", "0 %", "+7 %"]


def test_what_a_sum_is_made_of_is_thin_and_what_is_known_from_elsewhere_dashed(drawn: Draw) -> None:
    trajectory = run("shifted_loss", "heldout_loss")
    truth = {"heldout_loss": (np.arange(0, 200, 10), -0.001 * np.arange(0, 200, 10))}
    axis = drawn(trajectory, truth=truth).axes[0]
    thin = line_of(axis, COLOURS["shifted_loss"], 0.9)
    np.testing.assert_array_equal(thin.get_xdata(), EPOCHS)
    np.testing.assert_allclose(thin.get_ydata(), percent(LOSS))
    dashed = line_of(axis, COLOURS["heldout_loss"], 1.3)
    assert dashed.get_xdata().tolist() == [*range(0, 81, 10)], "up to the last checkpoint"
    np.testing.assert_allclose(dashed.get_ydata(), percent(-0.001 * np.arange(0, 81, 10)))
    notes = {text.get_text() for text in axis.texts}
    assert {"new contexts", "moved subjects", "held-out photos", "true, own contexts"} <= notes


def test_the_score_has_a_panel_on_our_scale_or_on_that_of_its_objective(drawn: Draw) -> None:
    figure = drawn(run("heldout_loss"))
    assert len(figure.axes) == 2
    score = line_of(figure.axes[1], COLOURS["score"], 2.2)
    np.testing.assert_array_equal(score.get_xdata(), EPOCHS)
    np.testing.assert_allclose(score.get_ydata(), EPOCHS / 100)
    assert figure.axes[1].get_ylim() == (0, 1)
    assert figure.axes[1].get_ylabel() == "score"
    assert len(drawn(run("heldout_loss", scored=False)).axes) == 1
    alone = drawn(run())
    assert [axis.get_ylabel() for axis in alone.axes] == ["score"]
    by_own = run("heldout_loss")
    own = tuple(
        replace(r, channels={**r.channels, OWN_SCORE: Reading(0.5, 0.5, 0.5)}, score=100 + r.epoch)
        for r in by_own.readings
    )
    low, high = drawn(Trajectory(own)).axes[1].get_ylim()
    assert 90 < low <= 100 < 180 <= high < 190


def test_without_losses_what_images_do_is_drawn(drawn: Draw) -> None:
    axis = drawn(run("fidelity", "prompt")).axes[0]
    np.testing.assert_allclose(line_of(axis, COLOURS["fidelity"]).get_ydata(), EPOCHS / 100)
    np.testing.assert_allclose(line_of(axis, COLOURS["prompt"]).get_ydata(), 1 + EPOCHS / 100)


def test_restarts_cross_every_panel_and_the_first_is_named(drawn: Draw) -> None:
    phase = (EPOCHS[:-1] % 20) / 20
    effort = np.concatenate([[0.0], np.cumsum(2 * (1.01 - phase))])
    figure = drawn(run("heldout_loss", effort=effort))
    for axis in figure.axes:
        assert [line.get_xdata()[0] for line in axis.lines if to_hex(line.get_color()) == FAINT] == [20, 40, 60]
    signs = [(text.get_text(), text.xy[0]) for text in figure.axes[0].texts if "↻" in text.get_text()]
    assert signs == [("↻ restart", 20), ("↻", 40), ("↻", 60)]
    many = np.concatenate([[0.0], np.cumsum(np.resize([1.0, 0.1, 0.1], len(EPOCHS) - 1))])
    assert not any("↻" in text.get_text() for text in drawn(run("heldout_loss", effort=many)).axes[0].texts)


@pytest.mark.parametrize("shape", [(40, 40), (80, 40), (20, 160)])
@pytest.mark.parametrize("epochs", [[0, 20], [0, 10, 20, 30, 60, 80]])
def test_thumbnails_stand_side_by_side_tied_to_their_epochs(
    drawn: Draw, shape: tuple[int, int], epochs: list[int]
) -> None:
    trajectory = run("heldout_loss")
    best = find_onset(trajectory).best
    epochs = sorted({*epochs, best})
    images = np.stack([np.full((*shape, 3), 10 * n, np.uint8) for n in range(len(epochs))])
    figure = drawn(trajectory, thumbnails=(epochs, images))
    shares, axis = figure.axes[-1], figure.axes[-2]
    assert (shares.get_xlim(), shares.get_ylim()) == ((0, 1), (0, 1))
    places = [image.get_extent() for image in shares.images]
    assert [int(image.get_array()[0, 0, 0]) for image in shares.images] == [10 * n for n in range(len(epochs))]
    wide, high = figure.get_size_inches()
    for left, right, bottom, top in places:
        assert 0 < bottom < top < axis.get_position().y0
        assert (top - bottom) * high / ((right - left) * wide) == pytest.approx(shape[0] / shape[1], rel=1e-3)
    for one, other in pairwise(places):
        assert one[1] < other[0]
    middle = (places[0][0] + places[-1][1]) / 2
    assert middle == pytest.approx((axis.get_position().x0 + axis.get_position().x1) / 2, abs=1e-6)
    frames = [(to_hex(patch.get_edgecolor()), patch.get_linewidth()) for patch in shares.patches]
    assert frames == [(COLOURS["score"], 2.0) if epoch == best else (GRID, 0.8) for epoch in epochs]
    numbers = [(text.get_text(), to_hex(text.get_color())) for text in figure.texts if text.get_text().isdigit()]
    assert numbers == [(str(epoch), COLOURS["score"] if epoch == best else FAINT) for epoch in epochs]
    for tie, epoch, place in zip(figure.artists, epochs, places, strict=True):
        box = axis.get_position()
        assert tie.get_xdata()[0] == pytest.approx(box.x0 + box.width * epoch / 80)
        assert tie.get_xdata()[1] == pytest.approx((place[0] + place[1]) / 2)
        assert tie.get_ydata()[0] > tie.get_ydata()[1] >= place[3] - 1e-9


def test_behaviour_and_drift_are_seen_whole_with_their_intervals(drawn: Draw) -> None:
    figure = drawn(run("fidelity", "prompt", "colour", "burn"), behaviour=True)
    behaviour, drift = figure.axes
    for axis, name, base in ((behaviour, "fidelity", 0), (behaviour, "prompt", 1), (drift, "colour", 0)):
        line = line_of(axis, COLOURS[name], 1.5)
        np.testing.assert_array_equal(line.get_xdata(), EPOCHS)
        np.testing.assert_allclose(line.get_ydata(), base + EPOCHS / 100)
    band = next(each for each in behaviour.collections if to_hex(each.get_facecolor()[0]) == COLOURS["prompt"])
    reach = band.get_paths()[0].get_extents()
    assert (reach.x0, reach.x1) == (0, 80)
    assert (reach.y0, reach.y1) == (pytest.approx(0.9), pytest.approx(1.9))
    assert behaviour.get_ylim() == pytest.approx((0 - 0.06 * 1.8, 1.8 + 0.06 * 1.8))
    assert drift.get_ylim() == pytest.approx((-2.36, 4.36))
    (grey,) = [patch for patch in drift.patches if to_hex(patch.get_facecolor()) == GRID]
    assert (grey.get_y(), grey.get_height()) == (-2, 4)
    assert not behaviour.patches
    assert [text.get_text() for text in behaviour.texts if text.xy[0] == 1] == ["likeness", "obedience"]
    assert behaviour.get_ylabel() == "behaviour"
    assert drift.get_ylabel().startswith("drift, in spreads")


@pytest.mark.parametrize(("until", "side"), [(10.0, "left"), (57.0, "left"), (58.0, "right"), (75.0, "right")])
def test_words_stand_where_there_is_room(until: float, side: str) -> None:
    axis = Figure().subplots()
    epochs = np.linspace(10.0, 90.0, 9)
    dip = Dip(epochs, np.full(9, -0.3), -0.3, -0.2, 10.0, until)
    _draw_plateau(axis, dip, Turn("found", epoch=until), "#123456")
    (words,) = axis.texts
    assert (words.get_horizontalalignment(), words.xy[0]) == (side, until)
    assert (words.xyann[0] > 0) is (side == "left")
    assert words.get_verticalalignment() == ("top" if side == "left" else "bottom")

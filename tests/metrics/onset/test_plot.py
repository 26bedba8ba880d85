"""The pictures of an onset: what is drawn is what is told, and nothing is cut off."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metrics.onset.curves import onset_curves
from metrics.onset.onset import find_onset
from metrics.onset.plateau import fitted_dip
from metrics.onset.plot import plot_onset
from metrics.onset.plot_behaviour import plot_behaviour
from metrics.onset.plot_page import label_ends
from metrics.onset.restarts import restart_epochs
from metrics.trajectory.readings import Reading
from metrics.trajectory.trajectory import Trajectory
from tests.metrics.planted_onsets import plant


def words(path: Path) -> str:
    """All texts of an SVG."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL))


def with_channel(trajectory: Trajectory, name: str, values: np.ndarray) -> Trajectory:
    return Trajectory(
        tuple(
            replace(each, channels=dict(each.channels) | {name: Reading(value, value - 1, value + 1)})
            for each, value in zip(trajectory.readings, values.tolist(), strict=True)
        )
    )


@pytest.mark.parametrize("kind", ["valley", "late", "falling"])
@pytest.mark.parametrize("few", [False, True])
def test_the_drawn_plateau_ends_at_the_onset_that_is_told(kind: str, few: bool) -> None:
    checked = 0
    for seed in range(2):
        trajectory = plant(kind, seed).trajectory
        if few:
            step = max(1, (len(trajectory) - 1) // 4)
            trajectory = Trajectory(trajectory.readings[::step][:6])
        onset, read = find_onset(trajectory), onset_curves(trajectory)
        for turn, curves in ((onset.context, read["context"].curves), (onset.memory, read["memory"].curves)):
            dip = fitted_dip(curves.mean, curves.epochs, curves.jitter)
            assert dip.level < dip.threshold
            assert dip.since <= (dip.until or np.inf)
            if turn.status == "found" and dip.until is not None and not few:
                assert dip.until == pytest.approx(turn.epoch, rel=1e-6)
                assert np.interp(dip.until, dip.epochs, dip.line) == pytest.approx(dip.threshold, abs=1e-4)
                checked += 1
            if turn.status == "found" and few:
                assert dip.until is not None
    assert checked or few or kind == "falling"


def test_the_picture_names_the_plateaus_end_and_the_interval(tmp_path: Path) -> None:
    trajectory = plant("valley", 2).trajectory
    onset = find_onset(trajectory)
    shown = words(plot_onset(tmp_path / "a.svg", trajectory, onset))
    assert "the plateau ends" in shown
    assert re.search(rf"context onset {onset.context.epoch:.0f}.*\(.*–.*\)", shown), shown
    assert "restart" not in shown
    falling = plant("falling", 2).trajectory
    assert "an onset would be" in words(plot_onset(tmp_path / "b.svg", falling, find_onset(falling)))


def test_a_curve_that_shows_no_onset_is_drawn_over_all_epochs_too(tmp_path: Path) -> None:
    trajectory = Trajectory(plant("valley", 8).trajectory.readings[::3])
    onset = find_onset(trajectory)
    assert (onset.memory.status, onset.memory.epoch) == ("beyond", None)
    drawn = plot_onset(tmp_path / "a.svg", trajectory, onset).read_text(encoding="utf-8")
    lines = re.findall(r'<path d="([^"]*)"[^>]*stroke-width: 1.9;', drawn)
    spans = [np.array(re.findall(r"[ML] (\S+) ", line), float)[[0, -1]] for line in lines]
    assert len(spans) == 2  # contexts and memory
    np.testing.assert_allclose(spans[0], spans[1])


def test_restarts_are_marked_where_the_rate_jumps_up(tmp_path: Path) -> None:
    losses = plant("valley", 2).trajectory
    epochs = losses.epochs.astype(float)
    phase = (epochs % (epochs[-1] / 3)) / (epochs[-1] / 3)
    rates = 0.5 * (1 + np.cos(np.pi * phase))
    effort = np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(epochs))])
    trajectory = Trajectory(tuple(replace(r, effort=e) for r, e in zip(losses.readings, effort.tolist(), strict=True)))
    assert restart_epochs(trajectory.epochs, trajectory.effort) == pytest.approx(
        [epochs[-1] / 3, 2 * epochs[-1] / 3], abs=float(np.diff(epochs).max())
    )
    assert "↻ restart" in words(plot_onset(tmp_path / "a.svg", trajectory, find_onset(trajectory)))
    for steady in (np.ones(9), np.linspace(1, 0.1, 9), np.linspace(0.1, 1, 9)):
        assert restart_epochs(np.arange(10), np.concatenate([[0], np.cumsum(steady)])) == []
    assert restart_epochs(np.arange(10), np.full(10, np.nan)) == []


def test_a_channel_that_runs_far_away_is_seen_whole_in_a_picture_of_its_own(tmp_path: Path) -> None:
    losses = plant("valley", 2).trajectory
    far = np.linspace(0, 44, len(losses))
    trajectory = with_channel(with_channel(losses, "composition", far), "diversity", far / 11)
    onset = find_onset(losses)
    path = plot_behaviour(tmp_path / "b.svg", trajectory, onset)
    assert path is not None
    shown = words(path).split("\n")
    assert {"40", "4"} <= {text.removesuffix(".0") for text in shown}, "the axes reach as far as the lines"
    assert "composition" not in words(plot_onset(tmp_path / "o.svg", trajectory, onset))


def test_what_the_images_do_is_named_as_in_the_verdict(tmp_path: Path) -> None:
    trajectory = plant("valley", 2).trajectory
    for name in ("fidelity", "prompt", "copying"):
        trajectory = with_channel(trajectory, name, np.linspace(0, 0.5, len(trajectory)))
    path = plot_behaviour(tmp_path / "b.svg", trajectory, find_onset(trajectory))
    assert path is not None
    shown = words(path)
    assert {"likeness", "obedience", "copying"} <= set(shown.split("\n"))
    assert "fidelity" not in shown


def test_images_that_nobody_judged_have_no_picture(tmp_path: Path) -> None:
    trajectory = plant("valley", 2).trajectory
    bare = Trajectory(
        tuple(
            replace(each, channels={k: v for k, v in each.channels.items() if k.endswith("_loss")})
            for each in trajectory.readings
        )
    )
    assert plot_behaviour(tmp_path / "b.png", bare, find_onset(bare)) is None
    assert list(tmp_path.iterdir()) == []


def test_names_of_lines_stand_where_the_lines_end_on_any_scale() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 8))
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_yscale("function", functions=(lambda p: np.log1p(np.maximum(p, -99.9) / 100), lambda p: 100 * np.expm1(p)))
    axis.plot([0, 1, 2], [0, -60, 30])
    axis.plot([0, 1, 2], [0, -40, -20])
    label_ends(axis, [(30.0, "up", "red"), (-20.0, "down", "blue")])
    figure.canvas.draw()
    share = axis.transData + axis.transAxes.inverted()
    for note, value in zip(axis.texts, (-20.0, 30.0), strict=True):
        assert note.xy[1] == pytest.approx(share.transform((0, value))[1], abs=0.01), note.get_text()

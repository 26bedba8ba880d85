"""Names of any script in matplotlib's pictures: no boxes, and no warnings."""

import warnings
from dataclasses import replace
from pathlib import Path

from metrics.images.fonts import LACKING, drawable
from metrics.onset.onset import find_onset
from metrics.onset.plot import plot_onset
from tests.metrics.planted_onsets import plant


def test_a_japanese_title_is_drawn_without_a_warning(tmp_path: Path, caplog) -> None:
    trajectory = plant("valley", 2).trajectory
    onset = replace(find_onset(trajectory), sentence="犬を学ぶ\ue0f0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [plot_onset(tmp_path / f"{title}.png", trajectory, onset, title=title) for title in ("犬", "猫")]
    assert drawn[0].read_bytes() != drawn[1].read_bytes(), "no boxes, which would be the same"
    assert caplog.text == ""


def test_what_no_typeface_has_is_a_dot() -> None:
    assert drawable("犬") == "犬"
    assert drawable("x\ue0f0") == f"x{LACKING}"

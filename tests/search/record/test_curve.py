"""A curve read by itself is that of the whole trajectory."""

from pathlib import Path

import numpy as np
import pytest

from metrics.trajectory.trajectory import Trajectory
from search.record.curve import Curve
from tests.search.finished_studies import Plan, planted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planted(Plan({}, quality=0.6, turn=12.0), 40, 3).save(tmp_path)
    return tmp_path


def test_it_is_that_of_the_trajectory(folder: Path) -> None:
    curve, whole = Curve.load(folder), Trajectory.load(folder)
    assert curve is not None
    assert curve.epochs.tolist() == whole.epochs.tolist()
    np.testing.assert_allclose(curve.scores, whole.scores, rtol=1e-15)


def test_a_checkpoint_without_a_score_is_no_number(folder: Path) -> None:
    path = folder / "trajectory.csv"
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0] + ","
    path.write_text("\n".join(lines) + "\n")
    curve = Curve.load(folder)
    assert curve is not None
    assert np.flatnonzero(np.isnan(curve.scores)).tolist() == [2]


@pytest.mark.parametrize("damage", [b"", b"epoch,effort,score\n1,", b"\xff\xfe", b"epoch,score\n2,0.5\n", None])
def test_what_is_damaged_or_missing_has_none(folder: Path, damage: bytes | None) -> None:
    path = folder / "trajectory.csv"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert Curve.load(folder) is None


def test_a_table_that_another_program_wrote_is_read_the_long_way(folder: Path) -> None:
    path = folder / "trajectory.csv"
    before = Curve.load(folder)
    path.write_text(path.read_text().replace(",", ";"))
    after = Curve.load(folder)
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(after.scores, before.scores, rtol=1e-12)


def test_what_was_read_beside_the_score_is_that_of_the_epoch(folder: Path) -> None:
    curve, whole = Curve.load(folder), Trajectory.load(folder)
    assert curve is not None
    assert set(curve.also) == {"fidelity", "heldout_loss"}
    for reading in whole.readings:
        found = curve.at(int(reading.epoch))
        assert found == {name: pytest.approx(reading.channels[name].value) for name in curve.also}
    assert curve.at(39) == {}, "there is no checkpoint"
    assert curve.line == (curve.epochs.tolist(), curve.scores.tolist())
    gap = Curve(np.array([0, 2]), np.zeros(2), {"fidelity": np.array([np.nan, 0.5])})
    assert (gap.at(0), gap.at(2)) == ({}, {"fidelity": 0.5})


@pytest.mark.parametrize("epochs", ["0,4,2", "0,2,2"])
def test_epochs_that_do_not_rise_are_no_curve(tmp_path: Path, epochs: str) -> None:
    rows = "".join(f"{epoch},0.1,0.5\n" for epoch in epochs.split(","))
    (tmp_path / "trajectory.csv").write_text(f"epoch,effort,score\n{rows}")
    assert Curve.load(tmp_path) is None

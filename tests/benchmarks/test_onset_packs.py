"""The kept trajectories of the onset benchmark come out of their archive as they went in."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks.onset import main
from benchmarks.onset_packs import KEPT, keep, read_packs, unpack
from benchmarks.onset_truth import load_cases


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    """Three packs of some of one kept one's arrays."""
    arrays = dict(islice(next(read_packs(KEPT))[1].items(), 16))
    (tmp_path / "packs").mkdir()
    for name in ("b-10-1", "a-10-0", "a-9-0"):
        np.savez_compressed(tmp_path / "packs" / f"{name}.npz", allow_pickle=False, **arrays)
    return tmp_path / "packs"


def test_an_archive_holds_every_array_bit_for_bit(packs: Path, tmp_path: Path) -> None:
    assert keep(packs, tmp_path / "kept.tar.xz") == 3
    from_folder, from_archive = list(read_packs(packs)), list(read_packs(tmp_path / "kept.tar.xz"))
    assert [name for name, _ in from_archive] == [name for name, _ in from_folder] == ["a-10-0", "a-9-0", "b-10-1"]
    for (_, before), (_, after) in zip(from_folder, from_archive, strict=True):
        assert before.keys() == after.keys()
        for name, values in before.items():
            assert values.dtype == after[name].dtype
            assert values.tobytes() == after[name].tobytes()


def test_the_same_packs_make_the_same_file_and_those_worked_on_stay(packs: Path, tmp_path: Path) -> None:
    keep(packs, tmp_path / "kept.tar.xz")
    (tmp_path / "again").mkdir()
    np.savez(tmp_path / "again" / "a-9-0.npz", mine=np.zeros(3))
    unpack(tmp_path / "again", tmp_path / "kept.tar.xz")
    assert {name: len(arrays) for name, arrays in read_packs(tmp_path / "again")}["a-9-0"] == 1
    (tmp_path / "again" / "a-9-0.npz").unlink()
    unpack(tmp_path / "again", tmp_path / "kept.tar.xz")
    keep(tmp_path / "again", tmp_path / "kept again.tar.xz")
    assert (tmp_path / "kept again.tar.xz").read_bytes() == (tmp_path / "kept.tar.xz").read_bytes()


def test_kept_packs_are_runs_that_can_be_read() -> None:
    case = next(islice(load_cases(KEPT), 1))
    assert case.memory.losses.shape == case.memory.epochs.shape
    assert len(case.trajectory().readings) == len(case.epochs)


def test_a_folder_without_packs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--keep", "--out", str(tmp_path)]) == 2
    assert "no packs here" in capsys.readouterr().err

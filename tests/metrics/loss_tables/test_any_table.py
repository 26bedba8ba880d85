"""Which reader a file or folder is given to."""

from pathlib import Path

import pandas as pd
import pytest

from metrics.loss_tables import any_table
from metrics.trajectory.trajectory import Trajectory


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    calls: list[tuple[str, Path]] = []
    monkeypatch.setattr(Trajectory, "load", lambda path: calls.append(("own folder", path)))
    monkeypatch.setattr(any_table, "read_own_table", lambda path: calls.append(("own table", path)))
    monkeypatch.setattr(any_table, "read_foreign_table", lambda path, table: calls.append(("log", path)))
    monkeypatch.setattr(any_table, "read_events", lambda path: pd.DataFrame({"events": [1]}))
    return calls


@pytest.mark.parametrize(
    ("columns", "reader"),
    [
        (["effort", "score", "copying"], "own table"),
        (["effort", "score"], "log"),
        (["effort", "copying"], "log"),
        (["step", "val_loss"], "log"),
    ],
)
def test_a_table_is_ours_by_its_columns(tmp_path: Path, asked, columns: list[str], reader: str) -> None:
    file = tmp_path / "table.csv"
    file.write_text(",".join(columns) + "\n" + ",".join("1" for _ in columns) + "\n")
    any_table.from_table(file)
    assert asked == [(reader, file)]


def test_a_folder_with_our_table_is_ours_whatever_lies_beside_it(tmp_path: Path, asked, monkeypatch) -> None:
    log, events = tmp_path / "log.csv", tmp_path / "events"
    log.write_text("step,val_loss\n1,1\n")
    events.mkdir()
    for found, reader, place in ((None, "own folder", tmp_path), (log, "log", log), (events, "log", events)):
        monkeypatch.setattr(any_table, "log_in", lambda path, found=found: found)
        any_table.from_table(tmp_path)
        assert asked.pop() == (reader, place)
    (tmp_path / "trajectory.csv").touch()
    any_table.from_table(tmp_path)
    assert asked == [("own folder", tmp_path)]

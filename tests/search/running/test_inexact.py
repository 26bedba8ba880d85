"""What cannot give the same numbers each time costs a study neither a trial nor its start; the user is told."""

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from search.record.clock import Clock
from search.record.record import StudyFolder
from search.run import work
from search.running.workers import Target, Team
from search.study.study import load_study
from tests.search.test_cuda import write_study


def _add() -> None:
    """Has no exact form, on the CPU either."""
    torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))


def _exact(connection: Connection, slot: int, setup: tuple[Any, Any]) -> None:
    """A worker that is as strict on the CPU as one is on a GPU."""
    from search.running import worker

    worker.repeat_exactly = lambda device: torch.use_deterministic_algorithms(True)
    worker.main(connection, slot, *setup)


def inexact_loading(connection: Connection, slot: int, setup: tuple[Any, Any]) -> None:
    """Building the probe needs the operation."""
    from search.running import worker

    build = worker.open_probe
    worker.open_probe = lambda *args: (_add(), build(*args))[1]
    _exact(connection, slot, setup)


def inexact_training(connection: Connection, slot: int, setup: tuple[Any, Any]) -> None:
    """Each step needs the operation."""
    from search.running import worker

    listen = worker._Worker._listen
    worker._Worker._listen = lambda self, trial, *, block: (_add(), listen(self, trial, block=block))[1]
    _exact(connection, slot, setup)


@pytest.mark.parametrize(
    ("target", "note"), [(inexact_loading, "\nput_ has no form"), (inexact_training, "trial 0: put_ has no form")]
)
def test_what_has_no_exact_form_is_computed_and_told(target: Target, note: str, tmp_path: Path, capsys) -> None:
    study_file = write_study(
        tmp_path,
        search={"rank": {"values": [4, 8]}},
        train={"resolution": 64, "epochs": 2, "optimizer": "AdamW"},
        budget={"trials": 2, "startup_trials": 2},
        workers={"count": 1, "threads": 1, "device": "cpu"},
    )
    study = load_study(study_file)
    folder = StudyFolder(tmp_path / "runs" / study.name)
    folder.path.mkdir(parents=True)
    work(study, folder, Team(target, (study, folder), 1), Clock(folder))
    assert [record.state for record in folder.records()] == ["complete"] * 2
    said = capsys.readouterr().out
    assert said.count(note) == said.count("put_ has no form that gives the same numbers each time") == 1, said

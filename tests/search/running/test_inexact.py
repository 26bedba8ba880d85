"""What cannot give the same numbers each time costs a study neither its start nor a trial; the user is told."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from search.record.clock import Clock
from search.record.record import StudyFolder
from search.run import work
from search.running import worker, worker_process
from search.running.workers import Team
from search.study.study import load_study
from tests.search.short_demo import short_demo
from trainer.errors import ModelError
from trainer.packing.pack import Pack


def _add() -> None:
    """Has no exact form, on the CPU either."""
    torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))


def inexact(connection: Connection, slot: int, setup: tuple[Any, Any]) -> None:
    """A worker as strict on the CPU as one is on a GPU, while it loads and again in its first trial; building the
    probe and each step need what has no exact form."""
    build, begin, train = worker.open_probe, worker._Worker._begin, Pack.train_epoch
    strict = iter([True])

    def start(self: Any, spec: Any) -> Any:
        if next(strict, False):
            torch.use_deterministic_algorithms(True)
        return begin(self, spec)

    worker_process.repeat_exactly = lambda device: torch.use_deterministic_algorithms(True)
    worker.open_probe = lambda *args: (_add(), build(*args))[1]
    worker._Worker._begin = start
    Pack.train_epoch = lambda self, *args, **named: (_add(), train(self, *args, **named))[1]
    worker.main(connection, slot, *setup)


@pytest.mark.slow
def test_what_has_no_exact_form_is_computed_and_told(tmp_path: Path, capsys) -> None:
    study = load_study(
        short_demo(
            tmp_path,
            search={"rank": {"values": [4, 8]}},
            train={"resolution": 64, "epochs": 1, "optimizer": "AdamW"},
            budget={"trials": 1, "startup_trials": 1},
            workers={"count": 1, "threads": 1, "device": "cpu"},
        )
    )
    folder = StudyFolder(tmp_path / "runs" / study.name)
    folder.path.mkdir(parents=True)
    work(study, folder, Team(inexact, (study, folder), 1), Clock(folder))
    assert [record.state for record in folder.records()] == ["complete"]
    said = capsys.readouterr().out
    assert "\nput_ has no form that gives the same numbers each time" in said
    assert "trial 0: put_ has no form that gives the same numbers each time" in said
    assert said.count("put_ has no form") == 2


@pytest.mark.parametrize(
    ("asked", "strict"), [({}, True), ({"deterministic": True}, True), ({"deterministic": False}, False)]
)
def test_a_study_may_do_without(asked, strict, tmp_path: Path, write_study, monkeypatch) -> None:
    study = load_study(write_study(workers={"device": "cpu", **asked}))
    called: list[torch.device] = []
    ours, theirs = multiprocessing.Pipe()

    def stop(*args: Any, **keywords: Any) -> None:
        raise ModelError("far enough")

    monkeypatch.setattr(worker_process, "repeat_exactly", called.append)
    monkeypatch.setattr(worker_process, "load_base", stop)
    with pytest.raises(ModelError, match="far enough"):
        worker._Worker(theirs, 0, study, StudyFolder(tmp_path / "runs" / study.name))
    assert ours.recv().what == "loading the base"
    assert called == [torch.device("cpu")] * strict


def test_a_worker_loads_without_where_it_must(tmp_path: Path, write_study, monkeypatch) -> None:
    study = load_study(write_study(workers={"device": "cpu"}))
    _ours, theirs = multiprocessing.Pipe()

    def load(*args: Any, **keywords: Any) -> None:
        _add()
        raise ModelError("far enough")

    monkeypatch.setattr(worker_process, "repeat_exactly", lambda device: torch.use_deterministic_algorithms(True))
    monkeypatch.setattr(worker_process, "load_base", load)
    try:
        with pytest.raises(ModelError, match="far enough"):
            worker._loaded(theirs, 0, study, StudyFolder(tmp_path / "runs" / study.name))
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)

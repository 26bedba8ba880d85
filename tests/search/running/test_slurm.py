"""Workers as jobs that submitit submits: what is refused, and a study whose jobs are processes of this machine."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.errors import StudyError
from search.record.clock import Clock
from search.record.record import StudyFolder
from search.running.coordinator import Coordinator
from search.running.placing import place_of
from search.running.progress import Board
from search.running.remote import RemoteTeam
from search.running.slurm_jobs import SlurmJobs
from search.running.workers import Team
from search.study.study import load_study
from tests.messages import refusal
from tests.search.conftest import StudyWriter
from tests.search.running.test_coordinator_processes import Outcome, _outcome
from tests.search.scripted_worker import Script, scripted

TRIALS, PATIENCE_SECONDS = 4, 300.0


@pytest.mark.parametrize(
    ("workers", "key"),
    [
        ({"slurm": {"partition": "gpu"}}, "workers.slurm.partition"),
        ({"kind": "ray", "slurm": {"cpus": 1}}, "workers.slurm.cpus"),
        ({"kind": "slurm", "ray": {"cpus": 1}}, "workers.ray.cpus"),
        ({"kind": "slurm", "slurm": {"hours": 0}}, "workers.slurm.hours"),
        ({"kind": "slurm", "slurm": {"queue": "gpu"}}, "workers.slurm.queue"),
        ({"kind": "slurm", "device": "cuda:1"}, "workers.device"),
    ],
)
def test_what_does_not_go_together_is_refused(write_study: StudyWriter, workers: dict[str, Any], key: str) -> None:
    with pytest.raises(StudyError, match=rf"study\.yaml: {key}: "):
        load_study(write_study(workers=workers))


def test_what_is_not_here_is_told(write_study: StudyWriter, tmp_path: Path, monkeypatch) -> None:
    study = load_study(write_study(workers={"kind": "slurm"}))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match=refusal("workers.kind", "slurm") + ".*sbatch is not found"), place_of(study):
        raise AssertionError
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(StudyError, match=refusal("workers.kind", "slurm") + r".*\.\[slurm\]"), place_of(study):
        raise AssertionError
    study = load_study(write_study(workers={"kind": "slurm", "slurm": {"host": "192.0.2.77"}}))
    with pytest.raises(StudyError, match=refusal("workers.slurm.host", "192.0.2.77")):
        SlurmJobs(study)


def noted(connection: Connection, slot: int, script: Script) -> None:
    """A scripted worker that leaves its process's number."""
    (script.folder / f"{slot}.{os.getpid()}.pid").touch()
    scripted(connection, slot, script)


def pids(folder: StudyFolder, slot: int) -> list[int]:
    return [int(path.name.split(".")[1]) for path in folder.path.glob(f"{slot}.*.pid")]


@pytest.mark.services
def test_a_job_that_is_killed_is_submitted_again_and_none_is_left(write_study: StudyWriter, tmp_path: Path) -> None:
    study = load_study(
        write_study(
            train={"resolution": 64, "save_every_n_epochs": 2, "epochs": 16},
            budget={"trials": TRIALS, "startup_trials": 2},
            workers={"kind": "slurm", "count": 2, "device": "cpu", "slurm": {"cpus": 1, "host": "127.0.0.1"}},
        )
    )

    def run(name: str, make: Callable[[StudyFolder, Script], Team]) -> Outcome:
        folder = StudyFolder(tmp_path / name)
        folder.path.mkdir()
        team = make(folder, Script(folder.path, slowest=0.1))
        team.start()
        try:
            coordinator = Coordinator(study, folder, team, Board(name, TRIALS, 2), clock=Clock(folder))
            coordinator.run()
        finally:
            team.close()
        return _outcome(coordinator.optuna_study, folder)

    def submitted(folder: StudyFolder, script: Script) -> Team:
        place = SlurmJobs(study, cluster="local")
        place.prepare(study, folder)
        return RemoteTeam(place, noted, script, 2)

    def kill() -> None:
        readings = jobs.trial(1) / "readings"
        until = time.monotonic() + PATIENCE_SECONDS
        while len(list(readings.glob("*.npz"))) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(pids(jobs, 1)[0], signal.SIGKILL)

    undisturbed = run("local", lambda folder, script: Team(scripted, script, 2))
    jobs = StudyFolder(tmp_path / "jobs")
    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    assert run("jobs", submitted) == undisturbed
    killing.join()
    assert len(pids(jobs, 1)) == 2
    until = time.monotonic() + PATIENCE_SECONDS
    while any(map(psutil.pid_exists, [*pids(jobs, 0), *pids(jobs, 1)])) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, [*pids(jobs, 0), *pids(jobs, 1)]))
    assert (jobs.path / "slurm").stat().st_mode & 0o777 == 0o700  # the workers' keys are there

"""What Slurm is asked for, and how seldom: the commands are stand-ins on the PATH, submitit is the real one."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.record.record import StudyFolder
from search.running.placing import place_of
from search.running.remote import RemoteTeam
from search.running.slurm_jobs import SlurmJobs, _Submitted
from search.study.study import load_study
from tests.search.conftest import StudyWriter


class Job:
    def __init__(self, number: str) -> None:
        self.job_id, self.cancelled = number, list[bool]()

    def cancel(self, *, check: bool) -> None:
        self.cancelled.append(check)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a command on the PATH that prints the file of its name, counts its calls and ends with what `.code` says."""
    home = tmp_path / "bin"
    home.mkdir()
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")

    def make(name: str, says: str = "", code: int = 0) -> Path:
        (home / f"{name}.says").write_text(says)
        calls = home / f"{name}.calls"
        script = home / name
        script.write_text(f'#!/bin/sh\necho "$@" >> {calls}\ncat {home}/{name}.says\nexit {code}\n')
        script.chmod(0o755)
        return calls

    return make


def jobs(write_study: StudyWriter, **slurm: Any) -> SlurmJobs:
    device = slurm.pop("device", "auto")
    asked = {"kind": "slurm", "device": device, "count": 3, "slurm": {"host": "127.0.0.1", **slurm}}
    return SlurmJobs(load_study(write_study(workers=asked)))


def test_a_job_is_known_while_it_is_listed_and_before_it_ever_was(
    write_study: StudyWriter, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    slurm, calls = jobs(write_study), command("squeue", "11\n12\n")
    first, second, new = Job("11"), Job("12"), Job("13")
    assert [slurm.knows(job) for job in (first, second, new)] == [True, True, True], "13 is not listed yet"
    assert calls.read_text() == "--me --noheader --format=%i\n", "all are asked for at once"
    command("squeue", "12\n13\n")
    now[0] += 30
    assert slurm.knows(first), "asked for less than half a minute ago"
    now[0] += 0.1
    assert [slurm.knows(job) for job in (first, second, new)] == [False, True, True]
    command("squeue", "", code=1)
    now[0] += 31
    assert [slurm.knows(job) for job in (first, second, new)] == [False, True, True], "Slurm is busy"
    command("squeue", "")
    now[0] += 31
    assert [slurm.knows(job) for job in (first, second, new)] == [False, False, False]
    assert _Submitted(slurm, second).ended() == "job 12 is no more"
    assert _Submitted(slurm, Job("99")).ended() is None
    ended = Job("12")
    _Submitted(slurm, ended).cancel()
    assert ended.cancelled == [False]


@pytest.mark.parametrize("done", [False, True])
def test_whoever_runs_them_without_slurm_says_himself_whether_a_job_is_done(
    write_study: StudyWriter, done: bool
) -> None:
    study = load_study(write_study(workers={"kind": "slurm", "slurm": {"host": "127.0.0.1"}}))
    job = SimpleNamespace(done=lambda: done, job_id="7")
    local = SlurmJobs(study, cluster="local")
    assert local.knows(job) is not done
    assert _Submitted(local, job).ended() == ("job 7 is no more" if done else None)


@pytest.mark.parametrize(
    ("slurm", "options"),
    [
        ({}, {"time": "1440", "cpus-per-task": "4", "gpus-per-node": "1"}),
        ({"device": "cpu"}, {"time": "1440", "cpus-per-task": "4"}),
        ({"gpus": 0}, {"time": "1440", "cpus-per-task": "4"}),
        ({"device": "cpu", "gpus": 2}, {"time": "1440", "cpus-per-task": "4", "gpus-per-node": "2"}),
        ({"hours": 0.001, "cpus": 7, "gpus": 0}, {"time": "1", "cpus-per-task": "7"}),
        ({"hours": 1.51, "gpus": 0, "memory_gib": 24}, {"time": "91", "cpus-per-task": "4", "mem": "24GB"}),
        (
            {"partition": "a100", "gpus": 0, "options": {"account": "lab"}},
            {"time": "1440", "cpus-per-task": "4", "partition": "a100", "account": "lab"},
        ),
    ],
)
def test_a_job_asks_for_what_the_study_says(
    write_study: StudyWriter, command, tmp_path: Path, slurm: dict[str, Any], options: dict[str, str]
) -> None:
    """Read from the batch file that sbatch is given."""
    given = command("sbatch", "Submitted batch job 5\n")
    command("srun")
    command("squeue", "5\n")
    placed = jobs(write_study, **slurm)
    study = load_study(tmp_path / "study.yaml")
    folder = StudyFolder(tmp_path / "runs")
    folder.path.mkdir()
    team = placed.team(study, folder)
    assert isinstance(team, RemoteTeam)
    assert (team.count, placed.patience, placed.host) == (3, None, "127.0.0.1")
    assert (folder.path / "slurm").stat().st_mode & 0o777 == 0o700
    script = tmp_path / "bin" / "sbatch"
    script.write_text(script.read_text().replace("cat ", f"cat $1 > {tmp_path}/batch\ncat "))
    invitation: Any = None
    assert placed.place(0, invitation).ended() is None
    assert given.read_text().count("\n") == 1
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", (tmp_path / "batch").read_text(), re.MULTILINE))
    assert asked.pop("job-name").strip("'\"") == "onset-small"
    ours = {"time", "cpus-per-task", "gpus-per-node", "mem", "partition", "account"}
    assert {key: value for key, value in asked.items() if key in ours} == options


def test_a_study_with_slurm_has_its_workers_there(write_study: StudyWriter, command) -> None:
    command("sbatch")
    asked = {"kind": "slurm", "slurm": {"host": "127.0.0.1"}}
    with place_of(load_study(write_study(workers=asked))) as place:
        assert isinstance(place, SlurmJobs)

"""Workers as Slurm jobs, one each, submitted by submitit: `search.running.remote` speaks with them, and `Team` submits
another where one is lost or has come to its time limit.

The nodes share the runs folder, the photos and the base.
"""

import contextlib
import importlib.util
import logging
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

from search.errors import StudyError, problem
from search.record.record import StudyFolder
from search.running.remote import Invitation, Job, RemoteTeam, answer
from search.running.workers import Team, resident
from search.study.study import Study

_HOST = "workers.slurm.host"
_ASK_EVERY_SECONDS = 30.0


@contextlib.contextmanager
def slurm_jobs(study: Study) -> Iterator["SlurmJobs"]:
    """Slurm as this machine knows it.

    Raises:
        StudyError: submitit or Slurm is not here, or this machine has no address for the nodes.
    """
    if importlib.util.find_spec("submitit") is None:
        wanted, why = "a kind that is installed", "pip install -e '.[slurm]'"
        raise StudyError([problem(study.source, "workers.kind", "slurm", wanted, why)])
    if shutil.which("sbatch") is None:
        wanted, why = "a kind that this machine has", "sbatch is not found"
        raise StudyError([problem(study.source, "workers.kind", "slurm", wanted, why)])
    yield SlurmJobs(study)


class SlurmJobs:
    """Submits workers (`search.running.remote.Placing`).

    Args:
        cluster: submitit's name of who runs them; "local" are processes of this machine.

    Raises:
        StudyError: this machine has no address for the nodes.
    """

    patience: float | None = None  # a queue may be long

    def __init__(self, study: Study, cluster: str = "slurm") -> None:
        self.host = study.workers.slurm.host or socket.gethostname()
        try:
            socket.create_server((self.host, 0)).close()
        except OSError as error:
            expected = "this machine's address as the nodes see it"
            raise StudyError([problem(study.source, _HOST, self.host, expected, str(error))]) from None
        self._cluster, self._lock = cluster, threading.Lock()
        self._executor: Any = None
        self._asked, self._listed, self._known = -_ASK_EVERY_SECONDS, list[str](), set[str]()

    def team(self, study: Study, folder: StudyFolder) -> Team:
        """The study's workers, not started yet."""
        self.prepare(study, folder)
        return RemoteTeam(self, resident, (study, folder), study.workers.count, study.workers.hung_after)

    def prepare(self, study: Study, folder: StudyFolder) -> None:
        """Say how jobs are submitted, and where they leave what they print: `slurm/` in the study's folder."""
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)  # the terminal belongs to the live table
        asked, aside = study.workers.slurm, folder.path / "slurm"
        aside.mkdir(mode=0o700, exist_ok=True)  # what a job is started with lies there, its key among it
        self._executor = submitit.AutoExecutor(folder=aside, cluster=self._cluster)
        gpus = (0 if study.workers.device == "cpu" else 1) if asked.gpus is None else asked.gpus
        self._executor.update_parameters(
            name=f"onset-{study.name}", timeout_min=max(1, round(asked.hours * 60)), cpus_per_task=asked.cpus
        )
        if gpus:
            self._executor.update_parameters(gpus_per_node=gpus)
        if asked.memory_gib is not None:
            self._executor.update_parameters(mem_gb=asked.memory_gib)
        if self._cluster == "slurm":
            more = {} if asked.partition is None else {"slurm_partition": asked.partition}
            self._executor.update_parameters(**more, slurm_additional_parameters=dict(asked.options))

    def place(self, slot: int, invitation: Invitation) -> Job:
        with self._lock:
            return _Submitted(self, self._executor.submit(answer, invitation))

    def knows(self, job: Any) -> bool:
        """Whether a job waits or runs. Slurm is asked for all of them at once, and seldom: a worker that is gone is
        noticed by its line. submitit itself would ask sacct, which many clusters do not have."""
        if self._cluster != "slurm":
            return not job.done()
        with self._lock:
            if time.monotonic() - self._asked > _ASK_EVERY_SECONDS:
                self._asked = time.monotonic()
                command = ["squeue", "--me", "--noheader", "--format=%i"]
                found = subprocess.run(command, capture_output=True, text=True, check=False)
                if found.returncode == 0:  # else Slurm is busy
                    self._listed = found.stdout.split()
                    self._known |= set(self._listed)
            return job.job_id in self._listed or job.job_id not in self._known


class _Submitted:
    """A worker that Slurm has been asked for (`search.running.remote.Job`)."""

    def __init__(self, slurm: SlurmJobs, job: Any) -> None:
        self._slurm, self._job = slurm, job

    def ended(self) -> str | None:
        return None if self._slurm.knows(self._job) else f"job {self._job.job_id} is no more"

    def cancel(self) -> None:
        self._job.cancel(check=False)

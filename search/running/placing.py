"""Who places a study's workers, by `workers.kind`."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from search.record.record import StudyFolder
from search.running.workers import Team, resident
from search.study.study import Study


class Workplace(Protocol):
    """Where workers may be placed."""

    def team(self, study: Study, folder: StudyFolder) -> Team:
        """The study's workers, not started yet. Raises StudyError where they would not find what they need."""


def place_of(study: Study) -> AbstractContextManager[Workplace]:
    """Where the study wants its workers, for as long as the block runs.

    Raises:
        StudyError: it cannot have them there.
    """
    if study.workers.kind == "ray":
        from search.running.ray_cluster import ray_cluster

        return ray_cluster(study)
    if study.workers.kind == "slurm":
        from search.running.slurm_jobs import slurm_jobs

        return slurm_jobs(study)
    return _this_machine()


class _ThisMachine:
    def team(self, study: Study, folder: StudyFolder) -> Team:
        return Team(
            resident,
            (study, folder),
            study.workers.count,
            preload=("search.running.preloaded",),
            hung_after=study.workers.hung_after,
        )


@contextlib.contextmanager
def _this_machine() -> Iterator[Workplace]:
    yield _ThisMachine()


def runs_folder_of(study: Study, folder: StudyFolder) -> StudyFolder:
    """The folder as the study's workers find it: those of other machines have another working folder."""
    return folder if study.workers.kind == "local" else StudyFolder(folder.path.absolute())

"""A study of workers that train nothing, placed by Ray; here, or in a process of its own, which can be killed.

python -m tests.search.ray_study STUDY.yaml RUNS KEY=VALUE…
"""

import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from search.record.clock import Clock
from search.record.record import StudyFolder
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.running.ray_cluster import RayCluster, ray_cluster
from search.running.remote import RemoteTeam
from search.running.workers import Team
from search.study.study import load_study
from tests.search.running.test_coordinator_processes import Outcome, _outcome
from tests.search.scripted_worker import Script, scripted

SLOWEST_SECONDS = 0.03


def at_home(connection: Connection, slot: int, script: Script) -> None:
    """A scripted worker that notes in which process and on which node it lives, and what reached it."""
    import ray

    home = script.folder / f"{slot}.home"
    node = ray.get_runtime_context().get_node_id()
    home.with_suffix(".part").write_text(f"{os.getpid()} {node} {os.environ.get('HF_HUB_OFFLINE')}")
    home.with_suffix(".part").rename(home)
    scripted(connection, slot, script)


def home_of(folder: StudyFolder, slot: int) -> tuple[int, str, str]:
    """(process, node, HF_HUB_OFFLINE there) of the worker that had the slot last."""
    pid, node, offline = (folder.path / f"{slot}.home").read_text().split()
    return int(pid), node, offline


def run(
    file: Path,
    runs: Path,
    settings: Sequence[str] = (),
    before: Callable[[RayCluster], object] = lambda place: None,
    slowest: float = SLOWEST_SECONDS,
) -> tuple[Outcome, list[str]]:
    """All trials as they ended, and what was said; on this machine alone where the study has local workers. A
    checkpoint takes up to `slowest` seconds."""
    study = load_study(file, settings)
    folder = StudyFolder(runs / study.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    script, count = Script(folder.path, slowest=slowest), study.workers.count

    def coordinated(team: Team) -> tuple[Outcome, list[str]]:
        said: list[str] = []
        board = Board(study.name, study.trials, count)
        board.note = said.append
        team.start()
        try:
            coordinator = Coordinator(study, folder, team, board, clock=Clock(folder))
            coordinator.run()
        finally:
            team.close()
        return _outcome(coordinator.optuna_study, folder), said

    if study.workers.kind == "local":
        return coordinated(Team(scripted, script, count))
    with ray_cluster(study) as place:
        before(place)
        return coordinated(RemoteTeam(place, at_home, script, count))


def main(file: str, runs: str, *settings: str) -> Any:
    from tests.search import ray_study  # its workers know it by this name

    return ray_study.run(Path(file), Path(runs), settings)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A study by the real command line with workers that train nothing, here or on a Ray cluster:

python -m tests.chaos.sitting STUDY.yaml --runs RUNS
"""

import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

import search.run
from search.record.record import StudyFolder
from search.running import placing, ray_cluster
from search.running.workers import Team
from search.study.study import Study
from tests.chaos import sitting  # the workers know it by this name


def standing_in(connection: Connection, slot: int, setup: tuple[Study, StudyFolder]) -> None:
    """Stands where `search.running.workers.resident` does."""
    from tests.chaos.worker import main

    main(connection, slot, *setup)


class _Here:
    def team(self, study: Study, folder: StudyFolder) -> Team:
        return Team(sitting.standing_in, (study, folder), study.workers.count, preload=("tests.chaos.preloaded",))


def main(arguments: Sequence[str] | None = None) -> int:
    placing._ThisMachine = _Here
    ray_cluster.resident = sitting.standing_in
    return search.run.main(arguments)


if __name__ == "__main__":
    sys.exit(main())

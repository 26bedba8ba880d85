"""Where a study's workers are placed, and how they find its folder."""

import os
from pathlib import Path
from typing import Any

import pytest

from search.record.record import StudyFolder
from search.running.placing import place_of, runs_folder_of
from search.running.workers import Team, resident
from search.study.study import load_study


def test_on_this_machine_a_study_has_as_many_processes_as_it_asks_for(write_study: Any, tmp_path: Path) -> None:
    study, folder = load_study(write_study(workers={"count": 3, "hung_after": 90})), StudyFolder(tmp_path)
    with place_of(study) as place:
        team = place.team(study, folder)
    assert type(team) is Team
    assert (team.count, team._target, team._setup, team._hung_after) == (3, resident, (study, folder), 90)


@pytest.mark.parametrize(("kind", "absolute"), [("local", False), ("ray", True), ("slurm", True)])
def test_workers_of_other_machines_are_given_the_whole_path(
    write_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, absolute: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    study, folder = load_study(write_study(workers={"kind": kind})), StudyFolder(Path("runs/small"))
    assert runs_folder_of(study, folder).path == (Path(os.getcwd()) / "runs/small" if absolute else Path("runs/small"))

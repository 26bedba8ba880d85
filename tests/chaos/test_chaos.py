"""Studies killed at random moments come to what they would have been (`python -m tests.chaos FOLDER` does so a hundred
times)."""

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.record.record import StudyFolder
from tests.chaos import processes
from tests.chaos.__main__ import summary
from tests.chaos.hurting import Hurt, Kill, Reference
from tests.chaos.outcomes import made, made_twice, numbers
from tests.chaos.studies import KINDS, Kind
from tests.search.crash_points import forked, sitting
from tests.search.ray_nodes import two_nodes

BRIEF = {
    "train": {"resolution": 64, "save_every_n_epochs": 2, "epochs": 8},
    "search": {"rank": {"values": [2, 4, 8, 12]}},
    "budget": {"trials": 1, "startup_trials": 1},
    "finalists": {"trials": 0},
}


@pytest.fixture
def bases(tmp_path: Path, tiny_sd15: Path, tiny_clip: Path) -> Path:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "base").symlink_to(tiny_sd15)
    (tmp_path / "bases" / "clip").symlink_to(tiny_clip)
    return tmp_path / "bases"


def brief(name: str) -> Kind:
    """One short trial of it."""
    kind = KINDS[name]
    return replace(kind, values={**kind.values, **BRIEF})


def undisturbed(study: Path, runs: Path, seconds: float) -> Reference:
    """The study in one process, which is faster than several and must come to the same."""
    assert forked(lambda: sitting(study, runs)) == 0
    found = numbers(StudyFolder(runs / "small"))
    found["files"] |= dict.fromkeys((".coordinator.holder", ".coordinator.lock", "study.json", "study.yaml"), 0)
    return Reference(seconds, found)


def test_a_study_that_is_killed_twice(bases: Path, tmp_path: Path) -> None:
    kind, kills = replace(brief("local"), victims={"coordinator": 1, "worker": 2}), list[Kill]()
    study = kind.write(tmp_path / "study", bases)
    reference = undisturbed(study, tmp_path / "undisturbed", 3.0)
    ended = Hurt(kind, study, tmp_path / "hurt", 0, 1, reference, kills.append, start=processes.Forked).run(most=2)
    assert (ended.differences, ended.left, ended.made_twice) == ([], [], [])
    assert kills
    assert not any(kill.left for kill in kills)
    assert ended.kills == len({kill.number for kill in kills})


def test_another_score_a_lost_file_and_a_checkpoint_made_anew_are_seen(tmp_path: Path) -> None:
    readings = tmp_path / "trials" / "0000" / "readings"
    readings.mkdir(parents=True)
    for epoch in (2, 4):
        (readings / f"{epoch:04d}.npz").write_text("as measured")
    before = made(tmp_path)
    assert made_twice(before, made(tmp_path)) == []
    (readings / "0002.npz").unlink()
    assert made_twice(before, made(tmp_path)) == []
    (readings / "0004.part").write_text("measured again")
    (readings / "0004.part").rename(readings / "0004.npz")
    assert made_twice(before, made(tmp_path)) == ["trials/0000/readings/0004.npz"]


def test_a_process_that_stays_is_found_by_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GONE_SECONDS", 0.2)
    (tmp_path / "stays.py").write_text("import subprocess, time\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    token = f"{random.random()}"
    process = processes.started("stays", tmp_path, tmp_path, token, tmp_path / "log")
    while len(processes.marked(token)) < 2:
        time.sleep(0.02)
    process.kill()
    process.wait()
    left, _ = processes.left_of([], token)
    assert left == ["sleep 60"]
    (orphan,) = processes.marked(token)
    orphan.kill()
    psutil.wait_procs([orphan], timeout=10)


def test_what_is_told_of_kills_is_counted(tmp_path: Path) -> None:
    assert summary(tmp_path, list(KINDS.values())) == {"kinds": {}, "kills": [], "studies": []}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["packed", "trained", "trained-packed"])
def test_other_kinds_killed(bases: Path, tmp_path: Path, name: str) -> None:
    ended = _hurt(KINDS[name], bases, tmp_path)
    assert (ended.differences, ended.left, ended.made_twice) == ([], [], [])


@pytest.mark.services
@pytest.mark.slow
def test_nodes_and_workers_of_a_ray_cluster_killed(bases: Path, tmp_path: Path) -> None:
    with two_nodes() as nodes:
        ended = _hurt(KINDS["ray"], bases, tmp_path, nodes=nodes)
    assert (ended.differences, ended.left, ended.made_twice) == ([], [], [])


def _hurt(kind: Kind, bases: Path, home: Path, **options: Any) -> Any:
    nodes = options.get("nodes")
    study = kind.write(home / "study", bases, None if nodes is None else nodes.address)
    reference = Reference.of(kind, study, home)
    return Hurt(kind, study, home / "hurt", 0, 1, reference, lambda kill: None, **options).run(most=3)

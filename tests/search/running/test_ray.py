"""Studies on a real Ray cluster of two nodes on this machine: the same numbers as here, whatever dies meanwhile."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors.numpy import load_file as load

from search.errors import StudyError
from search.record.lock import workers_alive
from search.record.record import StudyFolder
from search.running.ray_cluster import ray_cluster
from search.study.study import load_study
from tests.messages import refusal
from tests.search import ray_study
from tests.search.conftest import study_writer
from tests.search.ray_nodes import TwoNodes, two_nodes
from tests.search.recovery.real_studies import outcome, real_values
from tests.search.running.test_coordinator_processes import Outcome

pytestmark = pytest.mark.services

TRIALS, PATIENCE_SECONDS = 4, 400.0


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with two_nodes() as two:
        yield two


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, nodes: TwoNodes) -> Path:
    """A study of two workers, each with half a CPU of the cluster."""
    return study_writer(tmp_path_factory.mktemp("small"))(
        train={"resolution": 64, "save_every_n_epochs": 2, "epochs": 16},
        search={
            "lr_scheduler": {"values": ["constant", "cosine"]},
            "learning_rate_scale": {"min": 0.5, "max": 8, "log": True},
            "rank": {"values": [2, 4, 8, 12]},
        },
        budget={"trials": TRIALS, "startup_trials": 3},
        workers={"kind": "ray", "count": 2, "ray": {"address": nodes.cluster.address, "cpus": 0.5}},
    )


@pytest.fixture(scope="module")
def undisturbed(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same with workers of this machine."""
    home = tmp_path_factory.mktemp("local")
    values = yaml.safe_load(small.read_text()) | {"workers": {"count": 2}}
    values |= {key: str(small.parent / values[key]) for key in ("base", "data")}
    values["score"]["encoder"] = str(small.parent / "clip")
    file = home / "study.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return ray_study.run(file, home / "runs")[0]


def meanwhile(condition: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Does something as soon as a condition holds, while a study runs."""

    def watch() -> None:
        until(condition)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def begun(folder: StudyFolder, trial: int, checkpoints: int = 2) -> Callable[[], bool]:
    return lambda: len(list((folder.trial(trial) / "readings").glob("*.npz"))) > checkpoints


def test_a_study_on_two_nodes_is_the_study_of_one_machine(small, undisturbed, nodes, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "23")
    found, said = ray_study.run(small, tmp_path)
    assert found == undisturbed
    assert not said
    homes = [ray_study.home_of(StudyFolder(tmp_path / "small"), slot) for slot in (0, 1)]
    assert len({node for _, node, _ in homes}) == 2
    assert {offline for _, _, offline in homes} == {"23"}  # the nodes were started without
    until(lambda: not any(psutil.pid_exists(pid) for pid, _, _ in homes))


@pytest.mark.parametrize("what", ["actor", "node"])
def test_what_is_killed_in_the_middle_changes_nothing(small, undisturbed, nodes, tmp_path, what: str) -> None:
    folder = StudyFolder(tmp_path / "small")
    nodes.mend()

    def kill() -> None:
        homes = [ray_study.home_of(folder, slot) for slot in (0, 1)]
        assert nodes.second in {node for _, node, _ in homes}
        if what == "actor":
            os.kill(homes[1][0], signal.SIGKILL)
        else:
            nodes.kill_second()

    def both_work() -> bool:
        return begun(folder, 1, 1)() and all((folder.path / f"{slot}.home").exists() for slot in (0, 1))

    killing = meanwhile(both_work, kill)
    found, said = ray_study.run(small, tmp_path, slowest=0.5)  # a node takes a second or two to end
    killing.join()
    assert found == undisturbed
    assert said  # a new worker may be sent to the dead node, until Ray has noticed
    assert all("worker lost" in line for line in said)
    print(*said, sep="\n")
    homes = [ray_study.home_of(folder, slot) for slot in (0, 1)]
    assert what == "actor" or nodes.second not in {node for _, node, _ in homes}
    assert not workers_alive(folder.path, wait_seconds=5.0)


@pytest.mark.parametrize("where", ["two nodes", pytest.param("a cluster of its own", marks=pytest.mark.slow)])
def test_a_coordinator_that_is_killed_leaves_no_process_and_goes_on(
    small, undisturbed, nodes, tmp_path, where: str
) -> None:
    nodes.mend()
    folder = StudyFolder(tmp_path / "small")
    own = where == "a cluster of its own"
    settings = ["workers.ray.address=null"] if own else []
    command = [sys.executable, "-m", "tests.search.ray_study", str(small), str(tmp_path), *settings]
    repository = Path(__file__).parents[3]
    process = subprocess.Popen(command, cwd=repository, env={**os.environ, "PYTHONPATH": str(repository)})
    until(lambda: process.poll() is not None or (begun(folder, 0)() and begun(folder, 1)()))
    assert process.poll() is None
    left = psutil.Process(process.pid).children(recursive=True)
    left += [psutil.Process(ray_study.home_of(folder, slot)[0]) for slot in (0, 1)]
    assert len(left) > (6 if own else 1)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(left, timeout=90)  # the workers at once; agents of Ray's own after half a minute
    assert not [child.cmdline() for child in alive]
    if not own:
        assert ray_study.run(small, tmp_path)[0] == undisturbed


@contextlib.contextmanager
def seen_here_alone(folder: Path) -> Iterator[Path]:
    """The folder by a name that only this process has for it, as a disk of one machine is to the others."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def test_what_a_node_does_not_see_is_told_with_the_node(small, nodes, tmp_path) -> None:
    nodes.mend()
    study = load_study(small)
    with seen_here_alone(tmp_path) as unseen, ray_cluster(study) as place:
        with pytest.raises(StudyError, match=refusal("workers.kind", "ray") + r".*node 127\.0\.0\.1 .* does not see"):
            place.team(study, StudyFolder(unseen))
        (tmp_path / "photos").mkdir()
        elsewhere = replace(study, data=str(unseen / "photos"))
        with pytest.raises(StudyError, match=r"study\.yaml: data: expected what every node .* does not see it"):
            place.team(elsewhere, StudyFolder(tmp_path))
        place.team(study, StudyFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("count", [2, 3])
def test_a_node_that_dies_as_a_study_begins_is_left_out(small, nodes, tmp_path, count: int) -> None:
    """Ray lists it as alive for a while: so it was asked, and the study refused for it."""
    nodes.mend()
    study = load_study(small, [f"workers.count={count}"])
    with ray_cluster(study) as place:
        nodes.kill_second()
        if count == 2:
            assert place.team(study, StudyFolder(tmp_path)).count == count
            assert nodes.second not in place._nodes
        else:
            expected = "workers.count: expected at most 2, for which the cluster has room"
            with pytest.raises(StudyError, match=expected):
                place.team(study, StudyFolder(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "key", "expected"),
    [
        (["workers.ray.gpus=0.5"], "workers.ray.gpus", "at most 0, "),
        (["workers.ray.cpus=3"], "workers.ray.cpus", "at most 1, "),
        (["workers.count=7"], "workers.count", "at most 4, for which the cluster has room, "),
    ],
)
def test_workers_for_which_there_is_no_room_are_refused(small, nodes, settings, key: str, expected: str) -> None:
    nodes.mend()
    study = load_study(small, settings)
    with pytest.raises(StudyError, match=f": {key}: expected {expected}"), ray_cluster(study):
        raise AssertionError


@pytest.mark.slow
def test_what_a_real_worker_trains_under_ray_is_what_it_trains_here(nodes, tmp_path) -> None:
    values = real_values()
    values["train"] |= {"epochs": 2}
    values["budget"] = {"trials": 1}
    values["score"]["shifted"]["composites"] = 0
    running, folders = [], []
    for kind, workers in (("ray", {"ray": {"address": nodes.cluster.address}}), ("local", {})):
        values["workers"] = {"kind": kind, "count": 1, "threads": 1, **workers}
        file, runs = tmp_path / f"{kind}.yaml", tmp_path / kind
        file.write_text(yaml.safe_dump(values, sort_keys=False))
        folders.append(StudyFolder(runs / "mini"))
        command = [sys.executable, "-m", "search.run", str(file), "--runs", str(runs)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for process in running:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
    assert outcome(folders[0]) == outcome(folders[1])
    readings = [(folder.trial(0) / "trajectory.csv").read_bytes() for folder in folders]
    assert readings[0] == readings[1]
    under_ray, here = (
        load(folder.trial(0) / "checkpoints" / "0002" / "lora.safetensors").values() for folder in folders
    )
    assert [weights.tobytes() for weights in under_ray] == [weights.tobytes() for weights in here]

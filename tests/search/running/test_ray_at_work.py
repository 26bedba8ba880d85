"""What Ray is told, without Ray: a cluster is started or joined, its nodes are asked what they see, workers begun."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from search.errors import StudyError, WorkerError
from search.record.record import StudyFolder
from search.running.ray_cluster import RayCluster, _connect, _Home, ray_cluster
from search.running.remote import Invitation
from search.study.study import load_study
from tests.search.conftest import StudyWriter
from tests.search.running.test_ray_cluster import nodes_of

IDS = ("a1" * 28, "b2" * 28)


class Remote:
    """What `ray.remote` makes of a function or a class, as `RayCluster` uses it: it runs here, at once."""

    def __init__(self, target: Callable[..., Any]) -> None:
        self._target, self.asked = target, list[dict[str, Any]]()

    def __call__(self, target: Callable[..., Any]) -> "Remote":
        self._target = target
        return self

    def options(self, **options: Any) -> "Remote":
        self.asked.append(options)
        return self

    def remote(self, *given: Any) -> Any:
        return lambda: self._target(*given)


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A cluster of two nodes that see what this machine sees."""
    nodes = [
        {**node, "NodeID": IDS[n], "NodeManagerAddress": f"10.0.0.{n}", "NodeManagerHostname": f"host-{n}"}
        for n, node in enumerate(nodes_of({"CPU": 4.0}, {"CPU": 4.0})[:2])
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    remote = Remote(lambda: None)
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "get", lambda look, timeout: look())
    return remote


def test_every_node_is_asked_once_and_what_it_saw_is_taken_away(
    write_study: StudyWriter, tmp_path: Path, two_nodes: Remote
) -> None:
    study, folder = (
        load_study(write_study(workers={"kind": "ray", "count": 3, "hung_after": 77})),
        StudyFolder(tmp_path),
    )
    before = sorted(tmp_path.iterdir())
    cluster = RayCluster(study)
    team = cluster.team(study, folder)
    assert (team.count, team._hung_after, team._setup) == (3, 77, (study, folder))
    assert [options["scheduling_strategy"].node_id for options in two_nodes.asked] == [*IDS]
    assert not any(options["scheduling_strategy"].soft for options in two_nodes.asked)
    assert {(options["num_cpus"], options["max_retries"]) for options in two_nodes.asked} == {(0, 0)}
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("blind_to", ["the runs folder", "data", "everything"])
def test_a_node_that_does_not_see_what_a_study_needs_is_named(
    write_study: StudyWriter, tmp_path: Path, two_nodes: Remote, monkeypatch: pytest.MonkeyPatch, blind_to: str
) -> None:
    study, folder = load_study(write_study(workers={"kind": "ray", "count": 2})), StudyFolder(tmp_path)
    before = sorted(tmp_path.iterdir())
    looks = []

    def get(look: Any, timeout: float) -> list[str]:
        looks.append(look)
        seen = [look] if len(looks) == 1 else []
        assert timeout > 0
        if seen:  # the first node sees all
            return look()
        if blind_to == "everything":
            raise ImportError("No module named 'search'\nand more")
        return [str(tmp_path / "photos")] if blind_to == "data" else [str(mark) for mark in tmp_path.glob(".seen-*")]

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(StudyError) as caught:
        RayCluster(study).team(study, folder)
    said = str(caught.value)
    assert len(looks) == 2
    node = "node 10.0.0.1 (host-1)"
    if blind_to == "data":
        assert f"data: expected what every node of the cluster sees, got {str(tmp_path / 'photos')!r}: " in said
        assert f"{node} does not see it" in said
    else:
        assert "workers.kind: expected nodes with Onset installed that share the runs folder, got 'ray': " in said
        why = "cannot work: No module named 'search'" if blind_to == "everything" else f"does not see {tmp_path}"
        assert said.endswith(f"{node} {why}")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("gpus", "visible"), [(0, ""), (0.5, None)])
def test_a_worker_is_asked_for_as_a_process_of_its_own(
    write_study: StudyWriter, two_nodes: Remote, monkeypatch: pytest.MonkeyPatch, gpus: float, visible: str | None
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: nodes_of({"CPU": 4.0, "GPU": 1.0}))
    cluster = RayCluster(load_study(write_study(workers={"kind": "ray", "ray": {"gpus": gpus, "cpus": 2}})))
    invited: list[Invitation] = []
    work = SimpleNamespace(remote=invited.append)
    monkeypatch.setattr(Remote, "remote", lambda self: SimpleNamespace(work=work))
    cluster.place(0, Invitation("10.0.0.7", 4242, b"key", {"HF_HOME": "/models"}))
    (options,) = two_nodes.asked
    assert options == {
        "num_cpus": 2, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"
    }  # fmt: skip
    hidden = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert invited == [Invitation("10.0.0.7", 4242, b"key", {"HF_HOME": "/models", **hidden})]


@pytest.mark.parametrize("raises", [False, True])
def test_an_actor_ends_soon_after_its_worker_even_if_ray_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    started: list[tuple[float, Any, Any, bool]] = []

    class Timer(threading.Timer):
        def start(self) -> None:
            started.append((self.interval, self.function, self.args, self.daemon))

    def answer(invitation: Any) -> None:
        assert started == []
        if raises:
            raise EOFError

    monkeypatch.setattr(threading, "Timer", Timer)
    monkeypatch.setattr("search.running.ray_cluster.answer", answer)
    invitation: Any = None
    if raises:
        with pytest.raises(EOFError):
            _Home().work(invitation)
    else:
        _Home().work(invitation)
    ((seconds, function, arguments, daemon),) = started
    assert 0 < seconds < 60
    assert (function, tuple(arguments), daemon) == (os._exit, (0,), True)


class Begun:
    """`ray.init` and `ray.shutdown`, of which the first so many fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
        self.inits, self.shut, self._fails = list[dict[str, Any]](), 0, fails
        monkeypatch.setattr(ray, "init", self._init)
        monkeypatch.setattr(ray, "shutdown", self._shutdown)

    def _init(self, **how: Any) -> None:
        self.inits.append(how)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray does
        if len(self.inits) <= self._fails:
            raise RuntimeError("it is busy\nand more")

    def _shutdown(self) -> None:
        self.shut += 1


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_a_cluster_of_this_machine_is_started_twice_at_most(
    write_study: StudyWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    begun, handler = Begun(monkeypatch, fails), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    study = load_study(write_study(workers={"kind": "ray", "count": 3, "ray": {"cpus": 2}}))
    if fails == 2:
        with pytest.raises(WorkerError, match=r"^Ray cannot be started on this machine: it is busy$"):
            _connect(study, tmp_path)
    else:
        _connect(study, tmp_path)
    assert (len(begun.inits), begun.shut) == (min(fails + 1, 2), fails)
    assert all(how == begun.inits[0] for how in begun.inits)
    how = begun.inits[0]
    assert (how["address"], how["_node_ip_address"], how["_temp_dir"]) == ("local", "127.0.0.1", str(tmp_path))
    assert how["num_cpus"] == 6, "as many as all workers take"
    assert (how["log_to_driver"], how["configure_logging"], how["include_dashboard"]) == (False, False, False)
    assert signal.getsignal(signal.SIGTERM) == handler
    small = load_study(write_study(workers={"kind": "ray", "count": 3}))
    begun._fails = 0
    _connect(small, tmp_path)
    assert begun.inits[-1]["num_cpus"] == 4, "as many as there are"


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("address", ["auto", "10.0.0.9:6379"])
def test_a_cluster_that_is_named_is_joined_where_it_answers(
    write_study: StudyWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, answers: bool
) -> None:
    begun = Begun(monkeypatch, 0)
    asked: list[str] = []
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.8:6379")
    monkeypatch.setattr("search.running.ray_cluster._speaks", lambda known: asked.append(known) or answers)
    study = load_study(write_study(workers={"kind": "ray", "ray": {"address": address}}))
    known = {"auto": "10.0.0.8:6379"}.get(address, address)
    if answers:
        _connect(study, tmp_path)
        assert begun.inits == [{"address": address, "log_to_driver": False, "configure_logging": False,
                                "logging_level": "ERROR"}]  # fmt: skip
        begun._fails = 9
        with pytest.raises(StudyError, match=r"a Ray cluster that answers, got .*: it is busy$"):
            _connect(study, tmp_path)
    else:
        with pytest.raises(StudyError, match=rf"workers.ray.address.*: nothing answers at {known}$"):
            _connect(study, tmp_path)
        assert begun.inits == []
    assert set(asked) == {known}


def test_a_cluster_of_this_machine_ends_with_the_block_and_leaves_nothing(
    write_study: StudyWriter, monkeypatch: pytest.MonkeyPatch, two_nodes: Remote
) -> None:
    begun = Begun(monkeypatch, 0)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    with ray_cluster(load_study(write_study(workers={"kind": "ray"}))) as cluster:
        assert cluster.host == "10.0.0.7"
        aside = Path(begun.inits[0]["_temp_dir"])
        assert aside.is_dir()
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])) == ("token", 64)
        assert begun.shut == 0
    assert begun.shut == 1
    assert not aside.exists()
    assert not {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"} & os.environ.keys()


def test_a_cluster_of_others_is_joined_with_their_token(
    write_study: StudyWriter, monkeypatch: pytest.MonkeyPatch, two_nodes: Remote
) -> None:
    Begun(monkeypatch, 0)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr("search.running.ray_cluster._speaks", lambda known: True)
    with ray_cluster(load_study(write_study(workers={"kind": "ray", "ray": {"address": "10.0.0.9:6379"}}))):
        assert "RAY_AUTH_TOKEN" not in os.environ


def test_without_ray_the_study_is_refused(write_study: StudyWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(StudyError, match=r"workers.kind: expected a kind that is installed, got 'ray': pip install"),
        ray_cluster(load_study(write_study(workers={"kind": "ray"}))),
    ):
        pass

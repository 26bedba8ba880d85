"""What is asked and said of a Ray cluster without one: room on nodes, paths that nodes have to see, addresses."""

import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import ray

from search.errors import StudyError
from search.running.ray_cluster import (
    RayCluster,
    _Actor,
    _first_line,
    _noted,
    _own_signals,
    _paths,
    _speaks,
    _unseen,
)
from search.study.study import load_study
from tests.search.conftest import StudyWriter


@pytest.mark.parametrize(
    ("gpus", "cpus", "node", "room"),
    [
        (0.0, 1.0, {"CPU": 4.0}, 4),
        (0.0, 3.0, {"CPU": 8.0}, 2),
        (0.0, 0.5, {"CPU": 2.0, "GPU": 1.0}, 4),
        (1.0, 1.0, {"CPU": 8.0, "GPU": 2.0}, 2),
        (1.0, 4.0, {"CPU": 4.0, "GPU": 2.0}, 1),
        (1.0, 1.0, {"CPU": 8.0}, 0),
        (2.0, 1.0, {"CPU": 8.0, "GPU": 5.0}, 2),
        (0.5, 1.0, {"CPU": 8.0, "GPU": 2.0}, 4),
        (0.3, 1.0, {"CPU": 8.0, "GPU": 2.0}, 6),  # three to a GPU: none has parts of two
        (0.3, 1.0, {"GPU": 2.0}, 0),
    ],
)
def test_a_node_has_room_for_as_many_workers_as_fit_its_gpus_and_its_cpus(gpus, cpus, node, room) -> None:
    cluster = RayCluster.__new__(RayCluster)  # which asks a cluster as soon as it is made
    cluster._gpus, cluster._cpus = gpus, cpus
    assert cluster._room({"Resources": node}) == room


def test_every_file_that_a_study_reads_is_to_be_seen_and_no_hub_id_is(write_study: StudyWriter, tmp_path: Path) -> None:
    (tmp_path / "reg").mkdir()
    (tmp_path / "reg" / "1_toy").mkdir()
    study = load_study(write_study(base="runwayml/some-model", score={"encoder": "clip", "holdout": 2}))
    found = dict(_paths(study))
    assert found == {"data": tmp_path / "photos", "score.encoder": tmp_path / "clip"}
    own = dict(_paths(load_study(write_study())))
    assert own == {"base": tmp_path / "base", **found}
    assert _unseen([str(tmp_path / "base"), str(tmp_path / "gone")]) == [str(tmp_path / "gone")]


def test_the_cluster_of_this_machine_is_what_it_says_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert _noted() is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.1:6379\n")
    assert _noted() == "10.0.0.1:6379"
    (tmp_path / "ray" / "ray_current_cluster").write_text("\n")
    assert _noted() is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    assert _noted() == "10.0.0.2:6379"
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert _noted() is None


@pytest.mark.parametrize(
    ("answer", "speaks"),
    [(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", True), (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", True),
     (b"HTTP/1.1 400", False), (b"", False)],
)  # fmt: skip
def test_whoever_answers_with_http_2_settings_may_be_ray(answer: bytes, speaks: bool) -> None:
    heard: list[bytes] = []

    def serve() -> None:
        line, _ = server.accept()
        with line:
            heard.append(line.recv(100))
            line.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        assert _speaks(f"127.0.0.1:{server.getsockname()[1]}") is speaks
        thread.join()
        port = server.getsockname()[1]
    assert heard[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    gone = f"127.0.0.1:{port}"
    assert [_speaks(address) for address in (gone, "127.0.0.1", "127.0.0.1:99999")] == [False] * 3


def test_handlers_of_signals_come_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with _own_signals():
        for number in before:
            signal.signal(number, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\ntwo"), "one"), (ValueError("\n  one   line \n"), "one line"), (ValueError(""), "ValueError"),
     (ValueError("x" * 300), "x" * 200)],
)  # fmt: skip
def test_an_error_is_told_in_one_line(error: Any, line: str) -> None:
    assert _first_line(error) == line


def nodes_of(*resources: dict[str, float]) -> list[dict[str, Any]]:
    """As `ray.nodes()` tells them; the last one has left."""
    found = [{"NodeID": str(n), "Alive": True, "Resources": each} for n, each in enumerate(resources)]
    return [*found, {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}]


BOTH = ({"CPU": 8.0, "GPU": 2.0}, {"CPU": 16.0})


@pytest.mark.parametrize(
    ("nodes", "asked", "gpus", "cpus", "used"),
    [
        (BOTH, {}, 1.0, 1.0, {"0"}),
        (BOTH, {"device": "cuda"}, 1.0, 1.0, {"0"}),
        (BOTH, {"device": "cpu"}, 0.0, 1.0, {"0", "1"}),
        (BOTH, {"ray": {"gpus": 0}}, 0.0, 1.0, {"0", "1"}),
        (BOTH, {"ray": {"gpus": 0.5, "cpus": 2}}, 0.5, 2.0, {"0"}),
        (BOTH, {"ray": {"gpus": 0, "cpus": 9}, "count": 1}, 0.0, 9.0, {"1"}),
        (({"CPU": 4.0},), {}, 0.0, 1.0, {"0"}),
    ],
)
def test_each_worker_takes_a_gpu_where_there_are_some_and_a_core(
    write_study: StudyWriter,
    monkeypatch: pytest.MonkeyPatch,
    nodes: Any,
    asked: Any,
    gpus: float,
    cpus: float,
    used: Any,
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: nodes_of(*nodes))
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    cluster = RayCluster(load_study(write_study(workers={"kind": "ray", "count": 2, **asked})))
    assert (cluster._gpus, cluster._cpus, set(cluster._nodes), cluster.host) == (gpus, cpus, used, "10.0.0.7")


@pytest.mark.parametrize(
    ("nodes", "asked", "told"),
    [
        (BOTH, {"ray": {"gpus": 3}}, ["workers.ray.gpus", "at most 2", "3"]),
        (BOTH, {"ray": {"cpus": 17}}, ["workers.ray.cpus", "at most 16", "17"]),
        (BOTH, {"count": 3}, ["workers.count", "at most 2, for which the cluster has room", "1 GPUs and 1 CPUs"]),
        (BOTH, {"count": 25, "device": "cpu"}, ["workers.count", "at most 24", "0 GPUs and 1 CPUs"]),
        ((), {}, ["workers.ray.cpus", "at most 0"]),
    ],
)
def test_workers_for_which_there_is_no_room_are_refused(
    write_study: StudyWriter, monkeypatch: pytest.MonkeyPatch, nodes: Any, asked: Any, told: list[str]
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: nodes_of(*nodes))
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    with pytest.raises(StudyError) as caught:
        RayCluster(load_study(write_study(workers={"kind": "ray", **asked})))
    assert all(part in str(caught.value) for part in told)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (None, "it ended"),
        (ray.exceptions.OutOfMemoryError("…"), "Ray ended it, since memory ran out on its node"),
        (ray.exceptions.ActorUnavailableError("…", None), "Ray does not reach it any more"),
        (ray.exceptions.RayTaskError("work", "a trace", ValueError("no such base\nand more")), "no such base"),
        (ray.exceptions.RaySystemError("the worker process has died"), "it was killed: often because memory ran out"),
        (ray.exceptions.RaySystemError("its node  has died"), "its node is gone"),
        (ray.exceptions.RaySystemError("something\nelse"), "Ray ended it: System error: something else"),
    ],
)
def test_why_an_actor_is_no_more_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, raised: Exception | None, said: str
) -> None:
    def get(reference: object) -> None:
        assert reference == "working"
        if raised is not None:
            raise raised

    actor = _Actor.__new__(_Actor)  # which asks a cluster to begin as soon as it is made
    actor._actor, actor._working = "actor", "working"
    killed: list[object] = []
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(ray, "wait", lambda those, timeout: ([], those))
    assert actor.ended() is None
    monkeypatch.setattr(ray, "wait", lambda those, timeout: (those, []))
    assert actor.ended() == said
    actor.cancel()
    assert killed == ["actor"]

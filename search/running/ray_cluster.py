"""Workers on a Ray cluster: each is a Ray Core actor that ends with its coordinator, `search.running.remote` speaks
with it, and `Team` replaces it where Ray finds room.

The nodes share the runs folder, the photos and the base.
"""

import contextlib
import importlib.util
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.errors import StudyError, WorkerError, problem
from search.record.record import StudyFolder
from search.running.environment import variables
from search.running.remote import Invitation, Job, RemoteTeam, answer
from search.running.workers import Team, resident
from search.study.study import Study

_ADDRESS = "workers.ray.address"
_ANSWERS_SECONDS = 3.0
_PLACED_SECONDS = 120.0
"""Until a worker has a place; after three times as long without one its trials go to the others."""
_LOOKS_SECONDS = 120.0
_STARTS = 2
"""Ray gives up after 30 s, which a busy machine may need for what it finds in its memory the second time."""
_LAST_SECONDS = 5.0
_CURRENT = "ray/ray_current_cluster"
"""Where `ray start` notes the cluster that a machine belongs to, below RAY_TMPDIR or /tmp."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what the cluster has to say would be printed into the live table
}
_OURS = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # binds to 127.0.0.1 alone
    "RAY_worker_niceness": "0",  # as workers without Ray
    "RAY_enable_pipe_based_agent_to_parent_health_check": "1",  # its agents end at once with it, when we are killed
}
"""What a cluster of this machine alone is started with."""
_OBJECT_STORE_BYTES = 80 * 2**20  # nearly the least that Ray allows: we keep nothing there


@contextlib.contextmanager
def ray_cluster(study: Study) -> Iterator["RayCluster"]:
    """The cluster that a study names, for as long as the block runs; one of this machine alone ends with it.

    Raises:
        StudyError: Ray is not installed, nothing answers there, or the workers are too large for the cluster.
    """
    if importlib.util.find_spec("ray") is None:
        wanted, why = "a kind that is installed", "pip install -e '.[ray]'"
        raise StudyError([problem(study.source, "workers.kind", "ray", wanted, why)])
    with contextlib.ExitStack() as stack:
        stack.enter_context(variables(_QUIET))
        if study.workers.ray.address is None:
            stack.enter_context(variables({**_OURS, "RAY_AUTH_TOKEN": secrets.token_hex(32)}))
        aside = Path(tempfile.mkdtemp(prefix="onset-ray-"))
        stack.callback(shutil.rmtree, aside, ignore_errors=True)
        _connect(study, aside)
        import ray

        stack.callback(ray.shutdown)
        yield RayCluster(study)


class RayCluster:
    """A cluster that answers, and has room for a study's workers (`search.running.remote.Placing`).

    Raises:
        StudyError: it has no room for them.
    """

    patience: float | None = _PLACED_SECONDS

    def __init__(self, study: Study) -> None:
        import ray

        self.host = ray.util.get_node_ip_address()
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        most = {kind: max((_has(node, kind) for node in nodes.values()), default=0.0) for kind in ("GPU", "CPU")}
        asked, workers = study.workers.ray, study.workers
        one = 1.0 if most["GPU"] and workers.device in ("auto", "cuda") else 0.0
        self._gpus, self._cpus = one if asked.gpus is None else asked.gpus, asked.cpus or 1.0
        wrong = [
            problem(study.source, f"workers.ray.{key}", value, f"at most {most[kind]:g}", "no node has more")
            for key, kind, value in (("gpus", "GPU", self._gpus), ("cpus", "CPU", self._cpus))
            if value > most[kind]
        ]
        if not wrong:
            self._nodes = {key: node for key, node in nodes.items() if self._room(node)}
            wrong = self._too_many(study)
        if wrong:
            raise StudyError(wrong)

    def team(self, study: Study, folder: StudyFolder) -> Team:
        """The study's workers, not started yet.

        Raises:
            StudyError: a node does not see what they need.
        """
        self._check_nodes(study, folder)
        return RemoteTeam(self, resident, (study, folder), study.workers.count, study.workers.hung_after)

    def place(self, slot: int, invitation: Invitation) -> Job:
        import ray

        if not self._gpus:  # Ray leaves all of them visible then
            hidden = {**invitation.environment, "CUDA_VISIBLE_DEVICES": ""}
            invitation = Invitation(invitation.host, invitation.port, invitation.key, hidden)
        actor = ray.remote(_Home).options(
            num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        return _Actor(actor.remote(), invitation)

    def _room(self, node: Mapping[str, Any]) -> int:
        """How many workers a node has room for."""
        cpus = math.floor(_has(node, "CPU") / self._cpus)
        if not self._gpus:
            return cpus
        gpus = _has(node, "GPU")
        fit = int(gpus) * math.floor(1 / self._gpus) if self._gpus < 1 else math.floor(gpus / self._gpus)
        return min(cpus, fit)

    def _too_many(self, study: Study) -> list[str]:
        """A line where the nodes have no room for all workers."""
        room, count = sum(self._room(node) for node in self._nodes.values()), study.workers.count
        if room >= count:
            return []
        why = f"each takes {self._gpus:g} GPUs and {self._cpus:g} CPUs"
        return [problem(study.source, "workers.count", count, f"at most {room}, for which the cluster has room", why)]

    def _check_nodes(self, study: Study, folder: StudyFolder) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # a folder of the study's name may be there and be another one; `sweep_study` knows what ends in .part
        mark = folder.path / f".seen-{secrets.token_hex(8)}.part"
        mark.touch()
        needed = [("the runs folder", mark), *((key, path) for key, path in _paths(study))]
        try:
            looks = {
                key: ray.remote(_unseen)
                .options(num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(key, soft=False))
                .remote([str(path) for _, path in needed])
                for key in self._nodes
            }
            for key, look in looks.items():
                name = f"node {self._nodes[key]['NodeManagerAddress']} ({self._nodes[key]['NodeManagerHostname']})"
                try:
                    unseen = ray.get(look, timeout=_LOOKS_SECONDS)
                except Exception as error:  # Onset is not there, another Python, or the node has just gone
                    if _has_gone(key, error):
                        del self._nodes[key]
                        continue
                    why = f"{name} cannot work: {_first_line(error)}"
                    raise StudyError([problem(study.source, "workers.kind", "ray", _NODES, why)]) from None
                if mark.name in {Path(path).name for path in unseen}:
                    why = f"{name} does not see {folder.path}"
                    raise StudyError([problem(study.source, "workers.kind", "ray", _NODES, why)])
                for what, path in needed:
                    if str(path) in unseen:
                        why = f"{name} does not see it"
                        expected = "what every node of the cluster sees"
                        raise StudyError([problem(study.source, what, str(path), expected, why)])
        finally:
            mark.unlink(missing_ok=True)
        if wrong := self._too_many(study):
            raise StudyError(wrong)


_NODES = "nodes with Onset installed that share the runs folder"


class _Home:
    """What an actor is: a process in which a worker lives."""

    def work(self, invitation: Invitation) -> None:
        try:
            answer(invitation)
        finally:  # Ray ends it before that, unless Ray is gone
            last = threading.Timer(_LAST_SECONDS, os._exit, (0,))
            last.daemon = True
            last.start()


class _Actor:
    """A worker that Ray has been asked for (`search.running.remote.Job`)."""

    def __init__(self, actor: Any, invitation: Invitation) -> None:
        self._actor, self._working = actor, actor.work.remote(invitation)

    def ended(self) -> str | None:
        import ray

        if not ray.wait([self._working], timeout=0)[0]:
            return None
        try:
            ray.get(self._working)
        except ray.exceptions.OutOfMemoryError:
            return "Ray ended it, since memory ran out on its node"
        except ray.exceptions.RayTaskError as error:
            return _first_line(error.cause)
        except ray.exceptions.ActorUnavailableError:
            return "Ray does not reach it any more"
        except ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            if "worker process has died" in said:
                return "it was killed: often because memory ran out"
            return "its node is gone" if "node has died" in said else f"Ray ended it: {said[:200]}"
        return "it ended"

    def cancel(self) -> None:
        import ray

        ray.kill(self._actor)


def _unseen(paths: Sequence[str]) -> list[str]:
    """Those that this node does not see."""
    return [path for path in paths if not os.path.exists(path)]


def _paths(study: Study) -> Iterator[tuple[str, Path]]:
    """Files and folders that a study reads: where the study names them, and where they are."""
    named = [("base", study.base), ("data", study.data), ("reg_data", study.reg_data)]
    named += [("score.encoder", study.encoder), ("score.identity_encoder", study.identity_encoder)]
    named += [("score.shifted.masks", study.masks)]
    if study.finished_run is not None:
        named += [("checkpoints.folder", file) for file in study.finished_run.files.values()]
    for key, value in named:
        if value is not None and os.path.isabs(value):  # else a hub id or a name
            yield key, Path(value)


def _connect(study: Study, aside: Path) -> None:
    """Makes this process a driver of the cluster. Ray tries an address where nothing answers for two minutes, so we
    ask there first."""
    address = study.workers.ray.address
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR", "include_dashboard": False}
    if address is None:
        cpus = max(os.cpu_count() or 1, math.ceil(study.workers.count * (study.workers.ray.cpus or 1)))
        more = {"num_cpus": cpus, "object_store_memory": _OBJECT_STORE_BYTES, "_temp_dir": str(aside)}
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)
        for left in reversed(range(_STARTS)):
            try:
                with _own_signals():
                    ray.init(address="local", _node_ip_address="127.0.0.1", **more, **quiet)
                return
            except Exception as error:
                ray.shutdown()
                if not left:
                    raise WorkerError(f"Ray cannot be started on this machine: {_first_line(error)}") from None
    known = _noted() if address == "auto" else address
    if known is not None and not _speaks(known):
        why = f"nothing answers at {known}"
    else:
        del quiet["include_dashboard"]  # the cluster's own affair
        try:
            import ray

            logging.getLogger("ray").setLevel(logging.ERROR)
            with _own_signals():
                ray.init(address=address, **quiet)
            return
        except (Exception, SystemExit) as error:
            why = _first_line(error)
    expected = "a Ray cluster that answers"
    raise StudyError([problem(study.source, _ADDRESS, address, expected, why)])


def _noted() -> str | None:
    """The cluster that this machine belongs to, as far as its environment or `ray start` say so."""
    named = os.environ.get("RAY_ADDRESS")
    if named is None:
        with contextlib.suppress(OSError):
            named = (Path(os.environ.get("RAY_TMPDIR") or "/tmp") / _CURRENT).read_text(encoding="utf-8").strip()
    return named or None


def _speaks(address: str) -> bool:
    """Whether HTTP/2, which Ray speaks, is spoken there."""
    host, _, port = address.rpartition(":")
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    try:
        with socket.create_connection((host, int(port)), timeout=_ANSWERS_SECONDS) as line:
            line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
            return line.recv(len(settings))[3:4] == settings[3:4]
    except (OSError, ValueError, OverflowError):
        return False


def _has(node: Mapping[str, Any], kind: str) -> float:
    return float(node["Resources"].get(kind, 0.0))


def _has_gone(node: str, error: Exception) -> bool:
    """Whether a node could not answer because it is no longer there: Ray lists a dead one for a while."""
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError

    gone = isinstance(error, NodeDiedError | TaskUnschedulableError)
    return gone or not any(each["Alive"] for each in ray.nodes() if each["NodeID"] == node)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split())[:200] if lines else type(error).__name__


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in the place of ours, and does not take it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

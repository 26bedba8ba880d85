"""One study, killed at random moments until it has had enough, and then let go on to its end."""

import contextlib
import json
import random
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from search.record.record import StudyFolder
from tests.chaos import processes
from tests.chaos.outcomes import Made, made, made_twice, moment, numbers
from tests.chaos.studies import Kind
from tests.search.crash_points import differences
from tests.search.ray_nodes import TwoNodes

MOST_KILLS = 8
_LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Reference:
    """The undisturbed study."""

    seconds: float
    numbers: dict[str, Any]

    @classmethod
    def of(cls, kind: Kind, study: Path, home: Path) -> "Reference":
        """Runs it, unless `home` holds it already."""
        kept = home / "reference.json"
        if not kept.is_file():
            runs, began = home / "undisturbed", time.monotonic()
            shutil.rmtree(runs, ignore_errors=True)
            log = home / "undisturbed.log"
            code = processes.started(kind.module, study, runs, secrets.token_hex(8), log).wait()
            assert code == 0, log.read_text()[-2000:]
            found = cls(time.monotonic() - began, numbers(StudyFolder(runs / "small")))
            kept.write_text(json.dumps(asdict(found)))
        return cls(**json.loads(kept.read_text()))


@dataclass
class Kill:
    """One kill. what: see `Kind.victims`; moment: where in the study's course; after_seconds: since the study was
    started, or since the kill before; gone_seconds: until all that should end with it had; left: what did not."""

    kind: str
    study: int
    number: int
    what: str
    moment: str
    after_seconds: float
    gone_seconds: float | None = None
    left: list[str] = field(default_factory=list)
    made_twice: list[str] = field(default_factory=list)
    stopped: str = ""
    """The last line of a study that ended by itself after this kill, to be started again."""


@dataclass(frozen=True)
class Ended:
    """A study that was killed, once it has ended. differences: from the undisturbed one."""

    kind: str
    study: int
    kills: int
    seconds: float
    differences: list[str]
    left: list[str]
    made_twice: list[str]


class Hurt:
    """A study that is killed.

    Args:
        home: its folder; a study that is there goes on.
        number: which one of its kind. kills: how many times it was killed already.
        note: keeps what is known of each kill as soon as it is done.
        nodes: the cluster of the kind `ray`. start: how it is started.
    """

    def __init__(
        self,
        kind: Kind,
        study: Path,
        home: Path,
        number: int,
        seed: int,
        reference: Reference,
        note: Callable[[Kill], None],
        *,
        kills: int = 0,
        nodes: TwoNodes | None = None,
        start: Callable[..., processes.Coordinating] = processes.started,
    ) -> None:
        self.kind, self.study, self.home, self.number, self.seed = kind, study, home, number, seed
        self.reference, self.note, self.kills, self.nodes = reference, note, kills, nodes
        self._start = start
        self.folder = StudyFolder(home / "runs" / "small")
        self._count = int(kind.workers["count"])
        self._trials = int(kind.values["budget"]["trials"])
        self._made: Made = {}
        self._token = secrets.token_hex(8)
        self._seen: set[psutil.Process] = set()  # workers that somebody else started, and no mark finds

    def run(self, most: int = MOST_KILLS) -> Ended:
        """Kill it up to so many times, let it end, and compare it with the undisturbed one."""
        began, last, twice = time.monotonic(), None, list[str]()
        self.home.mkdir(parents=True, exist_ok=True)
        while True:
            code, last, again = self._sitting(most, last)
            twice += again
            if code == 0:
                break
            if code is not None:  # by itself
                said = self._last_line()
                if last is None or last.what not in ("server", "node") or last.stopped:
                    return self._ended(began, [f"exit code {code}: {said}"], [], twice)
                last.stopped = said
                self.note(last)
        left, _ = processes.left_of(self._seen, self._token)
        found = differences(self.reference.numbers, numbers(self.folder))
        return self._ended(began, found, left, twice)

    def _ended(self, began: float, found: list[str], left: list[str], twice: list[str]) -> Ended:
        seconds = time.monotonic() - began
        return Ended(self.kind.name, self.number, self.kills, seconds, [line[:500] for line in found[:20]], left, twice)

    def _sitting(self, most: int, last: Kill | None) -> tuple[int | None, Kill | None, list[str]]:
        """Starts the study; returns its exit code (None where we ended it), the last kill, and what was made twice."""
        if self.nodes is not None:
            self.nodes.mend()
        runs, log = self.home / "runs", self.home / "said.log"
        process = self._start(self.kind.module, self.study, runs, self._token, log)
        longest, twice = time.monotonic() + _LONGEST_SECONDS, list[str]()
        while True:
            luck = random.Random(f"{self.seed}/{self.kind.name}/{self.number}/{self.kills}")
            after = luck.uniform(0, self.reference.seconds / (self.kind.sooner if self.kills else 1))
            wait = after if self.kills < most else longest - time.monotonic()
            try:
                code: int | None = process.wait(timeout=max(0.0, wait))
            except subprocess.TimeoutExpired:
                code = None
            now = made(self.folder.path)
            again = made_twice(self._made, now)
            self._made = now
            twice += again
            if last is not None and again:
                last.made_twice += again
                self.note(last)
            if code is not None:
                return code, last, twice
            assert self.kills < most, f"{self.home}: it does not come to an end"
            last, ended = self._kill(process, luck, after)
            if ended:
                return None, last, twice

    def _kill(self, process: processes.Coordinating, luck: random.Random, after: float) -> tuple[Kill, bool]:
        """Kills somebody; returns the kill, and whether the coordinator is no more."""
        what = luck.choices(list(self.kind.victims), list(self.kind.victims.values()))[0]
        pick = luck.random()
        remote = processes.placed(self.folder.path, self._count, process.pid) if self.nodes is not None else []
        self._seen.update(remote)
        workers = remote if self.nodes is not None else processes.workers(process.pid)
        victims = {"worker": workers, "server": processes.servers(process.pid)}.get(what, [])
        if what in ("worker", "server") and not victims:
            what = "coordinator"  # there is none at this moment
        kill = Kill(self.kind.name, self.number, self.kills, what, moment(self.folder, self._trials), round(after, 3))
        if what == "node":
            assert self.nodes is not None
            self.nodes.kill_second()
        elif victims:
            _end(victims[int(pick * len(victims))])
        else:
            together = processes.marked(self._token) if what == "all" else []
            process.kill()
            for one in together:
                _end(one)
            process.wait()
            kill.left, kill.gone_seconds = processes.left_of(workers, self._token)
        self.kills += 1
        self.note(kill)
        if what == "node":
            assert self.nodes is not None
            self.nodes.mend()
        return kill, process.returncode is not None

    def _last_line(self) -> str:
        lines = (self.home / "said.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()

"""Kills a study before each of its writes and lets it go on: what is there in the end must be the undisturbed study.

python -m tests.search.crash_points STUDY.yaml FOLDER [--every 10] [--verdict 50] [--how kill|full|copy|move]

Points are counted in one process (`tests.search.one_process`): Python tells before it opens a file to write, renames or
deletes (audit events), SQLAlchemy before it commits. Nothing in the product knows of this.
"""

import argparse
import contextlib
import errno
import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.event
from sqlalchemy.engine import Engine

import search.verdict.artifacts
import search.verdict.report  # noqa: F401 (imported once here, not in every process that is killed)
from search.record.clock import Clock
from search.record.json_files import read_json, write_json
from search.record.record import PROBE_FILE, StudyFolder
from search.run import work
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.study.study import load_study
from search.tuning.database import storage_url
from search.verdict.disk_cleanup import sweep, sweep_study
from tests.search.migrations_read_once import read_migrations_once
from tests.search.one_process import PROBE, OneProcess, places_of
from tests.search.plots_drawn_once import keep_plots

SLOTS = 2
KILLED = 9
_WRITES = ("open", "os.rename", "os.remove", "os.rmdir")


class Points:
    """Counts the writes under a folder, from 1, and calls `at` before each of them."""

    def __init__(self, root: Path, at: Callable[[int], None]) -> None:
        self.root, self.at, self.count, self.armed = str(root), at, 0, True
        sys.addaudithook(self._audited)
        sqlalchemy.event.listen(Engine, "before_cursor_execute", self._executes)
        sqlalchemy.event.listen(Engine, "commit", self._commits)

    def hit(self) -> None:
        if not self.armed:
            return
        self.count += 1
        self.armed = False  # what `at` writes is not the study's
        self.at(self.count)
        self.armed = True

    def _executes(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        signs_of_life = "onset_leases" in statement  # as often as the clock says
        if not signs_of_life and not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            connection.info["wrote", id(self)] = True

    def _commits(self, connection: Any) -> None:
        if connection.info.pop(("wrote", id(self)), False):
            self.hit()

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed and event in _WRITES and self._ours(event, arguments):
            self.hit()

    def _ours(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
        inside = event != "open" and arguments[-1] != -1  # relative to an open folder: within a tree that is deleted
        return inside or (isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(self.root))


def sitting(study_file: Path, runs: Path, *, lean: bool = False) -> None:
    """The study from wherever it is to its verdict; `lean`: to the end of its last trial, nothing drawn."""
    study = load_study(study_file)
    folder = StudyFolder(runs / study.name)
    places = places_of(study)
    team, clock = OneProcess(SLOTS if places == 1 else 1, folder), Clock(folder)
    write_json(folder.path / PROBE_FILE, PROBE)
    if not lean:
        work(study, folder, team, clock)
        return
    sweep_study(folder)
    board = Board(study.name, study.budget.trials, team.count * places)
    Coordinator(study, folder, team, board, clock=clock, places=places).run()
    for record in folder.records():
        sweep(folder.trial(record.number))


def forked(job: Callable[[], None]) -> int:
    """Exit code of a child process that does the job."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                job()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(folder: StudyFolder) -> dict[str, Any]:
    """Everything that a study leaves and that does not depend on the clock."""
    study = optuna.load_study(study_name=folder.path.name, storage=storage_url(folder.database))
    trials, records = [], [read_json(folder.trial(number) / "record.json") for number in folder.numbers()]
    shown = study._storage.get_study_system_attrs(study._study_id)
    for trial in study.get_trials():
        mine = f"dashboard:artifacts:{trial._trial_id}:"
        names = [json.loads(v)["filename"] for k, v in shown.items() if k.startswith(mine)]
        notes = [_without_ids(v) for k, v in sorted(trial.system_attrs.items()) if "note_str" in k]
        told = (trial.number, trial.state.name, trial.values, trial.params, trial.intermediate_values, trial.user_attrs)
        trials.append([*told, sorted(names), notes])
    # looks of the finals are drawn ahead where a worker waits, which a kill may change
    elsewhere = ("artifacts",) if folder.verdict_file.is_file() else ("artifacts", "finalists")
    files = {
        str(path.relative_to(folder.path)): path.stat().st_size if path.suffix in (".csv", ".safetensors") else 0
        for path in folder.path.rglob("*")
        if path.is_file()
        and path.parts[len(folder.path.parts)] not in elsewhere
        and "clock.json" not in path.name  # as often as the clock says
    }
    for name in ("study.db-wal", "study.db-shm"):
        files.pop(name, None)
    curves = {r["number"]: (folder.trial(r["number"]) / "trajectory.csv").read_text() for r in records}
    found = {"trials": trials, "records": records, "files": files, "curves": curves}
    if folder.verdict_file.is_file():
        verdict = read_json(folder.verdict_file)
        verdict["cost"] |= {"wall_seconds": None}
        verdict["said"]["took"] = verdict["said"]["took"][1:]  # the first sentence tells times
        lora = [path.read_bytes().hex() for path in folder.best_folder.glob("*.safetensors")]
        kept = len(list((folder.path / "artifacts").iterdir()))
        found |= {"verdict": verdict, "lora": lora, "artifacts": kept}
    return json.loads(json.dumps(found, sort_keys=True))


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Where two outcomes differ, one line each."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted({*left, *right})
        return [line for key in keys for line in differences(left.get(key), right.get(key), f"{where}.{key}")]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [
            line for i, pair in enumerate(zip(left, right, strict=True)) for line in differences(*pair, f"{where}[{i}]")
        ]
    return [] if left == right else [f"{where}: {str(left)[:200]} became {str(right)[:200]}"]


def _without_ids(text: str) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)


class Crashes:
    """One study, hurt at many points.

    Args:
        study: the study file.
        home: where everything goes.
        how: "kill" ends the process before a write; "full" makes the write fail; "copy" takes a copy of the folder,
            which is what a kill would leave, while the study runs on: half the work; "move" moves the study's folder
            away, until the study has ended of it.
        lean: only the trials, without pictures and verdict.
    """

    def __init__(self, study: Path, home: Path, how: str, *, lean: bool) -> None:
        self.study, self.home, self.how, self.lean = study, home, how, lean
        self.name = load_study(study).name
        runs = home / "undisturbed"
        points = Points(runs, lambda point: None)
        sitting(study, runs, lean=lean)  # here, so that every child finds all caches warm
        points.armed = False
        self.total = points.count
        self.expected = outcome(StudyFolder(runs / self.name))
        shutil.rmtree(runs)

    def wrong(self, points: range) -> int:
        """At how many of the points something differs afterwards; prints what."""
        if self.how == "copy":
            shutil.rmtree(self.home / "copied", ignore_errors=True)
            assert forked(lambda: self._hurt(self.home / "copied", points)) == 0
        return sum(self._differs(point) for point in points)

    def _differs(self, point: int) -> bool:
        runs = self.home / str(point)
        code = KILLED if self.how == "copy" else forked(lambda: self._hurt(runs, range(point, point + 1)))
        away = self.home / "away"
        stub = self.how == "move" and (runs / self.name).exists()
        moved = self.how == "move" and not stub and away.exists()
        if moved:
            away.rename(runs / self.name)
        if moved or (code == KILLED and not stub):
            code = forked(lambda: sitting(self.study, runs, lean=self.lean))
        left = outcome(StudyFolder(runs / self.name)) if code == 0 and not stub else None
        found = [f"exit code {code}"] if left is None else differences(self.expected, left)
        found += ["half of the folder was made again where it had been"] if stub else []
        for line in found[:5]:
            print(f"point {point} of {self.total}: {line}", flush=True)
        shutil.rmtree(runs, ignore_errors=True)
        return bool(found)

    def _hurt(self, runs: Path, points: range) -> None:
        def at(point: int) -> None:
            if point not in points:
                return
            if self.how == "kill":
                os._exit(KILLED)
            elif self.how == "full":
                raise OSError(errno.ENOSPC, "No space left on device")
            elif self.how == "move":
                shutil.rmtree(self.home / "away", ignore_errors=True)
                (runs / self.name).rename(self.home / "away")
                return
            if runs.is_dir():
                left_out = shutil.ignore_patterns("*.db-shm")  # shared memory of the living
                shutil.copytree(runs, self.home / str(point), ignore=left_out)

        Points(runs, at)
        try:
            sitting(self.study, runs, lean=self.lean)
        except Exception:
            if self.how not in ("full", "move"):
                raise
            os._exit(KILLED)


def main(words: Sequence[str] | None = None) -> int:
    """Prints what differs; exit code 1 when something does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--how", choices=["kill", "full", "copy", "move"], default="kill")
    parser.add_argument("--every", type=int, default=10, help="of the trials' writes")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--verdict", type=int, default=0, help="so many writes before the end, with pictures")
    parser.add_argument("--step", type=int, default=20, help="of those")
    arguments = parser.parse_args(words)
    with pytest.MonkeyPatch.context() as patch:
        keep_plots(patch, arguments.folder / "plots")
        read_migrations_once(patch)
        return int(_wrong(arguments) > 0)


def _wrong(arguments: argparse.Namespace) -> int:
    wrong = 0
    if arguments.every:
        trials = Crashes(arguments.study, arguments.folder, arguments.how, lean=True)
        points = range(arguments.first, trials.total + 1, arguments.every)
        wrong += trials.wrong(points)
        print(f"{len(points)} of {trials.total} points: {wrong} wrong", flush=True)
    if arguments.verdict:
        ends = Crashes(arguments.study, arguments.folder, arguments.how, lean=False)
        points = range(1, ends.total + 1)[-arguments.verdict :: arguments.step]
        wrong += ends.wrong(points)
        print(f"{len(points)} of {ends.total} points with pictures: {wrong} wrong", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())

"""Real workers and their coordinator killed before their writes: the study goes on to the same numbers."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.record.events import Note, TrialSpec
from search.record.record import StudyFolder, TrialRecord
from search.running.workers import Team, resident
from search.study.study import load_study
from tests.search import damage
from tests.search.recovery.real_studies import STUDIES, outcome
from trainer.checkpoint import newest_state

PATIENCE_SECONDS = 300.0
_KILLED_BEFORE_A_WRITE = """
import multiprocessing.process
import os
import signal
import sys

_root, _who, _mark = os.environ["KILL_UNDER"], os.environ["KILL_WHO"], os.environ["KILL_MARK"]
_left = [int(os.environ["KILL_AT"])]


def _audited(event, arguments):
    if event not in ("open", "os.rename", "os.remove") or not str(arguments[0]).startswith(_root):
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    is_worker = multiprocessing.process.current_process().name.startswith("onset-worker")
    if is_worker != (_who == "worker") or os.path.exists(_mark):
        return
    _left[0] -= 1
    if _left[0] == 0:
        os.close(os.open(_mark, os.O_CREAT | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(_audited)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "at"), [("worker", 2), ("worker", 5), ("worker", 9), ("coordinator", 2), ("coordinator", 7)]
)
def test_killed_before_a_write(real_study, tmp_path: Path, who: str, at: int) -> None:
    file, half, whole = real_study
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_KILLED_BEFORE_A_WRITE)
    folder, mark = StudyFolder(tmp_path / "runs" / "mini"), tmp_path / "killed"
    shutil.copytree(half.path, folder.path)
    about = {"KILL_UNDER": str(folder.path / "trials"), "KILL_WHO": who, "KILL_AT": str(at), "KILL_MARK": str(mark)}
    path = f"{tmp_path / 'site'}{os.pathsep}{STUDIES.parent}"
    codes = []
    while not codes or codes[-1] == -signal.SIGKILL:
        done = subprocess.run(
            [sys.executable, "-m", "search.run", str(file), "--runs", str(folder.path.parent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path, **about},
        )
        codes.append(done.returncode)
    assert mark.exists(), "there are fewer writes"
    assert codes == ([0] if who == "worker" else [-signal.SIGKILL, 0]), done.stdout
    if who == "worker":
        assert "worker lost (it was killed" in done.stdout
    assert outcome(folder) == outcome(whole)
    curves = [(f.trial(1) / "trajectory.csv").read_bytes() for f in (folder, whole)]
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_a_damaged_checkpoint_that_a_worker_passes_over_is_said(real_study, tmp_path: Path) -> None:
    file, half, _ = real_study
    folder = StudyFolder(tmp_path / "mini")
    shutil.copytree(half.path, folder.path)
    home = folder.trial(1)
    newest = newest_state(home / "checkpoints")
    assert newest is not None
    damage.flip(newest / "state.safetensors")
    study = load_study(file)
    team = Team(resident, (study, folder), 1, preload=("search.running.preloaded",))
    team.start()
    try:
        team.send(0, TrialSpec(1, home, study.config(TrialRecord.load(home).params), 1))
        until, told = time.monotonic() + PATIENCE_SECONDS, list[Note]()
        while not told and time.monotonic() < until:
            told = [message for _, message in team.receive(1.0) if isinstance(message, Note)]
    finally:
        team.close()
    assert told == [Note(1, f"{newest}: state.safetensors is damaged: this checkpoint is passed over")]

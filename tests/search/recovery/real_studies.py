"""Real studies of a few steps, run to their end or interrupted, and what their numbers are."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import yaml

import search.run
from search.record.record import StudyFolder
from search.tuning.database import storage_url
from tests.search.short_demo import cut_short

Outcome = tuple[list[Any], list[Any]]
STUDIES = Path(__file__).parents[3] / "studies"


def outcome(folder: StudyFolder) -> Outcome:
    """All that a study's numbers are: in Optuna, and in the records."""
    study = optuna.load_study(study_name=None, storage=storage_url(folder.database))
    rows = [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in study.trials]
    names = ("number", "state", "params", "epochs_trained", "epoch_shipped", "score", "value", "stopped", "config")
    return rows, [[getattr(record, name) for name in names] for record in folder.records()]


def copied(folder: StudyFolder, runs: Path) -> StudyFolder:
    """The same study under `runs`."""
    copy = StudyFolder(runs / folder.path.name)
    shutil.copytree(folder.path, copy.path)
    return copy


def run_here(file: Path, runs: Path) -> tuple[int, str]:
    """`search.run` in this process, which has imported everything, as has the server that forks its workers; returns
    the exit code and what was said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = search.run.main([str(file), "--runs", str(runs)])
    return code, said.getvalue()


def interrupted(file: Path, runs: Path, until: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """`search.run`, interrupted as soon as `until` holds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "search.run", str(file), "--runs", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(STUDIES.parent)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None:
        if until():
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.01)
    said, _ = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, said)


def real_values() -> dict[str, Any]:
    """The demo cut down to two trials of five epochs of a few steps, and a small probe."""
    values: dict[str, Any] = yaml.safe_load((STUDIES / "demo.yaml").read_text())
    del values["sampler"]  # what it starts with is not searched
    values |= {key: str(STUDIES / values[key]) for key in ("base", "data")}
    values |= {"study": "mini", "budget": {"trials": 2}, "stop": {"onset": False, "prune": False}, "keep": {}}
    values["workers"] = {"count": 1, "threads": 1}  # one trial after the other
    values["train"] |= {"epochs": 5, "save_every_n_epochs": 1, "batch_size": 4}
    values["search"] = {"rank": {"values": [4, 8]}, "learning_rate_scale": {"min": 1, "max": 8, "log": True}}
    values["score"]["precision"] = "fp32"
    cut_short(values["score"], contexts=1, steps=2, composites=4)
    return values

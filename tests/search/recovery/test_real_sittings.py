"""Real studies that people change, move and kill between and during their sittings."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from search.record.record import StudyFolder
from search.verdict.verdict import Verdict
from tests.search.recovery.real_studies import STUDIES, copied, outcome, run_here

pytestmark = pytest.mark.slow


def changed(file: Path, to: Path, **changes: object) -> Path:
    """The study file with other sections, under the same name elsewhere."""
    values = yaml.safe_load(file.read_text())
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    to.write_text(yaml.safe_dump(values))
    return to


def started(file: Path, runs: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "search.run", str(file), "--runs", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(STUDIES.parent)},
    )


def once(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def curves(folder: StudyFolder) -> list[bytes]:
    return [(folder.trial(record.number) / "trajectory.csv").read_bytes() for record in folder.records()]


@pytest.mark.parametrize("when", ["trials/0002/readings/0005.npz", "trials/0002/sheet.png", ".best"])
def test_a_raised_budget_killed_near_its_end(real_study, tmp_path: Path, when: str) -> None:
    file, _, whole = real_study
    more = changed(file, tmp_path / "mini.yaml", budget={"trials": 3})
    undisturbed = copied(whole, tmp_path / "undisturbed")
    assert run_here(more, undisturbed.path.parent)[0] == 0
    folder = copied(whole, tmp_path / "killed")
    process = started(more, folder.path.parent)
    once(lambda: any(folder.path.glob(f"{when}*")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    code, said = run_here(more, folder.path.parent)
    assert code == 0, said
    assert "is finished" not in said
    assert outcome(folder) == outcome(undisturbed)
    assert curves(folder) == curves(undisturbed)
    verdicts = [Verdict.load(f.verdict_file) for f in (folder, undisturbed)]
    assert (verdicts[0].trial, verdicts[0].epoch, verdicts[0].trials) == (
        verdicts[1].trial,
        verdicts[1].epoch,
        verdicts[1].trials,
    )
    assert all((folder.path / path).exists() for path in verdicts[0].files.values())
    assert "is finished: 3 trials" in run_here(more, folder.path.parent)[1]


def test_more_epochs_for_a_trial_that_was_interrupted_halfway(real_study, tmp_path: Path) -> None:
    file, half, whole = real_study
    longer = changed(file, tmp_path / "mini.yaml", train={"epochs": 7})
    folder = copied(half, tmp_path / "half")
    code, said = run_here(longer, folder.path.parent)
    assert code == 0, said
    assert (
        "note: train.epochs: 5 → 7: running and new trials go on to epoch 7. Trials that have ended stay at 5" in said
    )
    ended, went_on = folder.records()
    assert (ended.epochs_trained, went_on.epochs_trained) == (5, 7)
    assert curves(folder)[0] == curves(whole)[0]
    assert run_here(longer, tmp_path / "from the start")[0] == 0
    from_the_start = StudyFolder(tmp_path / "from the start" / "mini")
    assert curves(folder)[1] == curves(from_the_start)[1]
    assert list(from_the_start.records())[1].params == went_on.params


def told_once_moved_and_goes_on(
    process: subprocess.Popen[str], file: Path, folder: StudyFolder, whole: StudyFolder
) -> None:
    """A running study's folder is moved away: it ends with a line, and goes on when the folder is back."""
    away = folder.path.rename(folder.path.parent / "away")
    said, _ = process.communicate()
    assert process.returncode == 1, said
    assert f"{folder.path}: the study's folder was moved or deleted while it ran; put it back" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not folder.path.exists(), f"a stub: {[str(path) for path in folder.path.rglob('*')]}"
    away.rename(folder.path)
    code, said = run_here(file, folder.path.parent)
    assert code == 0, said
    assert outcome(folder) == outcome(whole)


def test_a_folder_that_is_moved_while_the_study_runs_goes_on_when_it_is_back(real_study, tmp_path: Path) -> None:
    file, half, whole = real_study
    folder = copied(half, tmp_path)
    process = started(file, tmp_path)
    once(lambda: (folder.trial(1) / "readings" / "0004.npz").is_file(), process)
    told_once_moved_and_goes_on(process, file, folder, whole)
    assert curves(folder) == curves(whole)


def test_a_folder_under_another_name_is_a_study_that_has_not_run(real_study, tmp_path: Path) -> None:
    file, _, whole = real_study
    folder = copied(whole, tmp_path)
    away = folder.path.rename(tmp_path / "renamed")
    renamed = changed(file, tmp_path / "renamed.yaml", study="renamed")
    code, said = run_here(renamed, tmp_path)
    assert code == 2
    assert "'mini', the study that" in said
    away.rename(folder.path)
    assert "is finished: 2 trials" in run_here(file, tmp_path)[1]


def test_a_folder_that_is_moved_while_the_workers_load_is_told(real_study, tmp_path: Path) -> None:
    file, half, whole = real_study
    folder = copied(half, tmp_path)
    holder = folder.path / ".workers" / "0.holder"
    holder.unlink()  # the earlier sitting's
    process = started(file, tmp_path)
    once(holder.is_file, process)
    told_once_moved_and_goes_on(process, file, folder, whole)

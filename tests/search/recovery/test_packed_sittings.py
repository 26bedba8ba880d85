"""A study whose worker trains several trials at once, killed: it goes on to the undisturbed study's numbers."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.record.record import StudyFolder
from tests.search.recovery.real_studies import outcome, real_values, run_here
from tests.search.study_processes import finish, start, wait_until, workers_of

pytestmark = pytest.mark.slow


def packed_values() -> dict[str, Any]:
    """Five trials of one worker, of which three are trained at once, at epochs of their own."""
    values = real_values()
    values["train"] |= {"batch_size": 8}
    values["search"] = {
        "lr_scheduler": {"values": ["constant", "cosine"]},
        "epochs": {"values": [2, 3], "when": {"lr_scheduler": "cosine"}},
        "rank": {"values": [4, 8]},
        "optimizer": {"values": ["AdamW", "Lion"]},
    }
    values |= {"budget": {"trials": 5, "startup_trials": 4}, "workers": {"count": 1, "threads": 1, "pack": 3}}
    return values


def test_worker_and_coordinator_killed_in_one_study(tmp_path: Path) -> None:
    file = tmp_path / "mini.yaml"
    file.write_text(yaml.safe_dump(packed_values()))
    whole, folder = StudyFolder(tmp_path / "whole" / "mini"), StudyFolder(tmp_path / "killed" / "mini")
    code, said = run_here(file, whole.path.parent)
    assert code == 0, said

    process = start(file, folder.path.parent)
    wait_until(lambda: (folder.trial(1) / "readings" / "0002.npz").is_file(), process)
    (worker,) = workers_of(process)
    worker.kill()
    wait_until(lambda: any((folder.trial(n) / "readings" / "0002.npz").is_file() for n in (3, 4)), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finish(start(file, folder.path.parent))

    assert outcome(folder) == outcome(whole)
    for number in range(5):
        curves = [(each.trial(number) / "trajectory.csv").read_bytes() for each in (folder, whole)]
        assert curves[0] == curves[1]
        loras = [sorted(each.trial(number).glob("checkpoints/*/lora.safetensors")) for each in (folder, whole)]
        assert [path.parent.name for path in loras[0]] == [path.parent.name for path in loras[1]]

"""A study whose worker trains several trials at once, killed: it goes on to the undisturbed study's numbers."""

import os
import signal
from pathlib import Path

import pytest
import yaml

from search.record.record import StudyFolder
from tests.search.recovery.real_studies import outcome, run_here
from tests.search.study_processes import finish, start, wait_until, workers_of

pytestmark = pytest.mark.slow


def study_file(home: Path, base: Path, clip: Path, photos: Path) -> Path:
    """Five trials of one worker, of which three are trained at once, at epochs of their own that end within passes."""
    probe = {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]}
    values = {
        "study": "mini", "base": str(base), "data": str(photos),
        "train": {"resolution": 64, "epochs": 4, "steps_per_epoch": 2, "save_every_n_epochs": 1, "batch_size": 4},
        "search": {
            "lr_scheduler": {"values": ["constant", "cosine"]},
            "epochs": {"values": [3, 4], "when": {"lr_scheduler": "cosine"}},
            "rank": {"values": [4, 8]},
            "optimizer": {"values": ["AdamW", "Lion"]},
        },
        "score": {"encoder": str(clip), "holdout": 2, "probe": probe, "losses": {"levels": 1, "draws": 1},
                  "shifted": {"composites": 0}},
        "stop": {"onset": False, "prune": False},
        "budget": {"trials": 5, "startup_trials": 4},
        "workers": {"count": 1, "threads": 1, "pack": 3, "device": "cpu"},
    }  # fmt: skip
    file = home / "mini.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_worker_and_coordinator_killed_in_one_study(
    tmp_path: Path, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path
) -> None:
    file = study_file(tmp_path, tiny_sd15, tiny_clip, tiny_photos)
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

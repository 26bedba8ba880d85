"""A worker's process: its device, its memory, its log, its models."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from search.record.record import StudyFolder
from search.running.worker_process import cores, device_of, load_models, memory, write_to
from search.study.study import load_study


@pytest.mark.parametrize(
    ("asked", "gpus", "slot", "device"),
    [
        ("auto", 0, 0, "cpu"), ("auto", 0, 3, "cpu"), ("auto", 1, 3, "cuda:0"), ("auto", 3, 1, "cuda:1"),
        ("auto", 3, 5, "cuda:2"), ("cpu", 2, 1, "cpu"), ("cuda", 2, 1, "cuda"),
    ],
)  # fmt: skip
def test_workers_take_gpu_by_gpu_where_the_study_leaves_that_to_them(
    write_study: Any, monkeypatch: pytest.MonkeyPatch, asked: str, gpus: int, slot: int, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert device_of(load_study(write_study(workers={"device": asked})), slot) == device


def test_memory_is_that_of_this_process_in_gib_and_of_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory(torch.device("cpu"))
    assert found.keys() == {"rss_gib"}
    assert found["rss_gib"] == pytest.approx(psutil.Process().memory_info().rss / 1024**3, rel=0.1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**30)
    assert memory(torch.device("cuda"))["gpu_gib"] == 3.0


def test_what_is_printed_goes_behind_what_the_log_has(tmp_path: Path) -> None:
    log = tmp_path / "workers.log"
    log.write_text("before\n")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom search.running.worker_process import write_to\n"
        f"write_to(Path({str(log)!r}))\nos.write(1, b'out\\n')\nos.write(2, b'err\\n')\n"
        "print(len(os.listdir('/proc/self/fd')) < 60, file=sys.stderr)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert log.read_text() == "before\nout\nerr\nTrue\n"
    assert os.stat(log).st_mode & 0o777 in (0o644, 0o600, 0o640, 0o664)


def test_the_log_of_a_folder_that_is_gone_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_to(tmp_path / "gone" / "workers.log")


@pytest.mark.parametrize("identity", [False, True])
def test_base_and_encoders_are_loaded_once_and_told(
    write_study: Any, tmp_path: Path, tiny_sd15: Path, tiny_clip: Path, identity: bool
) -> None:
    score = {"encoder": str(tiny_clip), "holdout": 2} | ({"identity_encoder": str(tiny_clip)} if identity else {})
    study = load_study(write_study(base=str(tiny_sd15), score=score, workers={"device": "cpu"}))
    said: list[str] = []
    models = load_models(study, StudyFolder(tmp_path / "runs" / "small"), 0, say=said.append)
    assert said == ["loading the base", "loading the encoder"]
    assert models.base.device.type == "cpu"
    assert models.base.family.name == "sd15"
    assert (models.identity is not None) == identity
    if models.identity is not None:
        assert models.identity.digest == models.encoder.digest


@pytest.mark.parametrize(("counted", "found"), [(6, 6), (1, 1), (None, 1)])
def test_a_machine_that_does_not_say_has_one_core(
    monkeypatch: pytest.MonkeyPatch, counted: int | None, found: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert cores() == found

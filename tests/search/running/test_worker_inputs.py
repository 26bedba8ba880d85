"""What this machine cannot do is refused by a worker before it loads the base."""

import multiprocessing
import re
from pathlib import Path

import pytest

from search import run
from search.record.record import StudyFolder
from search.running.worker import _Worker
from search.study.study import load_study
from tests.messages import refusal
from trainer.errors import ConfigError

DEMO_BASE = Path(__file__).parents[3] / "studies" / "demo" / "base"


def test_a_base_of_another_family_is_refused_before_a_worker_starts(write_study, tmp_path, capsys) -> None:
    path = write_study(base=str(DEMO_BASE), train={"resolution": 64, "family": "sdxl"})
    assert run.main([str(path), "--runs", str(tmp_path / "runs")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(refusal("family", "sdxl", "sd15"), line)
    assert not (tmp_path / "runs" / "small" / "workers").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"workers": {"device": "cuda:99"}}, refusal("workers.device", "cuda:99")),
        (
            {"workers": {"device": "cpu"}, "train": {"resolution": 64, "quantize": "nf4"}},
            refusal("quantize", "nf4", "nothing"),
        ),
    ],
)
def test_devices_and_quantisation_that_are_not_there(changes, reason, write_study, tmp_path: Path) -> None:
    study = load_study(write_study(**changes))
    _, connection = multiprocessing.Pipe()
    with pytest.raises(ConfigError, match=reason):
        _Worker(connection, 0, study, StudyFolder(tmp_path / "runs" / study.name))

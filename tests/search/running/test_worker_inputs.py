"""What this machine cannot do is refused by a worker before it loads the base."""

import multiprocessing
from pathlib import Path

import pytest

from search.record.record import StudyFolder
from search.running.worker import _Worker
from search.study.study import load_study
from trainer.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"workers": {"device": "cuda:99"}}, "workers.device: 'cuda:99' is not allowed: this machine has"),
        (
            {"workers": {"device": "cpu"}, "train": {"resolution": 64, "quantize": "nf4"}},
            "quantize: 'nf4' is not allowed: left out here: quantised weights need a CUDA GPU",
        ),
    ],
)
def test_devices_and_quantisation_that_are_not_there(changes, reason, write_study, tmp_path: Path) -> None:
    study = load_study(write_study(**changes))
    _, connection = multiprocessing.Pipe()
    with pytest.raises(ConfigError, match=reason):
        _Worker(connection, 0, study, StudyFolder(tmp_path / "runs" / study.name))

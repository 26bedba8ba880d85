"""Sittings of a study of a few short trials."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.record.record import StudyFolder
from search.study.study import load_study
from tests.search.running.one_sitting import Answer, Sitting


@pytest.fixture
def sitting(write_study: Any, tmp_path: Path) -> Callable[..., Sitting]:
    file = write_study(
        train={"resolution": 64, "epochs": 6, "save_every_n_epochs": 2},
        budget={"trials": 3, "startup_trials": 9},
        finalists={"trials": 0},
    )

    def made(
        *settings: str, count: int = 1, places: int | None = 1, happens: Answer = lambda w, m: None, name: str = "small"
    ) -> Sitting:
        folder = StudyFolder(tmp_path / "runs" / name)
        folder.path.mkdir(parents=True, exist_ok=True)
        return Sitting(load_study(file, ["stop.onset=false", *settings]), folder, count, places, happens)

    return made

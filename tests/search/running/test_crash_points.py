"""Killed before any of its writes, a study goes on to what it would have been: bit for bit, start-up marks included.

By default every eightieth write of its trials and one around its verdict, each a copy of what a kill would leave;
`pytest -m slow` kills before all of them, and takes a disk that is full for a moment, and a folder that
is moved away for a while, too.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.search import crash_points
from tests.search.conftest import study_writer

SMALL: dict[str, Any] = {
    "train": {"resolution": 64, "save_every_n_epochs": 2, "epochs": 6},
    "search": {
        "lr_scheduler": {"values": ["constant", "cosine"]},
        "epochs": {"values": [4, 6], "when": {"lr_scheduler": "cosine"}},
        "learning_rate_scale": {"min": 0.5, "max": 16, "log": True},
        "rank": {"values": [2, 4, 8, 12]},
    },
    "budget": {"trials": 3, "startup_trials": 2},
}
LARGE: dict[str, Any] = SMALL | {
    "train": SMALL["train"] | {"epochs": 20},
    "search": SMALL["search"] | {"epochs": {"values": [10, 14], "when": {"lr_scheduler": "cosine"}}},
    "budget": {"trials": 9, "startup_trials": 4},
}


@pytest.fixture
def killed_everywhere(tmp_path: Path) -> Callable[..., None]:
    """Runs `tests.search.crash_points` on a study and asserts that nothing differs; in a fork of this process, which
    has imported everything."""

    def run(study: dict[str, Any], *arguments: str) -> None:
        words = [str(study_writer(tmp_path)(**study)), str(tmp_path), *arguments]
        said = tmp_path / "said.txt"

        def kill() -> None:
            with said.open("w") as file, contextlib.redirect_stdout(file):
                assert crash_points.main(words) == 0

        assert crash_points.forked(kill) == 0, said.read_text()[-3000:]

    return run


def test_killed_at_every_eightieth_write(killed_everywhere) -> None:
    killed_everywhere(SMALL, "--how", "copy", "--every", "80", "--verdict", "30", "--step", "30")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "full", "move"])
def test_before_every_write_of_the_trials(killed_everywhere, how: str) -> None:
    killed_everywhere(SMALL, "--every", "1", "--how", how)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [1, 3])
def test_trials_that_are_pruned_or_end_at_an_onset(killed_everywhere, pack: int) -> None:
    killed_everywhere({**LARGE, "workers": {"pack": pack}}, "--every", "25", "--how", "copy")


@pytest.mark.slow
@pytest.mark.parametrize(("how", "step"), [("copy", "1"), ("full", "3")])
def test_before_every_write_of_pictures_and_verdict(killed_everywhere, how: str, step: str) -> None:
    killed_everywhere(SMALL, "--every", "0", "--verdict", "90", "--step", step, "--how", how)

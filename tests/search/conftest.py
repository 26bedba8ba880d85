"""Study files for the tests, beside a training folder and a base that are really there."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.record.record import StudyFolder
from tests import tiny
from tests.made_once import made_once, session_folder
from tests.search.finished_studies import make_finished
from tests.search.migrations_read_once import read_migrations_once
from tests.search.plots_drawn_once import keep_plots
from tests.search.shared_server import share_one_server

StudyWriter = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _workers_of_all_tests_come_from_one_server() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        share_one_server(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _optuna_reads_its_migrations_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        read_migrations_once(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _plots_of_the_same_curves_are_drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """By whatever process of this session."""
    with pytest.MonkeyPatch.context() as patch:
        keep_plots(patch, session_folder(tmp_path_factory) / "plots")
        yield


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_photos: Path) -> StudyFolder:
    """A finished study (`tests.search.finished_studies.make_finished`) for all tests that only look or copy it."""
    made = made_once(tmp_path_factory, "finished", lambda root: make_finished(root, tiny_sd15, tiny_photos))
    own = tmp_path_factory.mktemp("finished") / "made"  # whoever reads a database writes beside it
    shutil.copytree(made, own)
    return StudyFolder(own / "runs" / "toy")


@pytest.fixture
def write_study(tmp_path: Path) -> StudyWriter:
    """See `study_writer`; in the test's own folder."""
    return study_writer(tmp_path)


def study_writer(folder: Path) -> StudyWriter:
    """Returns a function that writes `study.yaml`: a good study, changed as asked: `write(train={...}, drop=["base"])`.

    The base is a diffusers folder and the encoder a folder of open_clip's, both without weights: enough for everything
    that happens before torch.
    """
    tiny.make_photos(folder / "photos")
    (folder / "base").mkdir()
    (folder / "clip").mkdir()
    (folder / "clip" / "open_clip_config.json").write_text("{}")
    (folder / "base" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')

    def write(drop: tuple[str, ...] = (), **changes: Any) -> Path:
        values: dict[str, Any] = {
            "study": "small",
            "base": "base",
            "data": "photos",
            "train": {"resolution": 64, "epochs": 4, "save_every_n_epochs": 2},
            "search": {"rank": {"values": [4, 8]}, "learning_rate_scale": {"min": 0.5, "max": 8, "log": True}},
            "score": {"encoder": "clip", "holdout": 2},
            "budget": {"trials": 4, "startup_trials": 2},
        }
        values = {k: v for k, v in {**values, **changes}.items() if k not in drop}
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write

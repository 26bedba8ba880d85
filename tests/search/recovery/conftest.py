"""A real study for the tests of this folder, built once in each process."""

from pathlib import Path

import pytest
import yaml

from search.record.record import StudyFolder
from search.study.study import Study, load_study
from tests.search.conftest import study_writer
from tests.search.recovery.real_studies import interrupted, real_values, run_here


@pytest.fixture(scope="session")
def real_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyFolder, StudyFolder]:
    """A study file, its folder interrupted in the second trial, and its folder undisturbed."""
    home = tmp_path_factory.mktemp("real")
    file = home / "mini.yaml"
    file.write_text(yaml.safe_dump(real_values()))
    half, whole = StudyFolder(home / "half" / "mini"), StudyFolder(home / "whole" / "mini")
    assert run_here(file, whole.path.parent)[0] == 0
    stopped = interrupted(file, half.path.parent, lambda: (half.trial(1) / "readings" / "0003.npz").is_file())
    assert stopped.returncode == 130, stopped.stdout
    assert [record.state for record in half.records()] == ["complete", "running"]
    return file, half, whole


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    train = {"resolution": 64, "epochs": 8, "save_every_n_epochs": 2}
    return load_study(study_writer(tmp_path_factory.mktemp("study"))(train=train))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "small")

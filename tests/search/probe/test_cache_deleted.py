"""The cache may be deleted at any time, again and again while it is built: what is read from it is made anew."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metrics.checkpoint.encoders import load_encoder
from search.probe.probe import Probe, open_probe
from search.probe.probe_files import mend_probe
from search.record.record import StudyFolder
from search.study.input_digests import fingerprint_of_base
from search.study.study import Study, load_study
from tests.search.conftest import study_writer
from tests.search.study_processes import STUDIES
from trainer.base_model.load import load_base
from trainer.packing.builder import pack_settings
from trainer.packing.pack import Pack


class _Deleting:
    """Deletes a folder before each write into it, as long as it is armed. (Such hooks stay for good.)"""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.times = 0
        sys.addaudithook(self._audited)

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        folder = self.folder
        if folder is None or event not in ("open", "os.mkdir", "os.rename"):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        target = str(arguments[1 if event == "os.rename" else 0])
        if target.startswith(f"{folder}{os.sep}"):
            self.folder = None  # what rmtree does is no write
            shutil.rmtree(folder, ignore_errors=True)
            self.folder, self.times = folder, self.times + 1


@pytest.fixture(scope="module")
def deleting() -> Iterator[_Deleting]:
    hook = _Deleting()
    yield hook
    hook.folder = None


Opened = Callable[[StudyFolder], tuple[Study, Probe]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Opens the probe of a study in a folder."""
    score = {
        "encoder": str(STUDIES / "demo" / "clip"), "holdout": 2, "shifted": {"composites": 4},
        "probe": {"seeds": 1, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]},
        "losses": {"levels": 2, "draws": 1},
    }  # fmt: skip
    write = study_writer(tmp_path_factory.mktemp("probe"))
    study = load_study(write(base=str(STUDIES / "demo" / "base"), score=score))

    def open_in(folder: StudyFolder) -> tuple[Study, Probe]:
        base = load_base(STUDIES / "demo" / "base")
        encoder = load_encoder(study.encoder, cache_dir=folder.cache / "features")
        return study, open_probe(study, base, folder.cache, encoder, None)

    return open_in


@pytest.fixture(scope="module")
def left_alone(opened: Opened, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, Probe]:
    """A folder whose probe is whole."""
    folder = StudyFolder(tmp_path_factory.mktemp("left") / "study")
    return folder, opened(folder)[1]


@pytest.mark.slow
def test_deleted_at_every_write_the_probe_is_the_same(
    opened: Opened, left_alone, tmp_path: Path, deleting: _Deleting
) -> None:
    folder, (_, right) = StudyFolder(tmp_path / "deleted"), left_alone
    deleting.folder = folder.cache
    study, probe = opened(folder)
    pack = Pack(probe.base, probe.trained, pack_settings(probe.config), cache=probe.cache)
    fingerprint_of_base(study, folder)
    deleting.folder = None
    assert deleting.times > 20
    assert pack.steps_per_epoch > 0
    assert not (folder.cache / "probe" / "probe.json").exists()
    assert folder.probe().prompts
    assert not list(folder.path.glob("*.part"))
    assert (probe.base_images == right.base_images).all()
    items = [p.base_readings.items for p in (right, probe)]
    assert items[0].keys() == items[1].keys()
    for name, values in items[0].items():  # features of another batch differ in their last bits
        np.testing.assert_allclose(items[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    _, again = opened(folder)
    assert (folder.cache / "probe" / "probe.json").is_file()
    assert (again.base_images == right.base_images).all()


@pytest.mark.parametrize(
    "name",
    ["calibration.npz", *(pytest.param(n, marks=pytest.mark.slow) for n in ("arrays.npz", "base_readings.npz"))],
)
def test_what_goes_while_it_is_read_is_built_again(opened: Opened, left_alone, tmp_path: Path, name: str) -> None:
    whole, first = left_alone
    folder = StudyFolder(shutil.copytree(whole.path, tmp_path / "study"))
    (folder.cache / "probe" / name).unlink()
    _, again = opened(folder)
    assert (folder.cache / "probe" / name).is_file()
    assert (again.base_images == first.base_images).all()


def test_a_probe_that_is_whole_is_not_built_again_and_one_with_a_damaged_picture_is(left_alone, tmp_path: Path) -> None:
    folder = StudyFolder(shutil.copytree(left_alone[0].path, tmp_path / "study"))
    assert mend_probe(folder) == []
    picture = folder.cache / "probe" / "base.png"
    picture.write_bytes(picture.read_bytes()[:-100])
    (said,) = mend_probe(folder)
    assert said.startswith(f"{picture} is damaged")
    assert not (folder.cache / "probe" / "probe.json").exists()

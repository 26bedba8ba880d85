"""A real worker's look at the data of a short training: losses photo by photo, drawings of a tag, and the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.findings.look import DataLook
from search.record.data_check import DataCheck
from search.record.events import TrialSpec
from tests.search.running.resident_worker import EPOCHS, Resident
from trainer.checkpoint import LORA_FILE, checkpoint_path
from trainer.lora.kohya_file import load_lora

TRAIN = {"resolution": 64, "batch_size": 8, "optimizer": "AdamW", "rank": 4, "epochs": EPOCHS}


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path) -> Resident:
    return Resident(
        tmp_path_factory.mktemp("checked"), tiny_sd15, tiny_clip, tiny_photos, drop=("search", "budget"), train=TRAIN,
        data_check={"seeds": 1, "captions": 1, "tags": 1}, workers={"threads": 1, "device": "cpu"},
    )  # fmt: skip


def test_losses_are_kept_at_every_checkpoint_and_what_was_found_is_written_once_at_the_last(
    resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    courses: list[dict[int, np.ndarray]] = []
    looks: list[Any] = []
    write = DataLook._write

    def noted(look: DataLook, course: dict[int, np.ndarray], *given: Any) -> None:
        courses.append(dict(course))
        looks.append(look)
        write(look, course, *given)

    monkeypatch.setattr(DataLook, "_write", noted)
    spec = TrialSpec(0, resident.folder.trial(0), resident.study.config({}))
    _, said = resident.run(spec)
    assert not said
    (course,), (look,) = courses, looks
    assert sorted(course) == [0, 1, EPOCHS]
    photos = [photo for photo in resident.worker._probe.trained.photos if not photo.is_reg]
    losses = resident.worker._probe.score.losses
    assert {each.shape for each in course.values()} == {(len(photos), losses.levels, 4)}
    lora = load_lora(checkpoint_path(spec.folder / "checkpoints", EPOCHS) / LORA_FILE, family="sd15")
    assert np.array_equal(course[0], look._measured(None))
    assert course[EPOCHS] == pytest.approx(look._measured(lora), rel=1e-3), "the file has halves of its digits"
    assert not np.array_equal(course[0], course[EPOCHS])
    for epoch, each in course.items():
        assert np.array_equal(np.load(spec.folder / "photo_losses" / f"{epoch:04d}.npy"), each)
    check = DataCheck.of(resident.folder)
    assert check is not None
    assert (check.study, check.photos, check.dataset) == ("mini", len(resident.study.photos), resident.study.dataset)
    assert (check.trained, len(check.tags)) == (True, 1)
    assert check.tags[0].tag in (resident.folder.path / check.page).read_text()

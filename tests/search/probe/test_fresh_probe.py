"""Finalists as a worker draws them: other images than the search's, scored by the study's rule, the same each time."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.checkpoint.encoders import load_encoder
from metrics.checkpoint.score import score_of
from metrics.trajectory.readings import OWN_SCORE
from search.probe.fresh_probe import FreshProbe, open_fresh_probe
from search.probe.probe import Probe, open_probe
from search.record.events import DrawAgain, DrawnAgain, Failed
from search.record.finalists import STRENGTHS_SHEET, FreshLook, StrengthsShown
from search.record.record import StudyFolder
from search.running.finalist_looks import FinalistLooks
from search.running.shared_passes import SharedPasses
from search.running.sharing import Sharing
from search.study.objective import Objective
from search.study.study import Study, load_study
from studies.demo.photos import write_photos
from tests.search.conftest import study_writer
from tests.search.finished_studies import make_lora
from trainer.base_model.load import load_base
from trainer.lora.kohya_file import load_lora
from trainer.lora.lora import LoraWeights

pytestmark = (
    pytest.mark.slow
)  # each day a real worker draws the finalists of a short study (tests/search/test_short_demo.py)
DEMO = Path(__file__).parents[3] / "studies" / "demo"


class Listening:
    """What a worker's line is told."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)

    def say(self, what: str, number: int | None = None, epoch: float = 0) -> None:
        pass


def seen_to(study: Study, folder: StudyFolder, probe: Probe, line: Listening, asked: DrawAgain) -> bool:
    """By a worker's part that has just begun; whether it went well."""
    passes = SharedPasses(probe, Sharing(), 1, folder)
    return FinalistLooks(study, folder, probe, line, passes).see_to([asked], lambda: None)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, StudyFolder, Probe]:
    home = tmp_path_factory.mktemp("fresh")
    data = write_photos(home / "set", count=8).parent
    score = {
        "encoder": str(DEMO / "clip"), "holdout": 2, "precision": "fp32", "shifted": {"composites": 4},
        "probe": {"seeds": 2, "steps": 1, "trained": 1, "heldout": 1, "contexts": ["{trigger} {class}, snow"]},
        "losses": {"levels": 1, "draws": 1},
    }  # fmt: skip
    study = load_study(study_writer(home)(base=str(DEMO / "base"), data=str(data), score=score))
    folder = StudyFolder(home / "runs" / "small")
    base, encoder = load_base(DEMO / "base"), load_encoder(str(DEMO / "clip"))
    return study, folder, open_probe(study, base, folder.cache, encoder, None)


def test_the_base_reads_as_the_base_and_its_images_are_drawn_once(opened, monkeypatch) -> None:
    study, folder, probe = opened
    fresh = open_fresh_probe(study, folder, probe)
    look, images = fresh.look(None, 0)
    assert (look.images, look.prompts, look.repeated) == (len(images), len(images) // 2, 0)
    assert len(images) == len(look.readings.items["recognised"]) > len(probe.labels)
    assert look.readings.channels["prompt"].value == pytest.approx(0, abs=1e-6)
    assert 0 < look.readings.score < 0.2
    assert not any((image == other).all() for image in images for other in probe.base_images)
    monkeypatch.setattr(Probe, "draw", lambda *_: pytest.fail("drawn again"))
    again = open_fresh_probe(study, folder, probe)
    np.testing.assert_array_equal(again.base_images, images)
    other = replace(study, finalists=study.finalists.model_copy(update={"seeds": 1}))
    with pytest.raises(pytest.fail.Exception):
        open_fresh_probe(other, folder, probe)


def test_nothing_merged_reads_as_the_base_and_is_scored_by_the_studys_rule(opened) -> None:
    study, folder, probe = opened
    fresh = open_fresh_probe(study, folder, probe)
    base, _ = fresh.look(None, 0)
    bare, images = fresh.look(LoraWeights({}, probe.base.family.name), 3)
    np.testing.assert_array_equal(images, fresh.base_images)
    assert (bare.readings.score, bare.draws.tolist()) == (base.readings.score, base.draws.tolist())
    assert bare.readings.score == score_of(fresh.calibration, bare.readings.channels)
    np.testing.assert_array_equal(fresh.calibration.subject, probe.calibration.subject)


def test_a_worker_draws_what_lies_on_disk_keeps_it_and_draws_it_once(opened) -> None:
    study, folder, probe = opened
    lora = folder.checkpoint(3, 4) / "lora.safetensors"
    make_lora(lora, DEMO / "base")
    line = Listening()
    for asked in (DrawAgain(None, 0), DrawAgain(3, 4)):
        assert seen_to(study, folder, probe, line, asked)
    assert line.sent == [DrawnAgain(None, 0), DrawnAgain(3, 4)]
    found = FreshLook.load(FreshLook.file(folder, 3, 4))
    assert found is not None
    assert found.readings.score != FreshLook.load(FreshLook.file(folder, None, 0)).readings.score
    assert (len(found.draws), found.draws.std() > 0) == (1000, True)
    assert FreshLook.picture(folder, 3, 4).is_file()
    lora.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FreshProbe, "look", lambda *_: pytest.fail("drawn again"))
        seen_to(study, folder, probe, line, DrawAgain(3, 4))
    FreshLook.file(folder, 3, 4).write_bytes(b"cut short")
    assert not seen_to(study, folder, probe, line, DrawAgain(3, 4))
    (failed,) = [message for message in line.sent if isinstance(message, Failed)]
    assert "lora.safetensors" in failed.error
    make_lora(lora, DEMO / "base")
    assert seen_to(study, folder, probe, line, DrawAgain(3, 4))
    again = FreshLook.load(FreshLook.file(folder, 3, 4))
    assert again is not None
    assert (again.readings.score, again.draws.tolist()) == (found.readings.score, found.draws.tolist())


def test_an_objective_takes_losses_from_the_search_and_has_an_interval_of_its_own(opened, tmp_path: Path) -> None:
    study, folder, probe = opened
    (tmp_path / "taste.py").write_text("def both(r):\n    return 1000 * r['recognised'] - r['heldout_loss']\n")
    probe = replace(
        probe,
        objective=Objective("taste:both", str(tmp_path), sha256((tmp_path / "taste.py").read_bytes()).hexdigest()),
    )
    fresh = open_fresh_probe(study, folder, probe)
    lora = folder.checkpoint(4, 4) / "lora.safetensors"
    make_lora(lora, DEMO / "base")
    searched = {"heldout_loss": -7.0, "recognised": 99.0}
    look, _ = fresh.look(load_lora(lora, family=probe.base.family.name), 4, searched=searched)
    shows = look.readings.channels["recognised"].value
    assert look.readings.score == pytest.approx(1000 * shows + 7)
    assert 0 < look.readings.channels[OWN_SCORE].value < 1
    assert look.draws.mean() == pytest.approx(look.readings.score, rel=0.2)
    assert look.draws.std() > 1
    base, _ = fresh.look(None, 0)
    assert base.readings.score == pytest.approx(1000 * base.readings.channels["recognised"].value)


def test_strengths_and_another_base_are_drawn_once_and_anew_when_something_changes(opened) -> None:
    study, folder, probe = opened
    for epoch in (6, 7):
        make_lora(folder.checkpoint(5, epoch) / "lora.safetensors", DEMO / "base")
    asked, line = DrawAgain(5, 7, strengths=True), Listening()
    some = replace(study, finalists=study.finalists.model_copy(update={"strengths": [0.5, 1.0]}))
    assert seen_to(some, folder, probe, line, asked)
    assert line.sent == [DrawnAgain(5, 7)]
    picture = folder.path / STRENGTHS_SHEET
    before = picture.read_bytes()
    with Image.open(picture) as sheet:
        narrow = sheet.width
    picture.write_bytes(b"as it was")
    assert seen_to(some, folder, probe, line, asked)
    assert picture.read_bytes() == b"as it was"
    StrengthsShown.file(folder).unlink()
    assert seen_to(some, folder, probe, line, asked)
    assert picture.read_bytes() == before
    more = some.finalists.model_copy(update={"transfer_bases": [str(DEMO / "base")]})
    assert seen_to(replace(some, finalists=more), folder, probe, line, asked)
    with Image.open(picture) as sheet:
        assert sheet.width == narrow + 96 + 6  # one column more
        pixels = np.asarray(sheet.convert("RGB"))
    own, other = pixels[:, narrow - 28 - 96 : narrow - 28], pixels[:, narrow - 28 + 6 : narrow + 96 + 6 - 28]
    np.testing.assert_array_equal(own[160:], other[160:])  # the same base, and the same strength


def test_columns_drawn_by_several_workers_make_the_picture_that_one_draws(opened) -> None:
    study, folder, probe = opened
    for epoch in (6, 7):
        make_lora(folder.checkpoint(5, epoch) / "lora.safetensors", DEMO / "base")
    some = replace(study, finalists=study.finalists.model_copy(update={"strengths": [0.5, 1.0]}))
    whole = DrawAgain(5, 7, strengths=True)
    assert seen_to(some, folder, probe, Listening(), whole)
    picture = folder.path / STRENGTHS_SHEET
    before = picture.read_bytes()
    picture.unlink()
    for place in (1, 0, 2):
        assert seen_to(some, folder, probe, Listening(), replace(whole, place=place, parts=3))
    assert not picture.exists()
    aside = [*folder.cache.glob("strengths-*/*.npz")]
    assert len(aside) == 4
    aside[0].write_bytes(b"cut short")
    with np.load(aside[1]) as kept:
        other = 255 - kept["images"]
    np.savez(aside[1], images=other)
    assert seen_to(some, folder, probe, Listening(), whole)
    assert picture.read_bytes() != before  # what was drawn before is taken, not drawn again
    assert not [*folder.cache.glob("strengths-*")]
    picture.unlink()
    assert seen_to(some, folder, probe, Listening(), whole)
    assert picture.read_bytes() == before

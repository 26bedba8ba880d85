"""A real worker that looks at finished files: each once, in turn, and what is told where one is gone."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.record.events import Checkpointed, Failed, TrialSpec
from tests.search.finished_studies import make_lora
from tests.search.running.resident_worker import Resident
from tests.search.running.test_worker import SCORE, TO_SEARCH
from trainer.checkpoint import LORA_FILE
from trainer.lora.kohya_file import load_lora, save_lora


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path) -> Resident:
    """A worker that looks at three files: each twice as strong as the one before."""
    home = tmp_path_factory.mktemp("looking")
    first = home / "loras" / "my-000002.safetensors"
    make_lora(first, tiny_sd15)
    lora = load_lora(first, family="sd15")
    for epoch in (4, 8):
        stronger = {site: replace(m, up=m.up * epoch / 2) for site, m in lora.modules.items()}
        save_lora(home / "loras" / f"my-{epoch:06d}.safetensors", replace(lora, modules=stronger), {})
    return Resident(
        home, tiny_sd15, tiny_clip, tiny_photos, drop=TO_SEARCH, keep={"samples": True},
        train={"resolution": 64}, score={"encoder": str(tiny_clip), **SCORE},
        checkpoints={"folder": "loras", "held_out": ["00.png", "01.png"]}, workers={"threads": 1, "device": "cpu"},
    )  # fmt: skip


def spec_of(resident: Resident, number: int = 0) -> TrialSpec:
    return TrialSpec(number, resident.folder.trial(number), resident.study.config({}), place=number)


def test_every_finished_file_is_looked_at_in_turn(looking: Resident) -> None:
    spec = spec_of(looking)
    _, said = looking.run(spec, until=8)
    assert not said
    assert Checkpointed.epochs(spec.folder) == [0, 2, 4, 8]
    assert looking.folder.sampled_epochs(0) == [0, 2, 4, 8]
    read = [Checkpointed.load(spec.folder, 0, epoch) for epoch in (2, 4, 8)]
    assert [each.readings.effort for each in read] == [2.0, 4.0, 8.0]
    assert all(each.timings["train"] == 0.0 and set(each.timings) >= {"save", "sample", "score"} for each in read)
    losses = [each.readings.items["fidelity"] for each in read]
    assert not np.allclose(losses[0], losses[1])
    assert not np.allclose(losses[1], losses[2])
    for epoch in (2, 4, 8):
        assert (looking.folder.checkpoint(0, epoch) / LORA_FILE).is_file()


def test_a_second_look_draws_nothing_and_a_file_that_is_gone_is_told(looking: Resident, monkeypatch) -> None:
    looking.run(spec_of(looking), until=8)
    with monkeypatch.context() as patch:
        patch.setattr(type(looking.worker._probe), "read", lambda *_, **__: pytest.fail("looked at again"))
        again = spec_of(looking, 1)
        _, said = looking.run(again, until=8, go_on=True)
    assert not said
    assert Checkpointed.epochs(again.folder) == [0, 2, 4, 8]
    shutil.rmtree(looking.folder.cache / "looked")
    assert looking.study.finished_run is not None
    file = Path(looking.study.finished_run.files[4])
    aside = file.rename(file.with_suffix(".aside"))
    lost = spec_of(looking, 2)
    _, said = looking.run(lost, until=8, go_on=True)
    aside.rename(file)
    (failed,) = said
    assert isinstance(failed, Failed)
    assert (failed.number, failed.epoch, failed.again) == (2, 4, True)
    assert Checkpointed.epochs(lost.folder) == [0, 2], "up to the file that is gone"


def test_what_is_said_while_it_loads(looking: Resident) -> None:
    assert [each.what for each in looking.loading] == [
        "loading the base", "loading the encoder", "reading the checkpoints", "building the probe"
    ]  # fmt: skip

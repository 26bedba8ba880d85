"""Trials that a real worker trains at once: what each is does not hang on the others, nor does one fail another."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search.record.events import DrawAgain, DrawnAgain, Failed, Note
from search.record.finalists import FreshLook
from search.record.pack_width import PackWidth
from search.record.record import TrialRecord
from search.running import finalist_looks
from search.running.coordinator_line import Ended
from search.running.pack_measure import measured, settled
from search.running.sharing import Sharing
from search.study.space import Entry
from tests.search.running.resident_worker import EPOCHS, Found, Resident, memory_for_one
from trainer.packing.pack import Pack


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_clip: Path, tiny_photos: Path) -> Resident:
    return Resident(tmp_path_factory.mktemp("resident"), tiny_sd15, tiny_clip, tiny_photos)


@pytest.fixture(scope="module")
def together(resident: Resident) -> Found:
    """Three trials side by side."""
    found, said = resident.run(*(resident.spec(number) for number in range(3)))
    assert sorted(found) == [0, 1, 2]
    assert not said
    return found


def test_beside_others_a_trial_is_what_it_is_by_itself(resident: Resident, together: Found) -> None:
    assert resident.run(resident.spec(1))[0] == {1: together[1]}


def test_nan_in_one_and_the_stop_of_another_leave_the_third_as_it_was(resident: Resident, together: Found) -> None:
    found, said = resident.run(
        resident.spec(0, learning_rate_scale=1e30), resident.spec(1), resident.spec(2), stop={2: 1}
    )
    assert found == {1: together[1]}
    (failed,) = said
    assert (failed.number, failed.again) == (0, False)
    assert "NaN or infinite" in failed.error


def test_ended_on_the_way_each_goes_on_from_its_own_checkpoint(resident: Resident, together: Found) -> None:
    """Whether the three are sent again to be together, or one of them is left alone by then."""
    resident.run(*(resident.spec(number) for number in range(3)), until=1)
    assert resident.run(resident.spec(2), go_on=True)[0] == {2: together[2]}
    assert resident.run(resident.spec(0), resident.spec(1), go_on=True)[0] == {0: together[0], 1: together[1]}


def test_a_second_training_is_the_trial_under_the_next_seed(resident: Resident, monkeypatch) -> None:
    """Ended on the way, then beside one that blows up; and drawn once only."""
    monkeypatch.setattr(finalist_looks, "delete", lambda folder: None)  # of the training, once it is drawn
    resident.run(resident.spec(1, seed=1))
    expected = load_file(resident.folder.checkpoint(1, EPOCHS) / "lora.safetensors")
    for number, changes in ((0, {"learning_rate_scale": 1e30}), (1, {})):
        config = resident.spec(number, **changes).config
        TrialRecord(number, "complete", config, {}, EPOCHS, EPOCHS).save(resident.folder.trial(number))
    asked = [DrawAgain(number, EPOCHS, retrained=True, place=number) for number in (0, 1)]
    said, looks = [], resident.worker._finalists
    monkeypatch.setattr(resident.worker._line, "send", said.append)
    again = FreshLook.file(resident.folder, 1, EPOCHS, retrained=True)
    kept = again.parent / "training" / "checkpoints"

    def killed() -> None:
        if (kept / "0001").is_dir():
            raise Ended

    with pytest.raises(Ended):
        looks.see_to(asked[1:], killed)
    resident.worker._passes = looks._side.passes = resident.passes()  # as after a start
    assert [path.name for path in kept.iterdir()] == ["0001"]
    assert not looks.see_to(asked, lambda: None)
    (failed,) = [message for message in said if isinstance(message, Failed)]
    assert (failed.number, failed.again) == (0, False)
    assert [message for message in said if isinstance(message, DrawnAgain)] == [DrawnAgain(1, EPOCHS)]
    found = load_file(kept / f"{EPOCHS:04d}" / "lora.safetensors")
    assert {name: weights.tolist() for name, weights in found.items()} == {
        name: weights.tolist() for name, weights in expected.items()
    }
    look = FreshLook.load(again)
    assert look is not None
    assert look.seconds > 0
    monkeypatch.setattr(Pack, "train_epoch", lambda *_, **__: pytest.fail("trained again"))
    assert looks.see_to(asked[1:], lambda: None)


def test_where_memory_ends_while_second_trainings_join_all_of_them_may_be_tried_again(
    resident: Resident, monkeypatch
) -> None:
    for number in (0, 1, 2):
        config = resident.spec(number).config
        TrialRecord(number, "complete", config, {}, EPOCHS, EPOCHS).save(resident.folder.trial(number))
        shutil.rmtree(FreshLook.file(resident.folder, number, EPOCHS, retrained=True).parent, ignore_errors=True)
    asked = [DrawAgain(number, EPOCHS, retrained=True, place=number) for number in (0, 1, 2)]
    said, looks = [], resident.worker._finalists
    monkeypatch.setattr(resident.worker._line, "send", said.append)
    looks._side.passes = resident.passes()
    memory_for_one(monkeypatch)
    assert not looks.see_to(asked, lambda: None)
    failed = [message for message in said if isinstance(message, Failed)]
    assert [(message.number, message.again) for message in failed] == [(0, True), (1, True), (2, True)]
    assert all("out of memory" in message.error for message in failed)
    assert looks._side.passes.width == 1
    said.clear()
    assert looks.see_to(asked, lambda: None)
    assert len([message for message in said if isinstance(message, DrawnAgain)]) == 3
    PackWidth.file(resident.folder).unlink()


@pytest.mark.slow
def test_how_many_to_train_at_once_is_measured_and_kept(resident: Resident, planted: Callable[..., None]) -> None:
    """Steps at each width, as far as memory goes; a study of 40 trials keeps what its first sitting found."""
    study = replace(resident.study, budget=resident.study.budget.model_copy(update={"trials": 40}))
    study = replace(study, space=replace(study.space, entries=()), train={**study.train, "rank": 4})
    study = replace(study, workers=study.workers.model_copy(update={"pack": "auto"}))
    assert study.trials == 1
    assert settled(study, resident.folder, resident.worker._probe) == Sharing()
    PackWidth.file(resident.folder).unlink()
    ranks = Entry("rank", "rank", low=2, high=8, whole=True)
    study = replace(study, space=replace(study.space, entries=(ranks, Entry("noise_offset", "noise_offset", high=0.1))))
    planted(lambda pack: torch.OutOfMemoryError("CUDA out of memory.") if (pack.width or 0) > 2 else None)
    assert measured(study, resident.worker._probe) == Sharing(), "eight images fill a pass on a CPU"
    study = replace(study, train={**study.train, "batch_size": 1})
    found = settled(study, resident.folder, resident.worker._probe)
    assert found == Sharing(2, 2, 8)
    planted(lambda pack: AssertionError("measured again"))
    assert settled(study, resident.folder, resident.worker._probe) == found
    PackWidth.file(resident.folder).unlink()


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Pack], Exception | None]], None]:
    """Makes a pass fail with what a function says of its pack."""
    train = Pack._step

    def plant(fault: Callable[[Pack], Exception | None]) -> None:
        def step(pack: Pack, *args: Any) -> None:
            error = fault(pack)
            if error is not None:
                raise error
            train(pack, *args)

        monkeypatch.setattr(Pack, "_step", step)

    return plant


def test_too_little_memory_for_all_fails_none_and_the_study_keeps_the_width(
    resident: Resident, planted: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(lambda pack: torch.OutOfMemoryError("CUDA out of memory.") if (pack.width or 0) > 1 else None)
    monkeypatch.setattr(resident.worker, "_passes", resident.passes())
    found, said = resident.run(*(resident.spec(number) for number in range(3)))
    assert sorted(found) == [0, 1, 2]
    assert {type(message) for message in said} == {Note}
    assert all("at most 1 trial" in message.notice for message in said)
    assert resident.passes().width == 1


def test_whoever_breaks_a_pass_fails_alone(resident: Resident, together: Found, planted: Callable[..., None]) -> None:
    planted(lambda pack: RuntimeError("planted") if any(run.settings.adapter.rank == 8 for run in pack.runs) else None)
    found, said = resident.run(*(resident.spec(number) for number in range(3)))
    assert found == {0: together[0], 2: together[2]}
    (failed,) = [message for message in said if isinstance(message, Failed)]
    assert (failed.number, failed.error, failed.again) == (1, "RuntimeError: planted", True)

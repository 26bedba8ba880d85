"""What an export is of: which trial and epoch, where its LoRA lies, and what is said of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.errors import StudyError
from search.exports.pick import pick
from search.record.final_run import Average, FinalRun
from search.record.finalists import Finalist, Finalists
from search.record.finished_run import FinishedRun
from search.record.person_pick import PersonPick
from search.record.record import PROBE_FILE, StudyFolder, TrialRecord
from search.verdict.all_photos import compare_text


@pytest.fixture
def folder(finished_study: StudyFolder, tmp_path: Path) -> StudyFolder:
    """Trial 2 ships epoch 18 of 40; six photos were trained on, two held out."""
    ignored = shutil.ignore_patterns("samples", "*.png", "artifacts")
    shutil.copytree(finished_study.path, tmp_path / "toy", ignore=ignored)
    return StudyFolder(tmp_path / "toy")


def changed(folder: StudyFolder, number: int, **changes: Any) -> TrialRecord:
    record = replace(TrialRecord.load(folder.trial(number)), **changes)
    record.save(folder.trial(number))
    return record


def kept(folder: StudyFolder, number: int, *epochs: int) -> None:
    for epoch in epochs:
        file = folder.checkpoint(number, epoch) / "lora.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


MORE = f"On all 8 photos {compare_text(16, 18)}."


def test_the_verdicts_trial_and_epoch_are_taken_where_nothing_else_is_asked_for(folder: StudyFolder) -> None:
    found = pick(folder, None, None)
    assert (found.record.number, found.epoch, found.ship_epoch) == (2, 18, 18)
    assert found.lora == folder.checkpoint(2, 18) / "lora.safetensors"
    assert found.config == found.record.config
    assert found.said == ("Onset, study toy, trial 2, epoch 18.", "Ship epoch 18 of 40.", MORE)
    assert found.about == "\n".join(found.said)
    assert pick(folder, 2, None) == pick(folder, 2, 18) == found


def test_what_a_person_picked_goes_first_and_is_named(folder: StudyFolder) -> None:
    kept(folder, 3, 20)
    PersonPick(3, 20, "the eyes", "2026-11-27").save(folder)
    found = pick(folder, None, None)
    assert (found.record.number, found.epoch) == (3, 20)
    assert found.said == (
        "Onset, study toy, trial 3, epoch 20.",
        "Epoch 20 of 40 is your own pick. The verdict ships epoch 22.",
        "Picked by a person on 2026-11-27: trial 3, epoch 20: the eyes. "
        "(python -m search.pick --clear takes the verdict's again.)",
        f"On all 8 photos {compare_text(17, 20)}.",
    )
    assert pick(folder, 2, None).epoch == 18
    assert "Picked by a person" not in pick(folder, 2, 18).about
    assert pick(folder, 3, None).epoch == 22


def test_a_failed_trial_ships_nothing_and_says_why(folder: StudyFolder) -> None:
    found = pick(folder, 4, None)
    assert (found.epoch, found.lora, found.ship_epoch) == (None, None, None)
    assert found.said == ("Onset, study toy, trial 4.", "Trial 4: Nothing to ship: it failed.")
    assert found.config == found.record.config


def test_a_trial_on_its_way_gives_the_best_until_now_or_goes_to_its_end(folder: StudyFolder) -> None:
    changed(folder, 3, state="running", stopped="")
    assert pick(folder, 3, None).said[1] == "Ship epoch 22 of 40."
    changed(folder, 3, state="running", stopped="", epoch_shipped=None)
    found = pick(folder, 3, None)
    assert (found.epoch, found.lora) == (None, None)
    assert found.said == (
        "Onset, study toy, trial 3.", "No epoch to ship is known: the run goes to its last epoch.",
    )  # fmt: skip


@pytest.mark.parametrize(("trial", "epoch", "told"), [
    (9, None, "a trial that is here (0, 1, 2, 3, 4, 5, 6, 7)"),
    (2, 12, "an epoch of trial 2 whose LoRA is kept (18)"),
    (3, 12, "an epoch of trial 3 whose LoRA is kept (none (keep.checkpoints: all keeps every one))"),
    (None, 12, "an epoch of trial 2 whose LoRA is kept (18)"),
])  # fmt: skip
def test_what_is_not_there_is_named_with_what_is(folder: StudyFolder, trial: Any, epoch: Any, told: str) -> None:
    with pytest.raises(StudyError) as caught:
        pick(folder, trial, epoch)
    assert told in str(caught.value)


def test_kept_epochs_are_named_in_order(folder: StudyFolder) -> None:
    kept(folder, 3, 30, 4, 22)
    with pytest.raises(StudyError, match=r"\(4, 22, 30\)"):
        pick(folder, 3, 5)
    assert pick(folder, 3, 30).epoch == 30


def test_before_a_trial_is_complete_only_a_named_one_is_exported(folder: StudyFolder) -> None:
    for record in list(folder.records()):
        if record.number != 4:
            shutil.rmtree(folder.trial(record.number))
    folder.verdict_file.unlink()
    with pytest.raises(StudyError, match=r"no complete trial to export yet \(--trial N takes any\)"):
        pick(folder, None, None)
    assert pick(folder, 4, None).epoch is None
    shutil.rmtree(folder.trial(4))
    with pytest.raises(StudyError, match=r"a trial that is here \(none\)"):
        pick(folder, 4, None)


def test_of_a_finished_run_there_is_nothing_to_export(folder: StudyFolder) -> None:
    changed(folder, 2, finished_run=FinishedRun({18: "a.safetensors", 20: "b.safetensors"}))
    with pytest.raises(StudyError, match=r"expected a study that trains .*; the LoRA to ship is in .*best"):
        pick(folder, 2, None)


def test_what_fresh_images_read_is_said_where_they_were_drawn_at_that_epoch(folder: StudyFolder) -> None:
    def finalists(epoch: int, score: float) -> Finalists:
        return Finalists({}, (Finalist(2, epoch, 0.6, score, 0.5, 0.7, 1.0),))

    finalists(16, 0.61).save(folder)
    assert not any("fresh seeds" in said for said in pick(folder, 2, None).said)
    finalists(18, 0.62).save(folder, by_twins=True)
    assert pick(folder, 2, None).said[2] == finalists(18, 0.62).drawn[0].sentence
    finalists(18, 0.63).save(folder)
    assert pick(folder, 2, None).said[2] == finalists(18, 0.63).drawn[0].sentence
    assert not any("fresh seeds" in said for said in pick(folder, 3, None).said)


@pytest.mark.parametrize(("before", "after"), [(9, 12), (2, 3), (1, 1)])
def test_epochs_of_so_many_steps_are_the_same_part_of_a_pass_over_more_photos(
    folder: StudyFolder, before: int, after: int
) -> None:
    record = TrialRecord.load(folder.trial(2))
    changed(folder, 2, config=record.config.model_copy(update={"steps_per_epoch": before}))
    found = pick(folder, 2, None)
    assert (found.config.steps_per_epoch, found.epoch, found.ship_epoch) == (after, 18, 18)
    told = f"An epoch has {after} steps here instead of {before}: the same part of a pass over more photos."
    assert [said for said in found.said if said.startswith("An epoch has")] == ([told] if after != before else [])


@pytest.mark.parametrize("how", ["gone", "damaged", "none held out"])
def test_without_photos_held_out_epochs_are_what_they_were(folder: StudyFolder, how: str) -> None:
    probe = folder.cache / "probe" / PROBE_FILE
    about = json.loads(probe.read_text())
    if how == "gone":
        probe.unlink()
    else:
        probe.write_text("half" if how == "damaged" else json.dumps(about | {"heldout": [], "context": []}))
    assert pick(folder, 2, None).said == ("Onset, study toy, trial 2, epoch 18.", "Ship epoch 18 of 40.")


def test_a_final_run_counts_in_passes_over_all_photos(folder: StudyFolder) -> None:
    """Its twin had six of the eight photos: three quarters of a pass are an epoch."""
    record = changed(folder, 2, final=FinalRun(18))
    found = pick(folder, 2, None)
    assert (found.epoch, found.ship_epoch, found.config.epochs) == (18, 14, 30)
    assert found.lora == folder.checkpoint(2, 18) / "lora.safetensors"
    assert found.said[-1] == "In passes over all 8 photos, as the files here count, that is epoch 14."
    assert MORE not in found.said
    changed(folder, 2, config=record.config.model_copy(update={"steps_per_epoch": 9}))
    steps = pick(folder, 2, None)
    assert (steps.epoch, steps.ship_epoch, steps.config.epochs, steps.config.steps_per_epoch) == (18, 18, 40, 9)
    assert not any("passes" in said for said in steps.said)
    changed(folder, 2, epoch_shipped=None, state="failed", score=None, config=record.config)
    nothing = pick(folder, 2, None)
    assert (nothing.epoch, nothing.config.epochs, nothing.ship_epoch) == (None, 30, None)


def test_the_average_of_a_final_run_ships_unless_an_epoch_is_asked_for(folder: StudyFolder) -> None:
    average = Average((16, 18, 20), 0.75, 0.67, 0.01)
    average.save(folder.trial(2))
    changed(folder, 2, final=FinalRun(18, average=average))
    found = pick(folder, 2, None)
    assert found.said[1] == "Ship the average of epochs 16 to 20: the LoRA here."
    assert found.lora == Average.lora(folder.trial(2))
    own = pick(folder, 2, 18)
    assert own.said[1] == "Ship epoch 18 of 40."
    assert own.lora == folder.checkpoint(2, 18) / "lora.safetensors"

"""One trial's files put right: each kind of damage is said in one line, what is whole stays as it is."""

from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.record.events import Checkpointed, save_readings
from search.record.json_files import write_bytes
from search.record.record import StudyFolder, write_samples
from search.recovery.trials import mend_trial
from search.tuning.pruner import OWNER
from tests.search.recovery.planted_trials import NUMBER, checkpoint, cut, files, make_trial
from trainer.checkpoint import LORA_FILE, STATE_FILE, STATE_TENSORS


@pytest.mark.parametrize("state", ["complete", "pruned", "failed", "running"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_trial_whose_files_are_whole_is_left_as_it_is(study, folder, state: str, kept: bool) -> None:
    _, row = make_trial(study, folder, NUMBER, state=state, trained=6, kept=kept)
    before = files(folder)
    assert mend_trial(study, folder, row) == []
    assert files(folder) == before


@pytest.mark.parametrize("whose", ["another study's", "nobody's", "queued"])
def test_a_trial_that_this_study_has_not_placed_is_left_alone(study, folder, whose: str) -> None:
    _, row = make_trial(study, folder, NUMBER)
    (folder.trial(NUMBER) / "record.json").write_text("torn")
    (folder.trial(NUMBER) / "sheet.png").write_text("torn")
    row = _with(row, user_attrs={"another study's": {**row.user_attrs, OWNER: "dog"}, "nobody's": {}}.get(whose))
    if whose == "queued":
        row.state, row.values = TrialState.WAITING, None
    before = files(folder)
    assert mend_trial(study, folder, row) == []
    assert files(folder) == before


def _with(row: FrozenTrial, *, user_attrs: dict[str, Any] | None) -> FrozenTrial:
    if user_attrs is not None:
        row.user_attrs = user_attrs
    return row


def draw(folder: StudyFolder, epochs: tuple[int, ...]) -> None:
    for epoch in epochs:
        images = np.full((2, 8, 8, 3), epoch, np.uint8)
        write_samples(folder.samples_file(NUMBER, epoch), images, 1)


@pytest.mark.parametrize("name", ["sheet.png", "onset.png", "behaviour.png"])
def test_a_picture_that_was_cut_short_is_drawn_again(study, folder, name: str) -> None:
    _, row = make_trial(study, folder, NUMBER)
    draw(folder, (2,))
    home = folder.trial(NUMBER)
    for each in ("sheet.png", "onset.png", "behaviour.png"):
        write_bytes(home / each, folder.samples_file(NUMBER, 2).read_bytes())
    cut(home / name)
    before = files(folder)
    assert mend_trial(study, folder, row) == [f"trial 1: {name} is damaged: drawn again"]
    del before[f"trials/0001/{name}"]
    assert files(folder) == before


def test_images_that_were_cut_short_are_left_out_by_epoch(study, folder) -> None:
    _, row = make_trial(study, folder, NUMBER)
    draw(folder, (0, 2, 4, 6))
    for epoch in (6, 2):
        cut(folder.samples_file(NUMBER, epoch))
    whole = folder.samples_file(NUMBER, 4).read_bytes()
    assert mend_trial(study, folder, row) == ["trial 1: images of epoch 2, 6 are damaged: left out of the sheets"]
    assert folder.sampled_epochs(NUMBER) == [0, 4]
    assert folder.samples_file(NUMBER, 4).read_bytes() == whole


@pytest.mark.parametrize("damaged", ["missing", "cut short"])
def test_the_bases_images_are_copied_from_the_probe(study, folder, damaged: str) -> None:
    _, row = make_trial(study, folder, NUMBER)
    draw(folder, (0, 2))
    first = folder.samples_file(NUMBER, 0)
    whole = first.read_bytes()
    write_bytes(folder.cache / "probe" / "base.png", whole)
    first.unlink() if damaged == "missing" else cut(first)
    said = "trial 1: the base's images are damaged or missing: copied from the probe"
    assert mend_trial(study, folder, row) == [said]
    assert first.read_bytes() == whole
    assert folder.sampled_epochs(NUMBER) == [0, 2]


@pytest.mark.parametrize("probe", ["missing", "cut short"])
def test_without_the_probes_the_bases_images_are_left_out(study, folder, probe: str) -> None:
    _, row = make_trial(study, folder, NUMBER)
    draw(folder, (0, 2))
    cut(folder.samples_file(NUMBER, 0))
    if probe == "cut short":
        write_bytes(folder.cache / "probe" / "base.png", folder.samples_file(NUMBER, 0).read_bytes())
    assert mend_trial(study, folder, row) == ["trial 1: images of epoch 0 are damaged: left out of the sheets"]
    assert folder.sampled_epochs(NUMBER) == [2]


def test_a_trial_without_a_folder_of_images_gets_none(study, folder) -> None:
    _, row = make_trial(study, folder, NUMBER)
    draw(folder, (2,))
    write_bytes(folder.cache / "probe" / "base.png", folder.samples_file(NUMBER, 2).read_bytes())
    folder.samples_file(NUMBER, 2).unlink()
    folder.samples_file(NUMBER, 2).parent.rmdir()
    assert mend_trial(study, folder, row) == []
    assert folder.sampled_epochs(NUMBER) == []


# --- readings


@pytest.mark.parametrize("about", [None, {"timings": {}}, {"memory": {}}])
def test_readings_that_do_not_say_what_they_cost_are_measured_again(study, folder, about) -> None:
    _, row = make_trial(study, folder, NUMBER, state="running", trained=4, kept=True)
    home = folder.trial(NUMBER)
    save_readings(Checkpointed.file(home, 2), Checkpointed.load(home, NUMBER, 2).readings, about)
    assert mend_trial(study, folder, row) == ["trial 1: the readings of epoch 2 are damaged: measured again"]
    assert Checkpointed.epochs(home) == [0, 4]


@pytest.mark.parametrize("damaged", ["missing", "cut short", "another epoch's"])
@pytest.mark.parametrize("probe", ["whole", "cut short", "another epoch's"])
def test_the_bases_readings_are_taken_from_the_probe_where_it_has_them(study, folder, damaged: str, probe: str) -> None:
    _, row = make_trial(study, folder, NUMBER, state="running", trained=4, kept=True)
    home = folder.trial(NUMBER)
    first, kept = Checkpointed.file(home, 0), folder.cache / "probe" / "base_readings.npz"
    whole, others = first.read_bytes(), Checkpointed.file(home, 2).read_bytes()
    first.write_bytes({"another epoch's": others}.get(damaged, whole[:-1]))
    if damaged == "missing":
        first.unlink()
    kept.write_bytes({"another epoch's": others, "whole": whole}.get(probe, whole[:-1]))
    said = "trial 1: the base's readings are damaged or missing: taken from the probe"
    assert mend_trial(study, folder, row) == [said]
    assert first.is_file() == (probe == "whole")
    assert not first.is_file() or first.read_bytes() == whole
    assert Checkpointed.epochs(home)[-2:] == [2, 4]


# --- checkpoints of a trial under way


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("LoRA cut short", f"{LORA_FILE} is damaged"),
        ("LoRA deleted", f"{LORA_FILE} is missing"),
        ("tensors deleted", f"{STATE_TENSORS} is missing"),
        ("state torn", f"{STATE_FILE} is damaged"),
    ],
)
def test_training_goes_back_to_the_newest_checkpoint_that_is_whole(study, folder, damage: str, why: str) -> None:
    _, row = make_trial(study, folder, NUMBER, state="running", trained=4, kept=True)
    checkpoint(folder, 2, state=False)
    checkpoint(folder, 4)
    torn = checkpoint(folder, 6)
    path = torn / {"LoRA": LORA_FILE, "state": STATE_FILE, "tensors": STATE_TENSORS}[damage.split()[0]]
    path.unlink() if "deleted" in damage else cut(path)
    end = "trained again from the checkpoint before it"
    assert mend_trial(study, folder, row) == [f"trial 1: the checkpoint of epoch 6 is damaged ({why}): {end}"]
    assert [path.name for path in sorted(torn.parent.iterdir())] == ["0002", "0004"]


@pytest.mark.parametrize("others", ["whole", "damaged"])
def test_nothing_is_trained_again_where_a_later_checkpoint_is_whole(study, folder, others: str) -> None:
    _, row = make_trial(study, folder, NUMBER, state="running", trained=4, kept=True)
    for epoch in (2, 4, 6):
        checkpoint(folder, epoch, state=epoch > 2)
    cut(folder.checkpoint(NUMBER, 2) / LORA_FILE)
    if others == "damaged":
        for epoch in (4, 6):
            cut(folder.checkpoint(NUMBER, epoch) / LORA_FILE)
    end = ": trained again from the checkpoint before it" if others == "damaged" else ""
    assert mend_trial(study, folder, row) == [
        f"trial 1: the checkpoint of epoch {epoch} is damaged ({LORA_FILE} is damaged){end}"
        for epoch in ((2,) if others == "whole" else (2, 4, 6))
    ]

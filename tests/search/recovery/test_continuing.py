"""A study that goes on: what only adds is taken up, what would change its meaning is refused by name, old to new."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
from PIL import Image

from metrics.checkpoint.calibration import VERSION
from search.errors import StudyError
from search.record.json_files import write_json
from search.record.probe_description import ProbeDescription
from search.record.record import StudyFolder
from search.recovery.continuing import check_scored_alike, check_sources, continued, forget, has_trained, put_aside
from search.recovery.study_json import About
from search.study.input_digests import Inputs, keep_inputs
from search.study.study import Study, load_study
from tests import tiny
from tests.messages import refusal as told_refusal

CRITIC = {"steps": 8, "levels": 3, "draws": 2}
CONTEXTS = ["{trigger} {class} in snow", "a drawing of {trigger} {class}"]


def begin(study: Study, *, trained: bool = True, inputs: bool = True) -> StudyFolder:
    """What a first sitting leaves: `study.json`, what it was given, a checkpoint's readings."""
    folder = StudyFolder(study.file.parent / "runs" / study.name)
    About(study.name, study.digest, study.meaning).save(folder)
    if inputs:
        write_json(Inputs.file(folder), asdict(Inputs(study.photos, study.masks_of)))
    if trained:
        readings = folder.trial(0) / "readings"
        readings.mkdir(parents=True)
        (readings / "0000.npz").touch()
        (readings / "0002.npz").touch()
    return folder


def refusal(study: Study, folder: StudyFolder) -> str:
    with pytest.raises(StudyError) as caught:
        continued(study, folder)
    (line,) = caught.value.problems
    return line


def test_a_hub_id_that_cannot_be_had_is_told_before_anything_is_loaded(write_study) -> None:
    study = load_study(write_study(base="onset-tests/none-such"))
    with pytest.raises(StudyError) as caught:
        check_sources(study, begin(study, trained=False, inputs=False))
    (line,) = caught.value.problems
    wanted = (
        f"{study.file}: base: expected a base that LoRAs can be trained on, got 'onset-tests/none-such': no such folder"
    )
    assert line.startswith(wanted)


def test_trials_that_another_version_scored_are_not_gone_on_with(write_study) -> None:
    study = load_study(write_study())
    folder = begin(study)
    check_scored_alike(study, folder)  # no probe says how
    probe = ProbeDescription(prompts=("a",), seeds=(1,))
    for version in (VERSION, None):
        replace(probe, calibration=version).save(folder.path / "probe.json")
        check_scored_alike(study, folder)
    replace(probe, calibration=VERSION - 1).save(folder.path / "probe.json")
    with pytest.raises(StudyError) as caught:
        check_scored_alike(study, folder)
    assert "study: expected another name" in str(caught.value)
    shutil.rmtree(folder.path / "trials")
    check_scored_alike(study, folder)  # nothing was scored yet: the probe is built again


def test_budget_and_placement_may_change(write_study) -> None:
    folder = begin(load_study(write_study()))
    more = load_study(write_study(budget={"trials": 40}, workers={"count": 2}, keep={"samples": False}))
    going = continued(more, folder)
    assert (going.notes, going.anew) == ((), False)
    assert going.study.budget.trials == 40


@pytest.mark.parametrize(
    ("begun", "now", "line"),
    [
        ({}, {"train": {"resolution": 64, "epochs": 4, "save_every_n_epochs": 1}}, "train.save_every_n_epochs: 1 … 2"),
        ({}, {"train": {"resolution": 64, "epochs": 2, "save_every_n_epochs": 2}}, "train.epochs: 2 … 4"),
        ({}, {"seed": 7}, "seed: 7 … 0"),
        ({}, {"search": {"rank": {"values": [4, 8, 16]}}}, "search.rank.values: [4, 8, 16] … [4, 8]"),
        ({}, {"score": {"encoder": "clip", "holdout": 3}}, "score.holdout: 3 … 2"),
        ({}, {"score": {"encoder": "clip", "holdout": 2, "critic": CRITIC}}, "score.critic.steps: 8 … 0"),
        (
            {"score": {"encoder": "clip", "holdout": 2, "critic": CRITIC}},
            {"score": {"encoder": "clip", "holdout": 2, "critic": {**CRITIC, "steps": 0}}},
            "score.critic.steps: 0 … 8",
        ),
        (
            {"score": {"encoder": "clip", "holdout": 2, "critic": CRITIC}},
            {"score": {"encoder": "clip", "holdout": 2, "critic": {**CRITIC, "levels": 2}}},
            "score.critic.levels: 2 … 3",
        ),
        (
            {"score": {"encoder": "clip", "holdout": 2, "probe": {"contexts": CONTEXTS}}},
            {"score": {"encoder": "clip", "holdout": 2, "probe": {"contexts": CONTEXTS[1:]}}},
            "score.probe.contexts: ['a drawing",
        ),
        (
            {"search": {"rank": {"min": 4, "max": 8}}},
            {"search": {"rank": {"min": 5, "max": 8}}},
            "search.rank.min: 5 … 4",
        ),
        (
            {"search": {"rank": {"min": 4, "max": 8, "step": 2}}},
            {"search": {"rank": {"min": 4, "max": 8, "step": 4}}},
            "search.rank.step: 4 … 2",
        ),
    ],
)
def test_what_changes_the_meaning_is_refused_with_both_values(write_study, begun, now, line: str) -> None:
    whole = {"search": {"rank": {"values": [4, 8]}}}
    folder = begin(load_study(write_study(**{**whole, **begun})))
    key, _, values = line.partition(": ")
    now_is, _, was = values.partition(" … ")
    was = {"without it": "nothing"}.get(was, was.removeprefix("with "))
    told = refusal(load_study(write_study(**{**whole, **begun, **now})), folder)
    assert re.search(told_refusal(key, now_is.strip("'"), f"{was}, as the study 'small' was begun", "study.yaml"), told)
    assert "\n" not in told


@pytest.mark.parametrize(
    ("begun", "now", "said"),
    [
        ({}, {"stop": {"prune": False}}, "stop.prune: True → False: "),
        ({"search": {"rank": {"min": 4, "max": 8}}}, {"search": {"rank": {"min": 2, "max": 16}}}, "search.rank.max: 8"),
        ({}, {"train": {"resolution": 64, "epochs": 8, "save_every_n_epochs": 2}}, "train.epochs: 4 → 8: "),
    ],
)
def test_what_only_adds_is_taken_up_and_said(write_study, begun, now, said: str) -> None:
    folder = begin(load_study(write_study(**begun)))
    going = continued(load_study(write_study(**{**begun, **now})), folder)
    assert going.notes[0].startswith(said)
    assert not going.anew
    assert going.study.probe_digest == load_study(write_study(**begun)).probe_digest


def test_more_epochs_are_another_run_where_a_schedule_is_laid_out_for_them(write_study) -> None:
    train = {"resolution": 64, "epochs": 4, "lr_scheduler": "cosine"}
    folder = begin(load_study(write_study(train=train)))
    assert re.search(
        told_refusal("train.epochs", 8, "4"), refusal(load_study(write_study(train={**train, "epochs": 8})), folder)
    )
    # where the search chooses the epochs of every such schedule, the fixed ones are those of constant runs
    searched = {
        "lr_scheduler": {"values": ["constant", "cosine"]},
        "epochs": {"values": [2, 4], "when": {"lr_scheduler": "cosine"}},
    }
    train = {"resolution": 64, "epochs": 4}
    shutil.rmtree(folder.path)
    folder = begin(load_study(write_study(train=train, search=searched)))
    going = continued(load_study(write_study(train={**train, "epochs": 8}, search=searched)), folder)
    assert going.notes[0].startswith("train.epochs: 4 → 8: ")
    assert "ended stay at 4" in going.notes[0]


def test_added_prompts_are_drawn_and_those_it_was_begun_with_scored(write_study) -> None:
    score = {"encoder": "clip", "holdout": 2, "probe": {"contexts": CONTEXTS}}
    begun = load_study(write_study(score=score))
    folder = begin(begun)
    more = {**score, "probe": {"contexts": [CONTEXTS[1], "{class} at night", CONTEXTS[0]]}}
    going = continued(load_study(write_study(score=more)), folder)
    assert list(going.study.score.probe.contexts) == CONTEXTS
    assert going.study.added.prompts == ("toy at night",)
    assert "not scored" in going.notes[0]
    assert going.study.digest == begun.digest
    assert going.study.probe_digest == begun.probe_digest
    going.study.added.save(folder)
    again = continued(load_study(write_study(score=more)), folder)
    assert again.notes == ()
    assert again.study.added == going.study.added
    third = {**score, "probe": {"contexts": [*CONTEXTS, "{class} at noon"]}}
    both = continued(load_study(write_study(score=third)), folder).study.added
    assert both.prompts == ("toy at night", "toy at noon")


def test_a_study_begun_before_a_setting_existed_goes_on_with_its_default(write_study) -> None:
    study = load_study(write_study())
    folder = begin(study)
    older = {key: value for key, value in study.meaning.items() if not key.startswith("score.holdout_contexts")}
    About("small", "", older).save(folder)
    assert continued(study, folder).notes == ()
    others = load_study(write_study(score={"encoder": "clip", "holdout": 2, "holdout_contexts": ["beach"]}))
    assert re.search(told_refusal("score.holdout_contexts", ["beach"], "[]"), refusal(others, folder))


def recaption(shelf: Path) -> None:
    (shelf / "03.txt").write_text("another caption\n")


def add(shelf: Path) -> None:
    shutil.copyfile(shelf / "00.png", shelf / "new.png")
    Image.new("RGB", (64, 64), (9, 8, 7)).save(shelf / "new.png")


def remove(shelf: Path) -> None:
    (shelf / "02.png").unlink()


def redraw(shelf: Path) -> None:
    Image.new("RGB", (64, 64), (9, 8, 7)).save(shelf / "01.png")


def repeat(shelf: Path) -> None:
    shelf.rename(shelf.with_name("3_sks toy"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (recaption, "2_sks toy/03.txt (the caption was '"),
        (add, "2_sks toy/new.png (added)"),
        (remove, "2_sks toy/02.png (removed)"),
        (redraw, "2_sks toy/01.png (another image)"),
        (repeat, "2_sks toy/00.png (now 3_sks toy/00.png, 2 repeats are 3)"),
    ],
)
def test_a_changed_photo_is_told_by_its_name(write_study, change: Callable[[Path], None], said: str) -> None:
    path = write_study()
    folder = begin(load_study(path))
    change(path.parent / "photos" / "2_sks toy")
    told = refusal(load_study(path), folder)
    assert re.search(
        told_refusal("data", "photos", "photos and captions that the study 'small' was begun with", path), told
    )
    assert said in told
    assert "restore it, or give the changed study another name" in told


def test_renamed_photos_are_the_same_photos(write_study) -> None:
    path = write_study()
    folder = begin(load_study(path))
    shelf = path.parent / "photos" / "2_sks toy"
    for suffix in (".png", ".txt"):
        (shelf / f"03{suffix}").rename(shelf / f"renamed{suffix}")
    assert continued(load_study(path), folder).notes == ()


def test_without_the_list_of_its_files_a_changed_caption_is_still_refused(write_study) -> None:
    path = write_study()
    folder = begin(load_study(path), inputs=False)
    recaption(path.parent / "photos" / "2_sks toy")
    assert "no longer known which ones" in refusal(load_study(path), folder)
    Inputs.file(folder).write_text("{")
    assert "no longer known which ones" in refusal(load_study(path), folder)


def test_a_changed_mask_is_told_by_its_photo(write_study) -> None:
    path = write_study(score={"encoder": "clip", "holdout": 2, "shifted": {"masks": "masks"}})
    masks = path.parent / "masks"
    masks.mkdir()
    for name in ("00.png", "01.png"):
        Image.new("L", (64, 64), 255).save(masks / name)
    begun = load_study(path)
    folder = begin(begun)
    assert continued(load_study(path), folder).notes == ()
    Image.new("L", (64, 64), 0).save(masks / "01.png")
    told = refusal(load_study(path), folder)
    assert re.search(told_refusal("score.shifted.masks", "masks", "was begun with"), told)
    assert "2_sks toy/01.png (another mask)" in told
    older = {key: value for key, value in begun.meaning.items() if "content" not in key}
    About("small", "", older).save(folder)
    assert "cropped like their photos" in refusal(load_study(path), folder)


def test_until_a_checkpoint_is_there_nothing_binds(write_study) -> None:
    study = load_study(write_study())
    folder = begin(study, trained=False)
    (folder.trial(0) / "readings").mkdir(parents=True)
    (folder.trial(0) / "readings" / "0000.npz").touch()  # the base's: no training yet
    optuna.create_study(storage=f"sqlite:///{folder.database}", study_name="small").ask()
    assert not has_trained(folder)
    assert not continued(study, folder).anew
    corrected = load_study(write_study(seed=3))
    assert continued(corrected, folder).anew
    (folder.cache / "latents").mkdir(parents=True)
    forget(folder)
    assert not folder.database.exists()
    assert not (folder.path / "trials").exists()
    assert (folder.cache / "latents").is_dir()  # by content: as good for the corrected study
    assert continued(corrected, folder).notes == ()


@pytest.mark.parametrize("state", ["COMPLETE", "WAITING", "PRUNED"])
def test_trials_in_the_database_bind_too(write_study, state: str) -> None:
    study = load_study(write_study())
    folder = begin(study, trained=False)
    optuna.create_study(storage=f"sqlite:///{folder.database}", study_name="small").ask()
    with closing(sqlite3.connect(folder.database)) as database, database:
        database.execute("UPDATE trials SET state = ?", (state,))
    assert has_trained(folder)


def test_a_base_or_an_encoder_replaced_at_its_place_is_noticed_and_a_moved_one_is_not(
    write_study, tiny_sd15, tiny_clip, tmp_path
) -> None:
    shutil.copytree(tiny_sd15, tmp_path / "good")
    shutil.copytree(tiny_clip, tmp_path / "eyes")
    score = {"encoder": "eyes", "holdout": 2}
    study = load_study(write_study(base="good", score=score))
    folder = begin(study, inputs=False)
    keep_inputs(study, folder)
    check_sources(study, folder)
    digest = study.probe_digest
    kept = json.loads(Inputs.file(folder).read_text())
    assert len(kept["base"]) == 64
    assert kept["photos"][0]["caption"]

    (tmp_path / "good").rename(tmp_path / "moved")
    (tmp_path / "eyes").rename(tmp_path / "eyes2")
    moved = load_study(write_study(base="moved", score={**score, "encoder": "eyes2"}))
    going = continued(moved, folder)
    assert [note.split(": ")[0] for note in going.notes] == ["base", "score.encoder"]
    assert moved.probe_digest == digest
    check_sources(moved, folder)

    shutil.rmtree(tmp_path / "moved")
    tiny.make_sd15(tmp_path / "moved", prediction_type="v_prediction", rescale_betas=True)
    with pytest.raises(StudyError, match=told_refusal("base", "moved", "that the study 'small' was begun with")):
        check_sources(moved, folder)
    (tmp_path / "eyes2" / "open_clip_config.json").write_text("{}")
    with pytest.raises(StudyError, match=told_refusal("score.encoder", "eyes2", "was begun with")):
        check_sources(moved, folder)
    assert "base: expected" in str(refusals(moved, folder))


def refusals(study: Study, folder: StudyFolder) -> StudyError:
    with pytest.raises(StudyError) as caught:
        continued(study, folder)
    return caught.value


def test_a_data_check_begins_anew_with_other_captions_and_keeps_what_it_found(write_study) -> None:
    as_check = {"drop": ("search", "budget"), "data_check": {"seeds": 1}}
    study = load_study(write_study(**as_check))
    folder = begin(study)
    (folder.cache / "probe").mkdir(parents=True)
    (folder.path / "data_check.html").write_text("what was found")
    caption = next(Path(study.data).rglob("*.txt"))
    caption.write_text("something else")
    changed = load_study(study.file)
    assert continued(changed, folder).other_photos
    place = put_aside(folder)
    assert place == folder.path / "before-1"
    assert (place / "data_check.html").read_text() == "what was found"
    assert (place / "trials" / "0000" / "readings" / "0002.npz").is_file()
    assert {path.name for path in folder.path.iterdir()} == {"before-1", "cache"}
    going = continued(changed, folder)
    assert (going.other_photos, going.anew) == (False, False)
    assert not has_trained(folder)


def test_a_data_check_with_other_settings_is_refused_as_any_study_is(write_study) -> None:
    as_check = {"drop": ("search", "budget"), "data_check": {"seeds": 1}}
    study = load_study(write_study(**as_check))
    folder = begin(study)
    next(Path(study.data).rglob("*.txt")).write_text("something else")
    other = load_study(write_study(**as_check, seed=7))
    with pytest.raises(StudyError, match="seed"):
        continued(other, folder)

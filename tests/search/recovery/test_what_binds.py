"""What binds a study that goes on, change by change, and what is cleared away where nothing does."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from search.errors import StudyError
from search.record.finalists import FINALISTS_FILE, LOOKS_FOLDER
from search.record.record import PROBE_FILE, StudyFolder
from search.recovery.continuing import check_sources, continued, forget, has_trained, put_aside
from search.recovery.study_json import About
from search.study.objective import Objective
from search.study.study import Study, load_study
from tests.messages import refusal
from tests.search.recovery.planted_trials import files

BEGUN = ("study.json", "handed_on.json", "inputs.json", "prompts.json", "learned_from.json", "pack-width.json")
LEFT = ("verdict.json", FINALISTS_FILE, "study.db", "study.db-wal", "study.db-shm")
FOLDERS = ("trials", "artifacts", LOOKS_FOLDER)
STAYS = ("study.yaml", "workers.log", "cache/latents/1.npy")


def begun(study: Study, folder: StudyFolder, **changes: Any) -> StudyFolder:
    """What a first sitting leaves that had these other values in its study file."""
    About(study.name, study.digest, {**study.meaning, **changes}).save(folder)
    (folder.trial(0) / "readings").mkdir(parents=True)
    (folder.trial(0) / "readings" / "0002.npz").touch()
    return folder


def refused(study: Study, folder: StudyFolder) -> list[str]:
    with pytest.raises(StudyError) as caught:
        continued(study, folder)
    return caught.value.problems


@pytest.mark.parametrize("probe", [True, False])
def test_what_a_sitting_left_is_cleared_away_and_what_was_looked_at_stays(folder, probe: bool) -> None:
    made = [*BEGUN, PROBE_FILE, *LEFT, *(f"{name}/0000/a" for name in FOLDERS), "cache/probe/base.png", *STAYS]
    for name in made:
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_text(name)
    forget(folder, probe=probe)
    kept = set(STAYS) if probe else {*STAYS, *BEGUN, PROBE_FILE, "cache/probe/base.png"}
    assert set(files(folder)) == kept
    forget(folder, probe=probe)
    assert set(files(folder)) == kept, "where nothing is left, nothing is asked for"


def test_unless_told_otherwise_the_probe_is_cleared_away_too(folder) -> None:
    (folder.cache / "probe").mkdir(parents=True)
    forget(folder)
    assert not (folder.cache / "probe").exists()


def test_what_is_put_aside_goes_into_the_next_free_folder(folder) -> None:
    for name in ("before-1/a", "before-3/a", "study.json", "trials/0000/a", "cache/b", ".lock"):
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_text(name)
    assert put_aside(folder) == folder.path / "before-2"
    assert set(files(folder)) == {
        "before-1/a",
        "before-3/a",
        "before-2/study.json",
        "before-2/trials/0000/a",
        "cache/b",
        ".lock",
    }


@pytest.mark.parametrize(
    ("states", "scores", "trained"),
    [
        ([], {}, False),
        (["RUNNING", "FAIL"], {}, False),
        (["RUNNING"], {2: 0.5}, True),
        (["FAIL", "COMPLETE"], {}, True),
        (["PRUNED"], {}, True),
        (["WAITING"], {}, True),
    ],
)
def test_a_database_says_whether_a_trial_has_reached_a_checkpoint(folder, states, scores, trained: bool) -> None:
    folder.path.mkdir()
    assert has_trained(folder) is False
    study = optuna.create_study(storage=f"sqlite:///{folder.database}", study_name="small")
    for state in states:
        value = 0.5 if state == "COMPLETE" else None
        study.add_trial(create_trial(state=TrialState[state], value=value, intermediate_values=scores))
    assert has_trained(folder) is trained


@pytest.mark.parametrize("why", ["damaged", "locked"])
def test_a_database_that_cannot_be_read_binds(folder, monkeypatch, why: str) -> None:
    monkeypatch.setattr("search.tuning.database.BUSY_SECONDS", 0.05)
    folder.path.mkdir()
    if why == "damaged":
        folder.database.write_text("no database")
        assert has_trained(folder) is True
        return
    with closing(sqlite3.connect(folder.database)) as other:
        other.executescript("CREATE TABLE trials (state TEXT); CREATE TABLE trial_intermediate_values (value REAL);")
        other.execute("BEGIN EXCLUSIVE")
        assert has_trained(folder) is True
    assert has_trained(folder) is False


# --- each key by its rule


@pytest.mark.parametrize(
    ("was", "now", "step", "taken"),
    [
        ({"min": 4, "max": 8}, {"min": 2, "max": 8}, None, True),
        ({"min": 4, "max": 8}, {"min": 4, "max": 16}, None, True),
        ({"min": 4, "max": 8}, {"min": 6, "max": 8}, None, False),
        ({"min": 4, "max": 8}, {"min": 4, "max": 6}, None, False),
        ({"min": 4, "max": 8}, {"min": 4, "max": 12}, 2, True),
        ({"min": 4, "max": 8}, {"min": 4, "max": 12}, 4, True),
        ({"min": 4, "max": 8}, {"min": 4, "max": 10}, 4, False),
        ({"min": 4, "max": 8}, {"min": 2, "max": 8}, 2, False),
    ],
)
def test_a_range_may_grow_where_its_steps_stay(write_study, folder, was, now, step, taken: bool) -> None:
    steps = {} if step is None else {"step": step}
    earlier = load_study(write_study(search={"rank": {**was, **steps}}))
    begun(earlier, folder)
    study = load_study(write_study(search={"rank": {**now, **steps}}))
    (end,) = [end for end in ("min", "max") if was[end] != now[end]]
    if taken:
        said = f"search.rank.{end}: {was[end]} → {now[end]}: new trials use the wider range"
        assert continued(study, folder).notes == (said,)
    else:
        (line,) = refused(study, folder)
        assert f"search.rank.{end}: expected {was[end]}, as the study 'small' was begun" in line
        assert f"got {now[end]}" in line


def test_a_range_that_was_none_is_no_wider_one(write_study, folder) -> None:
    study = load_study(write_study(search={"rank": {"min": 2, "max": 8}}))
    begun(study, folder, **{"search.rank.min": "2", "search.rank.max": None})
    assert [line.split(": ")[1] for line in refused(study, folder)] == ["search.rank.max", "search.rank.min"]


@pytest.mark.parametrize(("was", "now", "taken"), [(4, 6, True), (None, 12, True), (6, 4, False), (12, None, False)])
def test_more_epochs_are_gone_on_with(write_study, folder, was, now, taken: bool) -> None:
    """Without a number it is the trainer's default, 10."""
    study = load_study(write_study(train={"resolution": 64, **({} if now is None else {"epochs": now})}))
    begun(study, folder, **{"train.epochs": was})
    if taken:
        (said,) = continued(study, folder).notes
        assert said.startswith(f"train.epochs: {was or 10} → {now}: ")
        assert f"go on to epoch {now}. Trials that have ended stay at {was or 10}" in said
    else:
        (line,) = refused(study, folder)
        assert "trials can only go on with more epochs" in line


@pytest.mark.parametrize(
    ("key", "was", "reason"),
    [
        ("search.rank.values", [4], "a list of values is fixed, because the sampler has learned from it; restore it"),
        ("train.epochs", 12, "trials can only go on with more epochs"),
        ("seed", 12, "restore it"),
        ("train.resolution", 128, "restore it"),
        ("stop.nothing.like.it", None, None),
    ],
)
def test_each_refusal_gives_its_own_reason(study, folder, key: str, was, reason: str | None) -> None:
    begun(study, folder, **{key: was})
    if reason is None:
        assert continued(study, folder).notes == ()
        return
    (line,) = refused(study, folder)
    expected, _, why = line.partition(", got ")
    assert expected.endswith(f"{key}: expected {was}, as the study 'small' was begun")
    assert why.partition(": ")[2].startswith(f"{reason}")
    assert ("a list of values" in why, "more epochs" in why) == ("values" in key, "epochs" in key)
    assert why.endswith("restore it, or give the changed study another name (docs/study-file.md says what may change)")


@pytest.mark.parametrize(
    ("was", "now", "key", "words"),
    [
        ("taste:score", "taste:score", "score.objective", "its file has changed since: restore it"),
        ("taste:score", "taste:other", "score.objective", "as the study 'small' was begun"),
        (None, "taste:score", "score.objective", "None, as the study 'small' was begun"),
        ("taste:score", None, "score.objective", "'taste:score', as the study 'small' was begun"),
    ],
)
def test_another_function_that_makes_the_score_is_told_once(study, folder, was, now, key: str, words: str) -> None:
    def scoring(name: str | None, source: str) -> Study:
        if name is None:
            return study
        with_it = replace(study, score=study.score.model_copy(update={"objective": name}))
        return replace(with_it, objective=Objective(name, "", source))

    begun(scoring(was, "1"), folder)
    (line,) = refused(scoring(now, "2"), folder)
    assert line.split(": ")[1] == key
    assert words in line


def test_prompts_may_be_added_and_none_taken_away(write_study, folder) -> None:
    contexts = ["{class} in snow", "{class} at night"]
    score = {"encoder": "clip", "holdout": 2}
    begun(load_study(write_study(score={**score, "probe": {"contexts": contexts}})), folder)
    turned = load_study(write_study(score={**score, "probe": {"contexts": contexts[::-1]}}))
    going = continued(turned, folder)
    assert (going.notes, going.study.added.prompts) == ((), ())
    more = load_study(write_study(score={**score, "probe": {"contexts": [*contexts, "a", "b"]}}))
    assert continued(more, folder).notes[0].startswith("score.probe.contexts: 2 added: ")
    fewer = load_study(write_study(score={**score, "probe": {"contexts": [contexts[0], "a"]}}))
    (line,) = refused(fewer, folder)
    assert line.split(": ")[1] == "score.probe.contexts"


@pytest.mark.parametrize(("place", "told"), [(0, True), (1, True), (None, False)])
def test_another_base_of_another_family_is_told_by_its_place(
    write_study, folder, tiny_sd15: Path, tiny_sdxl: Path, place: int | None, told: bool
) -> None:
    others = [str(tiny_sdxl if number == place else tiny_sd15) for number in (0, 1)]
    study = load_study(write_study(base=str(tiny_sd15), finalists={"transfer_bases": others}))
    if not told:
        check_sources(study, folder)
        return
    key = f"finalists.transfer_bases[{place}]"
    with pytest.raises(StudyError, match=refusal(key, str(tiny_sdxl), "a base of the family sd15")):
        check_sources(study, folder)

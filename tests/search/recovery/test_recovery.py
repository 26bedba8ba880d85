"""What is damaged between two sittings is gone back from, rebuilt or marked; the study goes on to the same numbers."""

import contextlib
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from metrics.checkpoint.objective import scored_by
from metrics.trajectory.readings import OWN_SCORE
from metrics.trajectory.trajectory import Trajectory
from search.errors import StudyError
from search.record.clock import Clock
from search.record.record import StudyFolder, TrialRecord
from search.record.set_aside import right_kinds
from search.recovery.study_folder import recover
from search.recovery.study_json import About, check_continues, studies_in
from search.running.coordinator import Coordinator
from search.running.progress import Board
from search.running.workers import Team
from search.study.objective import Objective
from search.study.study import Study, load_study
from search.tuning.database import storage_url
from search.tuning.ledger import SEARCHED, SHIPPED, Ledger
from search.verdict.verdict import Verdict
from tests.messages import refusal
from tests.search import damage
from tests.search.conftest import study_writer
from tests.search.recovery.real_studies import Outcome, outcome, run_here
from tests.search.scripted_worker import Script, scripted
from trainer.checkpoint import LORA_FILE


class Killed(Exception):
    """Stands for a kill: nothing of the coordinator runs after it."""


class _Killing(Board):
    """Kills the coordinator at a checkpoint of the second trial."""

    def checkpointed(self, slot: int, record: TrialRecord, readings: Any) -> None:
        if (record.number, record.epochs_trained) == (1, 6):
            raise Killed


def sit(study: Study, folder: StudyFolder, board: Board | None = None) -> list[str]:
    """One sitting with scripted workers; returns what was said about damage."""
    notes = right_kinds(folder)
    notes += recover(study, folder)
    team = Team(scripted, Script(folder.path), 1)
    team.start()
    try:
        Coordinator(study, folder, team, board or Board(study.name, 2, 1), clock=Clock(folder)).run()
    finally:
        team.close()
    return notes


@pytest.fixture(scope="module")
def scripted_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, StudyFolder, Outcome]:
    """A study of two trials, its folder as a kill in the second trial leaves it, and how it ends undisturbed."""
    home = tmp_path_factory.mktemp("recovery")
    path = study_writer(home)(
        train={"resolution": 64, "save_every_n_epochs": 2, "epochs": 8},
        search={
            "rank": {"values": [2, 4]},
            "learning_rate_scale": {"min": 0.5, "max": 1.5, "log": True},
        },
        budget={"trials": 2},
    )
    study = load_study(path)
    whole, half = StudyFolder(home / "whole" / "small"), StudyFolder(home / "half" / "small")
    assert sit(study, whole) == []
    with pytest.raises(Killed):
        sit(study, half, _Killing("small", 2, 1))
    return study, half, outcome(whole)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("record empty", "trial 0: record.json is damaged or missing: rebuilt from Optuna"),
        ("folder delete", "trial 0: its folder is gone"),
        ("trajectory with another score", "trial 0: trajectory.csv is damaged"),
        ("items flip", "trial 0: items.npz is damaged"),
        ("newest readings flip", "trial 1: the readings of epoch"),
        ("newest readings as_folder", "a file is needed here"),
        ("items as_folder", "a file is needed here"),
        ("base readings delete", "trial 1: the base's readings are damaged or missing"),
        ("readings as_file", "a folder is needed here"),
        ("running folder delete", None),
        ("database text", "study.db is damaged"),
        ("an index overwritten", "study.db is damaged"),
        ("database deleted", "study.db did not know of trials 0, 1: rebuilt from their records"),
        ("database of an earlier day", "study.db did not know of trials 0, 1: rebuilt from their records"),
    ],
)
def test_the_study_goes_on_to_the_same_numbers(scripted_study, tmp_path: Path, kind: str, said: str | None) -> None:
    study, half, undisturbed = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    {**damage.ENDED, **damage.RUNNING, **damage.STUDY}[kind](folder)
    notes = sit(study, folder)
    assert outcome(folder) == undisturbed
    assert said is None or any(said in note for note in notes), notes
    assert recover(study, folder) == [], "what is mended or marked is said once"


def test_folders_in_the_place_of_files_are_kept_elsewhere(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "small")
    home = folder.trial(0)
    places = [folder.cache / "probe" / "arrays.npz", home / "checkpoints" / "0002" / "state.json"]
    places += [home / "samples" / "0002.png", home / "readings" / "0002.npz", home / "trajectory.csv"]
    for path in places:
        path.mkdir(parents=True)
        (path / "mine.txt").write_text("mine")
    assert len(right_kinds(folder)) == len(places)
    assert not any(path.exists() for path in places)
    assert len(list(folder.path.rglob("mine.txt"))) == len(places)
    assert list((home / "readings").iterdir()) == list((home / "samples").iterdir()) == []
    assert right_kinds(folder) == []


def test_what_is_lost_is_marked(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    damage.truncate(folder.trial(0) / "trajectory.csv")
    recover(study, folder)
    record = TrialRecord.load(folder.trial(0))
    assert record.lost == "trajectory.csv"
    assert record.state == "complete"
    assert (folder.trial(0) / "trajectory.csv.damaged").is_file()


def test_a_record_that_is_lost_comes_back_with_ones_own_score_and_with_ours(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    readings = Trajectory.load(folder.trial(0)).readings
    by_taste = (scored_by(lambda values: -1000 * values[OWN_SCORE], one) for one in readings)
    Trajectory(tuple(by_taste)).save(folder.trial(0))
    with sqlite3.connect(folder.database) as database:
        database.execute("UPDATE trial_intermediate_values SET intermediate_value = -1000 * intermediate_value")
        database.execute("UPDATE trial_values SET value = -1000 * value")
    database.close()
    before = TrialRecord.load(folder.trial(0))
    damage.empty(folder.trial(0) / "record.json")
    recover(replace(study, objective=Objective("taste:score", "", "")), folder)
    record = TrialRecord.load(folder.trial(0))
    assert (record.objective, record.own_score) == ("taste:score", before.score)
    assert record.value == pytest.approx(-1000 * before.value)


def test_a_record_that_is_lost_comes_back_as_the_search_left_it_where_twins_moved_its_epoch(
    scripted_study, tmp_path: Path
) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    before = TrialRecord.load(folder.trial(0))
    earlier = before.epoch_shipped - before.config.save_every_n_epochs
    ledger = Ledger.of(study, folder)
    ledger.amend(0, **{SHIPPED: earlier, SEARCHED: before.epoch_shipped})
    damage.empty(folder.trial(0) / "record.json")
    recover(study, folder)
    assert TrialRecord.load(folder.trial(0)).epoch_shipped == before.epoch_shipped


def test_a_study_on_a_server_that_lost_it_is_filled_from_its_folder(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    rows = optuna.load_study(study_name=study.name, storage=storage_url(folder.database)).trials
    damage.STUDY["database deleted"](folder)
    server = Ledger(tmp_path / "server.db", study.name, seed=0, startup_trials=1)  # as empty as one
    (note,) = recover(study, folder, server)
    assert note.endswith("did not know of trials 0, 1: rebuilt from their records")
    filled = optuna.load_study(study_name=study.name, storage=storage_url(tmp_path / "server.db")).trials
    names = ("number", "state", "params", "values", "intermediate_values")
    assert [[getattr(row, name) for name in names] for row in filled] == [
        [getattr(row, name) for name in names] for row in rows
    ]


def test_a_sheet_that_was_cut_short_is_told_and_removed_to_be_drawn_again(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    sheet = folder.trial(0) / "sheet.png"
    sheet.write_bytes(b"torn")
    assert recover(study, folder) == ["trial 0: sheet.png is damaged: drawn again"]
    assert not sheet.exists()


def test_readings_of_another_epoch_are_measured_again(scripted_study, tmp_path: Path) -> None:
    study, half, undisturbed = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    readings = folder.trial(1) / "readings"
    shutil.copyfile(readings / "0002.npz", readings / "0004.npz")
    assert "trial 1: the readings of epoch 4 are damaged: measured again" in sit(study, folder)
    assert outcome(folder) == undisturbed


def test_a_damaged_lora_to_ship_is_set_aside_and_marked(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    lora = folder.checkpoint(0, TrialRecord.load(folder.trial(0)).epoch_shipped or 0) / LORA_FILE
    lora.parent.mkdir(parents=True, exist_ok=True)
    lora.write_bytes(b"torn")
    (note,) = recover(study, folder)
    assert "the one to ship, is damaged" in note
    assert not lora.exists()
    assert lora.with_name(f"{LORA_FILE}.damaged").read_bytes() == b"torn"
    assert TrialRecord.load(folder.trial(0)).lost == "its LoRA"
    assert recover(study, folder) == []


def test_without_the_numbers_of_single_images_a_trial_keeps_its_curve_and_is_marked(
    scripted_study, tmp_path: Path
) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    (folder.trial(0) / "items.npz").unlink()
    before = (folder.trial(0) / "trajectory.csv").read_bytes()
    (note,) = recover(study, folder)
    assert "items.npz is missing" in note
    assert TrialRecord.load(folder.trial(0)).lost == "items.npz"
    assert (folder.trial(0) / "trajectory.csv").read_bytes() == before
    assert recover(study, folder) == []


def test_a_trial_that_is_lost_altogether_keeps_its_number_and_its_folder(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    damage.STUDY["database deleted and a record emptied"](folder)
    before = (folder.trial(0) / "trajectory.csv").read_bytes()
    notes = sit(study, folder)
    assert any("trial 0: its record is lost" in note for note in notes)
    rows, _ = outcome(folder)
    assert [row[1] for row in rows] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert (folder.trial(0) / "trajectory.csv").read_bytes() == before


def test_another_study_in_the_folder_is_refused_by_name(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "dog")
    shutil.copytree(half.path, folder.path)
    renamed = study.file.with_name("dog.yaml")
    renamed.write_text(study.file.read_text().replace("study: small", "study: dog"))
    with pytest.raises(StudyError, match=refusal("study", "dog", "'small', the study that")):
        check_continues(load_study(renamed), folder)
    damage.STUDY["database deleted"](folder)
    About("small", "", study.meaning).save(folder)
    with pytest.raises(StudyError, match=r"'small', the study that .* holds"):
        check_continues(load_study(renamed), folder)


def test_without_its_study_json_a_changed_study_is_still_told(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    for content in ("", "{}", "null", "[1]"):
        (folder.path / "study.json").write_text(content)
        check_continues(study, folder)
    changed = study.file.with_name("changed.yaml")
    values = yaml.safe_load(study.file.read_text())
    values["train"]["batch_size"] = 3
    changed.write_text(yaml.safe_dump(values))
    with pytest.raises(StudyError, match=refusal("train.batch_size", 3, "as trial 0 of 'small' was trained")):
        check_continues(load_study(changed), folder)


def test_a_database_that_another_program_keeps_locked_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("search.tuning.database.BUSY_SECONDS", 0.05)
    database = tmp_path / "study.db"
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.executescript("CREATE TABLE studies (study_name TEXT); INSERT INTO studies VALUES ('dog')")
        assert studies_in(database) == ["dog"]
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            studies_in(database)
    database.write_text("no database" * 100)
    assert studies_in(database) == []


def test_a_database_of_an_older_optuna_says_what_to_run(scripted_study, tmp_path: Path) -> None:
    study, half, _ = scripted_study
    folder = StudyFolder(tmp_path / "small")
    shutil.copytree(half.path, folder.path)
    with sqlite3.connect(folder.database) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    database.close()
    with pytest.raises(StudyError, match="by an older Optuna; bring it up to date with: optuna storage upgrade"):
        recover(study, folder)
    assert folder.database.is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*damage.ENDED, *damage.RUNNING, *damage.STUDY, *damage.CACHE])
def test_every_kind_of_damage(real_study, tmp_path: Path, kind: str) -> None:
    file, half, whole = real_study
    folder = StudyFolder(tmp_path / "mini")
    shutil.copytree(half.path, folder.path)
    {**damage.ENDED, **damage.RUNNING, **damage.STUDY, **damage.CACHE}[kind](folder)
    code, said = run_here(file, tmp_path)
    assert code == 0, said
    assert "Traceback" not in said
    if kind == "database deleted and a record emptied":
        assert [r.number for r in folder.records()] == [1, 2]
        return
    assert outcome(folder) == outcome(whole)
    assert (folder.trial(1) / "trajectory.csv").read_bytes() == (whole.trial(1) / "trajectory.csv").read_bytes()
    assert Verdict.load(folder.verdict_file).trial == Verdict.load(whole.verdict_file).trial
    assert folder.report.is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", damage.FINISHED)
def test_a_finished_study_makes_its_verdict_again(real_study, tmp_path: Path, kind: str) -> None:
    file, _, whole = real_study
    folder = StudyFolder(tmp_path / "mini")
    shutil.copytree(whole.path, folder.path)
    damage.FINISHED[kind](folder)
    code, said = run_here(file, tmp_path)
    assert code == 0, said
    assert Verdict.load(folder.verdict_file).trial == Verdict.load(whole.verdict_file).trial
    assert folder.report.is_file()
    assert (folder.best_folder / "mini.safetensors").is_file()
    assert outcome(folder) == outcome(whole)

"""What the dashboard shows is in the store, byte for byte, before a trial is told, and once only."""

import io
import shutil
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna.artifacts.exceptions import ArtifactNotFound

from metrics.onset.turns import Choice, Turn
from search.record.finalists import FINALISTS_SHEET, STRENGTHS_SHEET, Finalists
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import Twins
from search.tuning.ledger import SHIPPED, Ledger
from search.tuning.pruner import OWNER
from search.tuning.tally import SLOT
from search.verdict.artifacts import open_store, publish_verdict, stores_beside, tell_twins, upload_trial
from search.verdict.attributes import study_attributes, trial_attributes
from search.verdict.decision import decide
from search.verdict.front import FRONT_PICTURE, Front, Place
from search.verdict.verdict import Verdict


@pytest.fixture
def running(finished_study: StudyFolder, tmp_path):
    """A study whose ninth trial is running, with the files of trial 2 in its folder."""
    folder = StudyFolder(tmp_path / "runs" / "toy")
    shutil.copytree(finished_study.path, folder.path)
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{folder.database}")
    trial = study.ask()
    shutil.copytree(folder.trial(2), folder.trial(trial.number))
    replace(TrialRecord.load(folder.trial(2)), number=trial.number).save(folder.trial(trial.number))
    return folder, study, trial


def _read(store, artifact: str) -> bytes:
    with store.open_reader(artifact) as content:
        return content.read()


def test_a_dashboard_of_several_studies_shows_the_pictures_of_all(tmp_path):
    ours, theirs = (StudyFolder(tmp_path / name) for name in ("ours", "theirs"))
    store = stores_beside(ours)
    assert (ours.path / "artifacts").is_dir(), "to write to, whatever is there yet"
    for folder, name in ((ours, "a"), (theirs, "a"), (theirs, "b")):
        open_store(folder).write(name, io.BytesIO(f"{name} of {folder.path.name}".encode()))
    assert _read(store, "a") == b"a of ours", "one's own goes first"
    assert _read(store, "b") == b"b of theirs"
    with pytest.raises(ArtifactNotFound):
        store.open_reader("c")


def test_a_trials_files_arrive_whole_before_it_is_told(running):
    folder, study, trial = running
    store = open_store(folder)
    uploaded = upload_trial(trial, folder.trial(trial.number), store)
    assert "sheet.png" in uploaded
    assert "trajectory.csv" in uploaded
    study.tell(trial, 0.7)
    found = _shown(study, trial)
    assert set(found) == set(uploaded)
    for name, meta in found.items():
        assert _read(store, meta["artifact_id"]) == (folder.trial(trial.number) / name).read_bytes()
    assert found["sheet.png"]["mimetype"] == "image/png"
    assert found["trajectory.csv"]["mimetype"] == "text/csv"


def test_what_was_found_stands_in_the_table_of_trials(running):
    folder, study, trial = running
    store, record = open_store(folder), TrialRecord.load(folder.trial(2))
    for _ in range(2):
        upload_trial(trial, folder.trial(trial.number), store)
    study.tell(trial, 0.7)
    table = study.trials_dataframe()
    assert [name for name in table.columns if "artifact" in name] == []
    values = table[[name for name in table.columns if name.startswith("user_attrs_")]].to_numpy().flatten()
    assert all(np.isscalar(value) for value in values), "lists and tables are no values to sort or group by"
    row = table.iloc[trial.number]
    assert row["user_attrs_alpha"] == record.config.effective_alpha
    assert row["user_attrs_learning_rate"] == record.config.effective_learning_rate
    assert (row["user_attrs_onset"], row["user_attrs_onset_kind"]) == (record.onset.epoch, "context")
    assert row["user_attrs_onset_low"] <= row["user_attrs_onset"]
    assert row["user_attrs_onset_channels"] == ", ".join(record.onset.earlier.channels)
    verdict = Verdict.load(folder.verdict_file)
    publish_verdict(study, folder, verdict, store)
    assert study.user_attrs["epoch_shipped"] == verdict.decision.shipped
    assert study.user_attrs["verdict"].startswith(f"Ship epoch {verdict.decision.shipped} of trial")


@pytest.mark.parametrize("ships", [False, True])
def test_a_study_and_its_winner_say_the_same_under_the_same_names(running, ships: bool) -> None:
    """Where nothing ships there is no safe epoch; where twins read the onset, the study says how many."""
    folder, _, _ = running
    verdict, record = Verdict.load(folder.verdict_file), TrialRecord.load(folder.trial(2))
    choices = (Choice(8, 6, 10), Choice(14, 12, None)) if ships else (None, None)
    onset = replace(record.onset, safe=choices[0], alike=choices[1])
    twins = Twins(3, record.epochs_trained, record.epoch_shipped, count=3, photos=9, onset=onset) if ships else None
    record = replace(record, onset=onset, twins=twins)
    of_trial = trial_attributes(record)
    of_study = study_attributes(replace(verdict, decision=decide(record)))
    same = ("context_onset", "memory_onset", "safe_epoch", "alike_epoch", "twins", "copying")
    assert {name: of_study.get(name) for name in same} == {name: of_trial.get(name) for name in same}
    assert (of_study["safe_epoch"], of_study["alike_epoch"]) == ((8, 14) if ships else (None, None))
    assert ("twins" in of_study) == ships
    assert (of_study["trial_shipped"], of_study["epoch_shipped"]) == (2, record.epoch_shipped)


def test_the_note_shows_the_sheet_and_says_both_onsets(running):
    folder, study, trial = running
    upload_trial(trial, folder.trial(trial.number), open_store(folder))
    note = _note(study, trial.number)
    assert _shown(study, trial)["sheet.png"]["artifact_id"] in note
    assert "Context onset: epoch" in note
    assert "Memory onset: epoch" in note
    assert "cosine_with_restarts, 2 cycles, rank 8, alpha 4" in note


def test_uploading_twice_leaves_one_of_each(running):
    folder, study, trial = running
    store = open_store(folder)
    kept = len(list((folder.path / "artifacts").iterdir()))
    first = upload_trial(trial, folder.trial(trial.number), store)
    assert upload_trial(trial, folder.trial(trial.number), store) == first
    assert sorted(_shown(study, trial)) == sorted(first)
    assert len(list((folder.path / "artifacts").iterdir())) == kept + len(first)


@pytest.mark.parametrize("arrived", [None, 100])
def test_an_upload_that_was_cut_off_is_done_again_under_its_own_entry(running, arrived: int | None):
    folder, study, trial = running
    store = open_store(folder)
    upload_trial(trial, folder.trial(trial.number), store)
    sheet = _shown(study, trial)["sheet.png"]["artifact_id"]
    stored = folder.path / "artifacts" / sheet  # the entry is written first, then the bytes
    if arrived is None:
        stored.unlink()
    else:
        stored.write_bytes(stored.read_bytes()[:arrived])
    upload_trial(trial, folder.trial(trial.number), store)
    assert _shown(study, trial)["sheet.png"]["artifact_id"] == sheet
    assert _read(store, sheet) == (folder.trial(trial.number) / "sheet.png").read_bytes()


def test_what_twins_say_stands_in_the_table_of_trials_as_long_as_they_do(running):
    folder, study, trial = running
    store, home, record = open_store(folder), folder.trial(trial.number), TrialRecord.load(folder.trial(2))
    for name, value in {OWNER: "toy", SLOT: 0, SHIPPED: record.epoch_shipped}.items():
        trial.set_user_attr(name, value)
    upload_trial(trial, home, store)
    study.tell(trial, 0.7)
    ledger = Ledger(folder.database, "toy", seed=0, startup_trials=1)

    def stored() -> optuna.trial.FrozenTrial:
        return optuna.load_study(study_name="toy", storage=f"sqlite:///{folder.database}").trials[trial.number]

    assert tell_twins(ledger, folder, store) == []
    before, note = stored(), _note(study, trial.number)
    assert {"context_onset", "onset"} <= before.user_attrs.keys()
    memory = Turn("found", 9.0, 7.0, None, ("heldout_loss",))
    onset = replace(record.onset, context=Turn("beyond"), memory=memory, best=8)
    asked = {"asked": 3, "trained": record.epochs_trained, "before": record.epoch_shipped, "count": 3}
    Twins(**asked, photos=9, onset=onset, score=0.5).save(home)
    for _ in range(2):
        assert tell_twins(ledger, folder, store) == [trial.number]
        now = stored()
        assert (now.state, now.value) == (before.state, 0.7)
        expected = {"onset": 9.0, "onset_low": 7.0, "onset_kind": "memory", "onset_channels": "heldout_loss"}
        expected |= {"memory_onset": 9.0, "twins": 3, "epoch_shipped": 8, "epoch_searched": record.epoch_shipped}
        assert expected.items() <= now.user_attrs.items()
        assert not {"onset_high", "context_onset"} & now.user_attrs.keys()
        assert ledger.trial(trial.number).user_attrs == now.user_attrs
        assert "Read from 3 twins" in _note(study, trial.number)
    (home / "twins.json").unlink()
    assert tell_twins(ledger, folder, store) == [trial.number]
    assert (stored().user_attrs, _note(study, trial.number)) == (before.user_attrs, note)
    assert tell_twins(ledger, folder, store) == []


def test_a_failed_trial_leaves_its_error_as_a_note(running):
    folder, study, trial = running
    failed = TrialRecord.load(folder.trial(4))
    shutil.rmtree(folder.trial(trial.number))
    replace(failed, number=trial.number).save(folder.trial(trial.number))
    assert upload_trial(trial, folder.trial(trial.number), open_store(folder)) == []
    assert "the loss is NaN at epoch 4" in _note(study, trial.number)


def test_the_verdict_becomes_the_studys_note(running):
    folder, study, trial = running
    study.tell(trial, 0.1)
    verdict = Verdict.load(folder.verdict_file)
    store = open_store(folder)
    publish_verdict(study, folder, verdict, store)
    publish_verdict(study, folder, verdict, store)
    names = [m.filename for m in get_all_artifact_meta(study)]
    assert names.count("best-0002-sheet.png") == 1
    note = _note(study, None)
    assert note.startswith(f"# Ship epoch {verdict.epoch} of trial 2")
    assert all(sentence in note for sentence in verdict.sentences)


@pytest.mark.parametrize(
    ("name", "has"),
    [
        (FINALISTS_SHEET, {"finalists": Finalists({}, (), images=4, prompts=2)}),
        (STRENGTHS_SHEET, {"files": {"strengths": STRENGTHS_SHEET}}),
        (FRONT_PICTURE, {"front": Front((), Place(0, 2, 0.5, 0.1), None, 1)}),
    ],
)
def test_each_picture_of_a_verdict_that_has_it_goes_to_the_study(tmp_path, name, has):
    folder, study = StudyFolder(tmp_path), optuna.create_study(study_name="toy")
    (tmp_path / name).write_bytes(name.encode())
    store = open_store(folder)
    for verdict, kept in ((Verdict(study="toy"), []), (Verdict(study="toy", **has), [name])):
        publish_verdict(study, folder, verdict, store)
        entries = get_all_artifact_meta(study)
        assert [entry.filename for entry in entries] == kept
        assert all(_read(store, entry.artifact_id) == name.encode() for entry in entries)
        assert all(entry.artifact_id in _note(study, None) for entry in entries)


def _shown(study: optuna.Study, trial: optuna.trial.Trial) -> dict[str, dict]:
    """Name to entry of the artifacts that the dashboard shows of a trial."""
    from optuna_dashboard.artifact._backend import list_trial_artifacts

    attributes = study._storage.get_study_system_attrs(study._study_id)
    own = study._storage.get_trial_system_attrs(trial._trial_id)
    return {each["filename"]: each for each in list_trial_artifacts(attributes, own, trial)}


def _note(study: optuna.Study, number: int | None) -> str:
    from optuna_dashboard._note import get_note_from_system_attrs

    attributes = study._storage.get_study_system_attrs(study._study_id)
    trial = None if number is None else study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    return get_note_from_system_attrs(attributes, trial)["body"]

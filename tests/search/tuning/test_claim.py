"""Whose a study on a server is, by what the folder and the server know of it."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from search.errors import StudyError
from search.record.record import StudyFolder
from search.study.server import Kept, Server
from search.tuning.claim import STUDY_ID, claim

SERVER = Server("postgresql://lab:secret@host/onset", "study.yaml", "storage")


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(study_name="dog")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path)


def claimed(study: optuna.Study, folder: StudyFolder) -> Kept | None:
    claim(study, SERVER, folder, lambda: study.trials)
    return Kept.load(folder)


def test_a_new_study_is_the_folders_and_stays_so(
    study: optuna.Study, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.enqueue_trial({"rank": 4})  # somebody may queue trials before it begins
    kept = claimed(study, folder)
    assert kept is not None
    assert study.user_attrs[STUDY_ID] == kept.study_id
    assert kept.shown == SERVER.shown
    written = Kept.file(folder).stat().st_mtime_ns
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=1.0))
    with monkeypatch.context() as patch:
        patch.setattr(study, "set_user_attr", lambda *given: pytest.fail("the server knows it"))
        assert claimed(study, folder) == kept
    assert Kept.file(folder).stat().st_mtime_ns == written


def test_a_study_of_another_folder_is_refused(study: optuna.Study, folder: StudyFolder, tmp_path: Path) -> None:
    claimed(study, folder)
    other = StudyFolder(tmp_path / "other")
    other.path.mkdir()
    for kept in (None, Kept("of a third", SERVER.shown)):
        if kept is not None:
            kept.save(other)
        with pytest.raises(StudyError, match="'dog' of another folder"):
            claimed(study, other)
        assert Kept.load(other) == kept


def test_trials_that_somebody_else_has_made_are_no_study_of_ours(study: optuna.Study, folder: StudyFolder) -> None:
    study.add_trial(create_trial(state=TrialState.RUNNING))
    with pytest.raises(StudyError, match="'dog' of another folder"):
        claimed(study, folder)
    assert STUDY_ID not in study.user_attrs


def test_killed_before_the_server_knew_it_goes_on_under_the_same_mark(study: optuna.Study, folder: StudyFolder) -> None:
    Kept("mine", "postgresql://old/address").save(folder)
    assert claimed(study, folder) == Kept("mine", SERVER.shown)
    assert study.user_attrs[STUDY_ID] == "mine"

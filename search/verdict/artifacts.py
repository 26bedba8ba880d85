"""What optuna-dashboard shows beside the scores: sheets, plots and tables as artifacts, what was found as user
attributes, and the verdict as a note.

The store holds copies only: the dashboard can delete a study with its artifacts.
"""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import NAMESPACE_URL, uuid5

from search.record.finalists import FINALISTS_SHEET, STRENGTHS_SHEET
from search.record.record import StudyFolder, TrialRecord
from search.record.twins import TWINS_FILE
from search.verdict.attributes import every_trial_attribute, study_attributes, trial_attributes
from search.verdict.best_files import write_pictures
from search.verdict.decision import decide, unit_of
from search.verdict.front import FRONT_PICTURE
from search.verdict.sentences import headline
from search.verdict.settings_sentences import settings_of
from search.verdict.trial_sentences import state_text, trial_sentences

if TYPE_CHECKING:
    import optuna
    from optuna.artifacts._protocol import ArtifactStore

    from search.tuning.ledger import Ledger
    from search.verdict.verdict import Verdict

FOLDER = "artifacts"
_TRIAL_FILES = ("sheet.png", "onset.png", "trajectory.csv")
_BEST_FILES = ("sheet.png", "onset.png", "train.yaml")
_MIME = {".png": "image/png", ".csv": "text/csv", ".yaml": "text/plain"}


def open_store(folder: StudyFolder | Path) -> "ArtifactStore":
    """The study's artifact store; Optuna does not make its folder, so it is made here."""
    from optuna.artifacts import FileSystemArtifactStore

    path = (folder.path if isinstance(folder, StudyFolder) else Path(folder)) / FOLDER
    path.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(str(path))


def stores_beside(folder: StudyFolder) -> "ArtifactStore":
    """The stores of all studies in a runs folder, to read from: a dashboard of several studies shows all pictures."""
    from optuna.artifacts import FileSystemArtifactStore
    from optuna.artifacts.exceptions import ArtifactNotFound

    class Beside(FileSystemArtifactStore):
        """A study's own store; what it does not have is looked for in those beside it."""

        def open_reader(self, artifact_id: str) -> "BinaryIO":
            try:
                return super().open_reader(artifact_id)
            except ArtifactNotFound:
                for path in sorted(folder.path.parent.glob(f"*/{FOLDER}")):
                    with contextlib.suppress(ArtifactNotFound):
                        return FileSystemArtifactStore(str(path)).open_reader(artifact_id)
                raise

    open_store(folder)
    return Beside(str(folder.path / FOLDER))


def upload_trial(trial: "optuna.trial.Trial", trial_folder: Path, store: "ArtifactStore") -> list[str]:
    """Draws what is missing and uploads a trial's sheet, onset plot and trajectory, with a note that shows them; what
    was found becomes user attributes.

    To be called after `record.json` is written and before `tell`: a finished trial takes no attributes.

    Returns:
        names of the files uploaded; those already there under the same name are not uploaded twice.
    """
    trial_folder = Path(trial_folder)
    folder = StudyFolder(trial_folder.parent.parent)
    record = TrialRecord.load(trial_folder)
    write_pictures(folder, record.number)
    known = trial.user_attrs
    for name, value in trial_attributes(record).items():
        if name not in known or known[name] != value:
            trial.set_user_attr(name, value)
    ids = {name: upload(trial, trial_folder / name, store, name) for name in _TRIAL_FILES}
    _note(trial, _trial_note(record), ids)
    return [name for name, artifact in ids.items() if artifact is not None]


def tell_twins(ledger: "Ledger", folder: StudyFolder, store: "ArtifactStore") -> list[int]:
    """Gives the trials that have twins the user attributes, pictures and note that go with what these say, and those
    of the search again where the twins are forgotten.

    Returns:
        their numbers.
    """
    from optuna.trial import Trial

    from search.tuning.ledger import SEARCHED, SHIPPED

    told = []
    for row in ledger.own():
        home = folder.trial(row.number)
        if row.state.is_finished() and ("twins" in row.user_attrs or (home / TWINS_FILE).is_file()):
            record, searched = (TrialRecord.load(home, searched=each) for each in (False, True))
            moved = record.epoch_shipped != searched.epoch_shipped
            shipped: dict[str, Any] = {
                SHIPPED: record.epoch_shipped,
                SEARCHED: searched.epoch_shipped if moved else None,
            }
            ledger.amend(row.number, **every_trial_attribute(record), **shipped)
            upload_trial(Trial(ledger.study, row._trial_id), home, store)
            told.append(row.number)
    return told


def publish_verdict(study: "optuna.Study", folder: StudyFolder, verdict: "Verdict", store: "ArtifactStore") -> None:
    """Makes the verdict the study's note, with the winner's plot and sheet as the study's artifacts."""
    ids: dict[str, str | None] = {}
    if verdict.trial is not None:
        prefix = f"best-{verdict.trial:04d}-"
        ids = {name: upload(study, folder.best_folder / name, store, prefix + name) for name in _BEST_FILES}
    if verdict.finalists is not None:
        ids[FINALISTS_SHEET] = upload(study, folder.path / FINALISTS_SHEET, store, FINALISTS_SHEET)
    if "strengths" in verdict.files:
        ids[STRENGTHS_SHEET] = upload(study, folder.path / STRENGTHS_SHEET, store, STRENGTHS_SHEET)
    if verdict.front is not None:
        ids[FRONT_PICTURE] = upload(study, folder.path / FRONT_PICTURE, store, FRONT_PICTURE)
    for name, value in study_attributes(verdict).items():
        study.set_user_attr(name, value)
    lines = [f"# {headline(verdict)}"]
    for heading, sentences in verdict.said.parts:
        lines += ["", f"## {heading}", "", *(f"- {sentence}" for sentence in sentences)]
    _note(study, "\n".join(lines), ids)


def upload(owner: "optuna.Study | optuna.trial.Trial", path: Path, store: "ArtifactStore", name: str) -> str | None:
    """Copies a file into the store, under one entry for each owner and name; None where there is no such file."""
    import optuna

    if not path.is_file():
        return None
    trial = owner if isinstance(owner, optuna.trial.Trial) else None
    study = owner.study if isinstance(owner, optuna.trial.Trial) else owner
    number = "study" if trial is None else str(trial.number)
    artifact = str(uuid5(NAMESPACE_URL, f"{study.study_name}/{number}/{name}"))
    # A trial's entry stands among the study's attributes, where the dashboard looks for it as well: `optuna.artifacts`
    # would put each file of each trial under its own name among the trial's, a column each of `trials_dataframe()`.
    key = f"artifacts:{artifact}" if trial is None else f"dashboard:artifacts:{trial._trial_id}:{artifact}"
    entry = {"artifact_id": artifact, "filename": name, "mimetype": _MIME[path.suffix], "encoding": None}
    study._storage.set_study_system_attr(study._study_id, key, json.dumps(entry))
    if not _holds(store, artifact, path):
        with path.open("rb") as content:
            store.write(artifact, content)
    return artifact


def _holds(store: "ArtifactStore", artifact: str, path: Path) -> bool:
    """Whether the store has these bytes: the entry is written first, so an interrupted upload leaves one without, or
    with the first part of them; and a study that goes on may have others to show under the same name."""
    try:
        with store.open_reader(artifact) as content:
            return content.read() == path.read_bytes()
    except Exception:
        return False


def _note(owner: "optuna.Study | optuna.trial.Trial", text: str, ids: dict[str, str | None]) -> None:
    from optuna_dashboard import save_note
    from optuna_dashboard.artifact import get_artifact_path

    shown = [
        f"![{name}]({get_artifact_path(owner, artifact)})"
        for name, artifact in ids.items()
        if artifact is not None and name.endswith(".png")
    ]
    save_note(owner, "\n\n".join([text, *reversed(shown)]))


def _trial_note(record: TrialRecord) -> str:
    lines = [
        settings_of(record),
        "",
        f"{state_text(record)}: {record.epochs_trained} of {record.epochs} {unit_of(record)}s",
        "",
    ]
    lines += [f"- {sentence}" for sentence in trial_sentences(decide(record))]
    if record.error:
        lines += ["", f"```\n{record.error.strip()}\n```"]
    return "\n".join(lines)

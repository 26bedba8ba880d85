"""Whether a study may go on as its file now says: what only adds is taken up, what would change its meaning is refused.

`docs/study-file.md` says which is which.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from search.errors import StudyError, problem
from search.record.added_prompts import AddedPrompts
from search.record.finalists import FINALISTS_FILE, LOOKS_FOLDER
from search.record.handed_on import HandedOn
from search.record.learned_from import LearnedFrom
from search.record.pack_width import PackWidth
from search.record.probe_description import ProbeDescription
from search.record.record import PROBE_FILE, StudyFolder
from search.recovery.study_json import About
from search.study.data_check import DataCheck
from search.study.finished_run import check_for_family
from search.study.input_digests import Inputs, changed_masks, changed_photos, fingerprint_of_base, fingerprints
from search.study.objective import KEY as OBJECTIVE
from search.study.objective import SOURCE
from search.study.settings import ScoreSection, StopSection
from search.study.study import MASK_FILES, Study, flat
from search.tuning.database import connect
from trainer.base_model.load import check_base, check_family
from trainer.config.config import TrainConfig
from trainer.config.rules import FLAT_SCHEDULERS
from trainer.errors import ConfigError, ModelError, shown

ENCODERS = {"score.encoder": "encoder", "score.identity_encoder": "identity_encoder"}
_CONTEXTS = "score.probe.contexts"
_CRITIC = "score.critic.steps"
_FILES = "checkpoints.files."


@dataclass(frozen=True)
class Continued:
    """How a study goes on.

    Attributes:
        study: with the prompts that it scores since it was begun, and those that were added apart.
        notes: what is taken up, one line each.
        anew: an earlier sitting has trained nothing, and under other settings: what it left is in the way.
        other_photos: the data check's photos or captions have changed since: it begins anew with them.
        grown: the finished run that it looks at has more files: it is looked at again, and they alone are drawn.
    """

    study: Study
    notes: tuple[str, ...] = ()
    anew: bool = False
    other_photos: bool = False
    grown: bool = False


def continued(study: Study, folder: StudyFolder) -> Continued:
    """Hold a study against what it was begun with. Until a checkpoint was read, nothing binds.

    Raises:
        StudyError: something has changed that may not: one line each, with what it was.
    """
    meaning = _begun_with(folder)
    if meaning is None:
        return Continued(study)
    inputs = Inputs.load(folder)
    if not has_trained(folder):
        return Continued(study, anew=meaning != study.meaning or not _same_sources(study, folder, inputs))
    if isinstance(study.kind, DataCheck) and meaning.get("photos") != study.meaning["photos"]:
        # to change them is what it is for
        refused = list(_Changes(study, folder, {**meaning, "photos": study.meaning["photos"]}, inputs).refused())
        if not refused:
            return Continued(study, other_photos=True)
    changes = _Changes(study, folder, meaning, inputs)
    refused = list(changes.refused())
    if refused:
        raise StudyError(refused)
    study, notes = _with_added_prompts(study, folder, changes.begun[_CONTEXTS])
    return Continued(study, (*changes.taken, *notes), grown=changes.grown)


def check_sources(study: Study, folder: StudyFolder) -> None:
    """Whether base and encoders are still those that the study was begun with, wherever they lie.

    Raises:
        StudyError: another one lies at the same path; the base is not there, not whole, or of another family than
            `train.family`; the hub cannot be reached.
    """
    try:  # of a hub id its small files: told before torch loads
        family = check_base(study.file, study.base, study.train.get("family", "auto"))
    except ConfigError as error:
        told = problem(study.source, "base", study.written["base"], error.expected, error.why)
        raise StudyError([told]) from error
    if study.finished_run is not None:
        check_for_family(study.source, study.finished_run, study.written["base"], family.name)
    for place, other in enumerate(study.transfer_bases):
        try:
            check_family(other, family.name)
        except ModelError as error:
            key = f"finalists.transfer_bases[{place}]"
            raise StudyError(
                [problem(study.source, key, other, f"a base of the family {family.name}", str(error))]
            ) from error
    inputs = Inputs.load(folder)
    if inputs is None or not has_trained(folder):
        return
    begun = f"that the study {study.name!r} was begun with"
    wrong = []
    if inputs.base is not None and fingerprint_of_base(study, folder) != inputs.base:
        why = "another one lies there now; put it back, or give the study with the new base another name"
        wrong.append(problem(study.source, "base", study.written["base"], f"the base {begun}", why))
    now = fingerprints(study, folder) if inputs.encoders else {}
    for key, fingerprint in inputs.encoders.items():
        if now.get(key) not in (None, fingerprint):
            why = "another one lies in this folder now; put it back, or give the study another name"
            wrong.append(problem(study.source, f"score.{key}", getattr(study.score, key), f"the encoder {begun}", why))
    if wrong:
        raise StudyError(wrong)


def check_scored_alike(study: Study, folder: StudyFolder) -> None:
    """Whether new trials would be scored as those are that the study has: Optuna compares them.

    Raises:
        StudyError: its trials were scored by a calibration of another version.
    """
    from metrics.checkpoint.calibration import VERSION

    try:
        scored_by = ProbeDescription.load(folder.path / PROBE_FILE).calibration
    except (OSError, ValueError):
        return
    if scored_by not in (None, VERSION) and has_trained(folder):
        why = "another version of Onset scored its trials in another way; go on with that one, or begin anew"
        raise StudyError([problem(study.source, "study", study.name, "another name for the study", why)])


def has_trained(folder: StudyFolder) -> bool:
    """Whether any trial of the study has reached a checkpoint, or ended otherwise than by failing before one."""
    if folder.has_checkpoints:
        return True
    if not folder.database.is_file():
        return False
    try:
        with connect(folder.database) as database:
            states = {state for (state,) in database.execute("SELECT DISTINCT state FROM trials")}
            (values,) = database.execute("SELECT COUNT(*) FROM trial_intermediate_values").fetchone()
    except sqlite3.Error:  # locked, or damaged: what it holds is not known
        return True
    return bool(values) or not states <= {"RUNNING", "FAIL"}


def forget(folder: StudyFolder, *, probe: bool = True) -> None:
    """Clear away what a sitting has left, so that the study begins anew. What was looked at stays in the cache.

    Args:
        probe: the probe, too, and what the study was begun with.
    """
    records = (About, HandedOn, Inputs, AddedPrompts, LearnedFrom, PackWidth)
    begun = [record.file(folder) for record in records]
    for path in (
        folder.verdict_file,
        folder.path / FINALISTS_FILE,
        *((*begun, folder.path / PROBE_FILE) if probe else ()),
    ):
        path.unlink(missing_ok=True)
    for suffix in ("-wal", "-shm", ""):
        folder.database.with_name(folder.database.name + suffix).unlink(missing_ok=True)
    for path in (
        *(folder.path / name for name in ("trials", "artifacts", LOOKS_FOLDER)),
        *((folder.cache / "probe",) if probe else ()),
    ):
        shutil.rmtree(path, ignore_errors=True)


def put_aside(folder: StudyFolder) -> Path:
    """Move all that a study has left into a new folder `before-N` of its own; only for who holds its lock.

    Returns:
        That folder. What is kept of photos and base in `cache/` stays.
    """
    place = next(path for n in count(1) if not (path := folder.path / f"before-{n}").exists())
    place.mkdir()
    # what it was begun with goes last: until then a kill leaves a data check whose photos have changed
    for path in sorted(folder.path.iterdir(), key=lambda path: path == About.file(folder)):
        if path != folder.cache and not path.name.startswith((".", "before-")):
            path.rename(place / path.name)
    return place


def _begun_with(folder: StudyFolder) -> Mapping[str, Any] | None:
    about = About.load(folder)
    return about.meaning if about is not None and about.meaning else None


def _same_sources(study: Study, folder: StudyFolder, inputs: Inputs | None) -> bool:
    if inputs is None:
        return True
    with contextlib.suppress(ModelError):  # which the workers will tell
        return inputs.base == fingerprint_of_base(study, folder) and inputs.encoders == fingerprints(study, folder)
    return True


def _with_added_prompts(study: Study, folder: StudyFolder, scored: Sequence[str]) -> tuple[Study, tuple[str, ...]]:
    """Prompts that trials before were not scored by are drawn from now on, and not scored: scores stay comparable."""
    before = AddedPrompts.load(folder)
    new = [prompt for prompt in study.score.probe.contexts if prompt not in (*scored, *before.templates)]
    probe = study.score.probe.model_copy(update={"contexts": list(scored)})
    score = study.score.model_copy(update={"probe": probe})
    said = f"{_CONTEXTS}: {len(new)} added: drawn from now on, but not scored, so that all trials stay comparable"
    added = before.joined_by(new, study.subject)
    return replace(study, score=score, added=added), (said,) if new else ()


class _Changes:
    """The difference between what a study was begun with and what its file says; `taken` fills as it is looked at."""

    def __init__(self, study: Study, folder: StudyFolder, meaning: Mapping[str, Any], inputs: Inputs | None) -> None:
        defaults = {"score": ScoreSection().model_dump(mode="json"), "stop": StopSection().model_dump(mode="json")}
        # a setting that is newer than the study, or plays no part in it, counts as its default
        unsaid: dict[str, Any] = json.loads(json.dumps(dict(flat(defaults))))
        self.begun, self.now = unsaid | dict(meaning), unsaid | study.meaning
        self.study, self.folder, self.inputs = study, folder, inputs
        self.taken: list[str] = []
        self.grown = False

    def refused(self) -> Iterator[str]:
        """One line for each change that may not be."""
        for key in sorted({*self.begun, *self.now}):
            if self.begun.get(key) == self.now.get(key):
                continue
            if key == SOURCE and self.begun.get(OBJECTIVE) != self.now.get(OBJECTIVE):
                continue  # another function: its name says so
            if key.startswith("score.critic.") and key != _CRITIC and 0 in (self.begun[_CRITIC], self.now[_CRITIC]):
                continue  # of a critic that is not there on one side: its steps say so
            note = self._adds(key)
            if note is None:
                yield self._refusal(key)
            elif note:
                self.taken.append(note)

    def _adds(self, key: str) -> str | None:
        """What is said of a change that only adds ("": nothing); None when it does not."""
        before, now = self.begun.get(key), self.now.get(key)
        went_on = f"{key}: {_words(before)} → {_words(now)}"
        if key.startswith("stop."):
            return f"{went_on}: this holds from now on. Trials that have ended stay as they are"
        if key == _CONTEXTS:
            return "" if set(before or ()) <= set(now or ()) else None
        if key.startswith(_FILES) and before is None:
            self.grown = True
            return f"checkpoints: {str(now).rpartition(' ')[0]} is new: it is looked at, too"
        if key == "base":
            same = self.inputs is not None and self.inputs.base == fingerprint_of_base(self.study, self.folder)
            return f"{went_on}: the same base at another place" if same else None
        if key in ENCODERS and self.inputs is not None:
            kept = self.inputs.encoders.get(ENCODERS[key])
            same = kept is not None and kept == fingerprints(self.study, self.folder).get(ENCODERS[key])
            return f"{went_on}: the same encoder at another place" if same else None
        if key == "score.shifted.masks" and self.begun.get(MASK_FILES) and self.now.get(MASK_FILES):
            return f"{went_on}: the same masks at another place"  # their content is a key of its own
        if key == "train.epochs":
            return self._more_epochs(before, now)
        if key.startswith("search.") and key.rpartition(".")[2] in ("min", "max"):
            return f"{went_on}: new trials use the wider range" if self._wider(key) else None
        return None

    def _more_epochs(self, before: Any, now: Any) -> str | None:
        """More epochs of runs whose learning rate does not know of them are the same runs, gone on with."""
        usual = TrainConfig.model_fields["epochs"].default
        before, now = before or usual, now or usual
        fixed = [chosen for chosen in self.study.space.combinations() if "epochs" not in chosen]
        if now <= before or any(self.study.config(c).lr_scheduler not in FLAT_SCHEDULERS for c in fixed):
            return None
        stay = f"Trials that have ended stay at {before}"
        return f"train.epochs: {before} → {now}: running and new trials go on to epoch {now}. {stay}"

    def _wider(self, key: str) -> bool:
        entry, _, end = key.rpartition(".")
        before, now = self.begun.get(key), self.now.get(key)
        if not isinstance(before, int | float) or not isinstance(now, int | float):
            return False
        if now > before if end == "min" else now < before:
            return False
        step = self.begun.get(f"{entry}.step")
        return step is None or (end == "max" and (now - before) % step == 0)

    def _refusal(self, key: str) -> str:
        study, inputs = self.study, self.inputs
        restore = "restore it, or give the changed study another name"
        if key == "photos":
            named = changed_photos(inputs.photos, study.photos, study.data) if inputs is not None else ""
            which = named or "it is no longer known which ones"
            expected = f"the photos and captions that the study {study.name!r} was begun with"
            return problem(study.source, "data", study.written["data"], expected, f"changed since: {which}; {restore}")
        if key == MASK_FILES and key not in self.begun:
            why = "masks are now cropped like their photos. When this study began, they were not"
            return problem(study.source, key, self.now.get(key), "another name for the study", why)
        if key == MASK_FILES:
            named = changed_masks(inputs.masks, study.masks_of) if inputs is not None else ""
            which = named or "it is no longer known which ones"
            expected, why = (
                f"the masks that the study {study.name!r} was begun with",
                f"changed since: {which}; {restore}",
            )
            return problem(study.source, "score.shifted.masks", study.score.shifted.masks, expected, why)
        if key == SOURCE and study.objective is not None:
            expected = f"the function that the study {study.name!r} was begun with"
            why = f"its file has changed since: {restore}"
            return problem(study.source, OBJECTIVE, study.objective.name, expected, why)
        was = shown(self.begun[key]) if key in self.begun else "nothing"
        why = ""
        if key.startswith("search.") and key.endswith(".values"):
            why = "a list of values is fixed, because the sampler has learned from it; "
        elif key == "train.epochs":
            why = "trials can only go on with more epochs, and only when the schedule does not depend on epochs; "
        expected = f"{was}, as the study {study.name!r} was begun"
        why = f"{why}{restore} (docs/study-file.md says what may change)"
        return problem(study.source, key, self.now.get(key), expected, why)


def _words(value: Any) -> str:
    return "nothing" if value is None else str(value)

"""`from: OTHER.yaml` in a study file: what a study that has run in the same runs folder hands on to this one."""

from collections.abc import Collection
from pathlib import Path

from search.errors import StudyError, problem
from search.record.handed_on import HandedOn, result_of
from search.record.record import StudyFolder
from search.study.kinds import TAKERS
from search.study.study_file import StudyFile, read_study_file

FROM = "from"


def taken(file: StudyFile, runs: Path, to_come: Collection[str]) -> tuple[HandedOn | None, tuple[str, ...]]:
    """(what is handed on, what to know of it); None where the file takes nothing.

    What a study took when it began stays what it took, whatever the other one has found since.

    Args:
        runs: where studies leave their folders.
        to_come: names of studies that will have run before this one; what they find is not known yet.

    Raises:
        StudyError: there is no such study, or it has nothing to hand on: one line, with the command to run first.
    """
    named = file.values.get(FROM)
    if named is None:
        return None, ()
    if not any(file.values.get(section) is not None for section in TAKERS):
        why = f"only {' and '.join(TAKERS)} take something from another study"
        raise StudyError([problem(file, FROM, named, "nothing", why)])
    study, other = _other(file, named)
    now = result_of(StudyFolder(runs / study))
    own = StudyFolder(runs / str(file.values.get("study")))
    kept = HandedOn.load(own) if own.has_checkpoints else None
    if kept is not None and kept.study == study:
        if isinstance(now, HandedOn) and (now.epoch, now.trial) != (kept.epoch, kept.trial):
            said = f"this study goes on with epoch {kept.epoch}, which it began with"
            return kept, (f"{FROM} {study}: it ships epoch {now.epoch} by now; {said}",)
        return kept, ()
    if isinstance(now, HandedOn):
        return now, ()
    if study in to_come:
        return HandedOn(study, epoch=1, to_come=True), ()
    more = f"run it first: python -m search.run {other}" if "verdict is" not in now else ""
    why = "; ".join(filter(None, [f"{study}: {now}", more]))
    raise StudyError([problem(file, FROM, named, "a study that has found an epoch to ship", why)])


def _other(file: StudyFile, named: object) -> tuple[str, Path]:
    """(name of the study, its file)."""
    if not isinstance(named, str) or not named.strip():
        raise StudyError([problem(file, FROM, named, "another study file")])
    path = file.file_of(FROM).parent / named
    try:
        there = path.is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        there = False
    if not there:
        raise StudyError([problem(file, FROM, named, "a study file that is there, relative to this one")])
    name = read_study_file(path).values.get("study")
    if not isinstance(name, str) or name == file.values.get("study"):
        raise StudyError([problem(file, FROM, named, "the file of another study")])
    return name, path

"""Cross-fitted twins of the winner: the study's workers train them, and what they read of the photos that each leaves
out is given to the detector as if those photos had been held out."""

from dataclasses import replace

from metrics.onset.onset import find_onset
from metrics.trajectory.readings import OWN_SCORE
from search.record.events import DrawAgain
from search.record.finalists import LOOKS_FOLDER
from search.record.record import StudyFolder, TrialRecord
from search.record.twin_curve import CHANNEL, read_by_twins, with_twin_losses
from search.record.twins import TwinLosses, Twins
from search.running.drawing import Drawing
from search.study.study import Study
from search.verdict.best_files import without_twins, write_pictures
from search.verdict.disk_cleanup import delete
from search.verdict.verdict import before_twins

_NOT_LEARNED = "their losses on the photos that they leave out hardly fall, so there is nothing to memorise yet"
_LOST = "what they read is damaged"
_ONE_PHOTO = "the photos are one photo again and again, so no part of them can be left out"


def cross_fit(study: Study, folder: StudyFolder, drawing: Drawing) -> tuple[int, Twins] | None:
    """Train the winner's twins, where something ships, and keep what they say in its folder; returns its number and
    that. What twins of other trials said, which won before, is forgotten.

    Args:
        drawing: gives looks to workers.

    Raises:
        WorkerError: the workers cannot work.
    """
    count, found = study.num_twins, before_twins(folder)
    ships = bool(count) and found.ships and found.trial is not None
    drawing.check_place()
    without_twins(folder, but=found.trial if ships else None)
    if not ships or found.trial is None:
        return None
    number, trial = found.trial, folder.trial(found.trial)
    record = TrialRecord.load(trial, searched=True)
    drawing.board.note(
        f"{count} twins of trial {number} are trained, each without other photos: when does memorising begin?"
    )
    drawing.run([DrawAgain(number, record.epochs_trained, twins=count, place=twin) for twin in range(count)])
    drawing.check_place()
    if drawing.not_twinned:
        for twin in range(count):  # it would blow up again
            delete(TwinLosses.training(folder.path / LOOKS_FOLDER, number, count, twin))
        failed = drawing.not_twinned
        told = replace(_silent(record, count), failed=failed, broken=True)
    else:
        told = what_they_say(study, folder, record, read_by_twins(folder, number, count))
    told.save(trial)
    write_pictures(folder, number)  # which tell the onset, too
    return number, told


def what_they_say(study: Study, folder: StudyFolder, record: TrialRecord, read: list[TwinLosses] | None) -> Twins:
    """The trial's onset with the losses of its twins, by the same detector, and what ships by it. `read`: None where
    that is lost."""
    number, asked = record.number, study.num_twins
    told = _silent(record, asked)
    if not read:
        return replace(told, failed=_LOST if read is None else _ONE_PHOTO, broken=read is None)
    told = replace(told, seconds=sum(each.seconds for each in read))
    trajectory = folder.trajectory(number)
    onset = find_onset(with_twin_losses(trajectory, read), ship=study.score.ship)
    at = next((each for each in trajectory.readings if each.epoch == onset.best), None)
    own = None if at is None else at.channels.get(OWN_SCORE)
    held_out = trajectory.cube(CHANNEL)
    photos, beside = sum(len(each.rows) for each in read), 0 if held_out is None else held_out.shape[1]
    told = replace(told, count=len(read), photos=photos, beside=beside)
    if onset.status == "never_learned":  # of the trial that is known by its own images and losses
        return replace(told, failed=_NOT_LEARNED)
    return replace(
        told,
        onset=onset,
        score=None if at is None else at.score,
        own_score=None if own is None else own.value,
    )


def _silent(record: TrialRecord, asked: int) -> Twins:
    """What so many twins of a trial that ships say before anything of them was read."""
    assert record.epoch_shipped is not None
    return Twins(asked, record.epochs_trained, record.epoch_shipped)

"""What an export is of: a trial, the epoch to ship, and in words whether and where to ship it."""

from dataclasses import dataclass
from pathlib import Path

from search.errors import StudyError, problem
from search.record.finalists import Finalists
from search.record.person_pick import PersonPick
from search.record.record import StudyFolder, TrialRecord
from search.verdict.all_photos import compare_text, in_passes, on_all_photos, same_point
from search.verdict.decision import decide, lora_to_ship
from search.verdict.twin_sentences import from_twins
from trainer.checkpoint import LORA_FILE
from trainer.config.config import TrainConfig


@dataclass(frozen=True)
class Pick:
    """A trial to export.

    Attributes:
        record: the trial's.
        epoch: the epoch to ship; None where there is nothing to ship yet.
        lora: where its LoRA lies, if it was kept; None where there is nothing to ship yet.
        config, ship_epoch: what to train and the epoch to ship in passes over the photos, as every trainer counts, or
            in epochs of `steps_per_epoch`.
        said: lines for a person: the verdict on it, and where the epoch lies when all photos are trained on.
    """

    record: TrialRecord
    epoch: int | None
    lora: Path | None
    config: TrainConfig
    ship_epoch: int | None
    said: tuple[str, ...]

    @property
    def about(self) -> str:
        """The lines as one text, for comments."""
        return "\n".join(self.said)


def pick(folder: StudyFolder, trial: int | None, epoch: int | None) -> Pick:
    """The trial and epoch asked for; else those that a person picked (`search.pick`); else the verdict's.

    Raises:
        StudyError: no such trial, or no checkpoint of that epoch.
    """
    chosen = PersonPick.load(folder) if trial is None and epoch is None else None
    if chosen is not None:
        trial, epoch = chosen.trial, chosen.epoch
    record = _record(folder, trial)
    if record.finished_run is not None:
        expected = "a study that trains (this one looked at a finished run, whose settings are not known)"
        raise StudyError([f"{folder.path}: expected {expected}; the LoRA to ship is in {folder.best_folder}"])
    nothing = "" if epoch is not None else _nothing_to_ship(folder, record)
    shipped = None if nothing else _epoch(folder, record, epoch)
    where = f"Onset, study {folder.path.name}, trial {record.number}" + (f", epoch {shipped}." if shipped else ".")
    if shipped is None:
        said = [where, nothing or "No epoch to ship is known: the run goes to its last epoch."]
        config = on_all_photos(record.config, _photos(folder))
        if record.final is not None:
            config, _ = in_passes(record.config, None, _photos(folder))
        return Pick(record, None, None, config, None, tuple(said))
    found = decide(record)
    average = found.average if epoch is None else None
    own = (
        _own_pick(folder, record, shipped)
        if average is None
        else f"Ship the average of epochs {average[0]} to {average[1]}: the LoRA here."
    )
    said = [where, own or f"Ship epoch {shipped} of {record.epochs}.", *from_twins(record, shipped)]
    said += _fresh(folder, record, shipped)
    said += [] if chosen is None else [f"{chosen.sentence}. (python -m search.pick --clear takes the verdict's again.)"]
    trained, held = _photos(folder)
    lora = lora_to_ship(folder, found) if average else folder.checkpoint(record.number, shipped) / LORA_FILE
    if record.final is not None:
        config, there = in_passes(record.config, shipped, (trained, held))
        if config.steps_per_epoch is None:
            said.append(f"In passes over all {trained + held} photos, as the files here count, that is epoch {there}.")
        return Pick(record, shipped, lora, config, there, tuple(said))
    first, last = same_point(shipped, trained, held)
    if first != last:
        said.append(f"On all {trained + held} photos {compare_text(first, last)}.")
    config, before = on_all_photos(record.config, (trained, held)), record.config.steps_per_epoch
    if config.steps_per_epoch != before:
        said.append(
            f"An epoch has {config.steps_per_epoch} steps here instead of {before}: the same part of a pass over more "
            "photos."
        )
    return Pick(record, shipped, lora, config, shipped, tuple(said))


def _fresh(folder: StudyFolder, record: TrialRecord, epoch: int) -> list[str]:
    """What its images read that the search never saw, where it was drawn again at that epoch."""
    for found in (Finalists.load(folder), Finalists.load(folder, by_twins=True)):
        one = None if found is None else found.of(record.number)
        if one is not None and one.epoch == epoch:
            return [one.sentence]
    return []


def _own_pick(folder: StudyFolder, record: TrialRecord, epoch: int) -> str:
    """That a person chose the epoch and what the decision is; "" where it is the epoch of the decision."""
    found = decide(record)
    if epoch == found.shipped or (found.outcome == "unfinished" and epoch == found.epoch):
        return ""
    decided = f"The verdict ships epoch {found.shipped}." if found.ships else _nothing_to_ship(folder, record)
    return f"Epoch {epoch} of {record.epochs} is your own pick. {decided}".strip()


def _record(folder: StudyFolder, trial: int | None) -> TrialRecord:
    numbers = folder.numbers()
    if trial is not None:
        if trial not in numbers:
            known = ", ".join(map(str, numbers)) or "none"
            raise StudyError([problem(folder.path, "--trial", trial, f"a trial that is here ({known})")])
        return TrialRecord.load(folder.trial(trial))
    from search.verdict.verdict import known_verdict, make_verdict

    verdict = known_verdict(folder)
    if verdict is None or verdict.trial is None:
        verdict = make_verdict(folder)
    if verdict.trial is None or not verdict.cost.complete:
        raise StudyError([f"{folder.path}: there is no complete trial to export yet (--trial N takes any)"])
    return TrialRecord.load(folder.trial(verdict.trial))


def _nothing_to_ship(folder: StudyFolder, record: TrialRecord) -> str:
    """Why the trial has nothing to ship yet, as its decision says; empty when it has, or was stopped on its way."""
    from search.verdict.sentences import headline
    from search.verdict.trial_sentences import trial_sentences
    from search.verdict.verdict import known_verdict

    found = decide(record)
    if found.ships:
        return ""
    verdict = known_verdict(folder)
    if verdict is not None and verdict.trial == record.number:
        return headline(verdict)
    if found.outcome == "unfinished":
        return ""  # who asks for a trial that was stopped gets the best it had until then
    return f"Trial {record.number}: {trial_sentences(found)[0]}"


def _epoch(folder: StudyFolder, record: TrialRecord, epoch: int | None) -> int | None:
    if epoch is None or epoch == record.epoch_shipped:
        return record.epoch_shipped
    kept = sorted(int(p.parent.name) for p in folder.trial(record.number).glob("checkpoints/[0-9]*/lora.safetensors"))
    if epoch not in kept:
        have = ", ".join(map(str, kept)) or "none (keep.checkpoints: all keeps every one)"
        expected = f"an epoch of trial {record.number} whose LoRA is kept ({have})"
        raise StudyError([problem(folder.path, "--epoch", epoch, expected)])
    return epoch


def _photos(folder: StudyFolder) -> tuple[int, int]:
    """(trained on, held out) by the search; (0, 0) when the probe is gone."""
    try:
        about = folder.probe()
    except (OSError, ValueError):
        return 0, 0
    return len(about.trained), about.held_out

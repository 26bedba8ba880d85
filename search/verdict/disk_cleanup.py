"""What stays on disk of a trial that has ended. Nothing is deleted before Optuna has been told of the trial's end."""

import contextlib
import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from search.record.final_run import TWIN
from search.record.finalists import LOOKS_FOLDER
from search.record.person_pick import PersonPick
from search.record.record import StudyFolder, TrialRecord
from search.study.settings import KeepSection
from search.verdict.ranking import contenders, kept_bytes, kept_epochs, kept_in_detail, saved_epochs
from trainer.checkpoint import STATE_FILE

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict


_LEFTOVER = re.compile(r"\..*\.([0-9a-f]{12}|part)")  # as metrics.files and trainer.files write aside


def drop_after(folder: Path, epoch: int) -> None:
    """Delete what a worker trained beyond the epoch at which its trial was ended."""
    places = ("checkpoints", f"{TWIN}/checkpoints", "readings", "samples")
    for path in [path for place in places for path in folder.glob(f"{place}/[0-9]*")]:
        if int(path.stem) > epoch:
            delete(path)


def tidy_trial(
    folder: Path, record: TrialRecord, keep: KeepSection, *, in_detail: bool, pick: PersonPick | None = None
) -> None:
    """Keep what `keep` says of a trial that has ended; safe to be cut off and done again.

    Args:
        folder: the trial's.
        record: its record.
        keep: the study's setting.
        in_detail: whether it is among the best few, or may still come among them (`search.verdict.ranking`).
        pick: what a person chose: that checkpoint stays in any case.
    """
    drop_after(folder, record.epochs_trained)
    if not keep.samples:
        delete(folder / "samples")
    epochs = saved_epochs(folder)
    kept = {*kept_epochs(record, epochs, keep, in_detail=in_detail)}
    if pick is not None and pick.trial == record.number:
        kept.add(pick.epoch)
    last = record.epochs_trained if keep.states and record.state == "complete" and record.stopped == "horizon" else None
    for epoch in epochs:
        checkpoint = folder / "checkpoints" / f"{epoch:04d}"
        if epoch == last and (checkpoint / STATE_FILE).is_file():
            continue
        if epoch not in kept:
            delete(checkpoint)
            continue
        for state in sorted(checkpoint.glob("state.*")):  # only needed to go on training; .json, which vouches, first
            delete(state)
    delete(folder / TWIN)
    delete(folder / "readings")  # last: without them a trial is tidy


class Tidier:
    """Tidies trials as they end, and those that later ones push out of the running for the finals. `most`: finalists
    that there will be. `whole`: those that may win keep every checkpoint, as another one may ship by their twins."""

    def __init__(self, folder: StudyFolder, keep: KeepSection, most: int, *, whole: bool) -> None:
        self._folder, self._keep, self._most = folder, keep, most
        self._kept_now = keep.model_copy(update={"checkpoints": "all"}) if whole else keep
        self._contenders: dict[int, TrialRecord] = {}
        self._tidied: set[int] = set()

    @property
    def contenders(self) -> Collection[TrialRecord]:
        """Trials that have ended and may still be in the finals."""
        return self._contenders.values()

    def ended(self, record: TrialRecord) -> None:
        """To be called once Optuna has been told of a trial's end."""
        known = {**self._contenders, record.number: record}
        still = contenders(known.values(), self._most)
        for number, one in known.items():
            if number in still and number in self._tidied:
                continue
            home = self._folder.trial(number)
            if number not in still or (home / "readings").is_dir():
                keep = self._kept_now if number in still else self._keep
                tidy_trial(home, one, keep, in_detail=number in still, pick=PersonPick.load(self._folder))
            self._tidied.add(number)
        self._contenders = {number: one for number, one in known.items() if number in still}


def tidy_study(folder: StudyFolder, keep: KeepSection, verdict: "Verdict") -> list[str]:
    """Tidy every trial now that all have ended and the winner is known; says what the kept checkpoints weigh.

    Safe before the verdict is written: what it ships always stays in its trial's folder, too.
    """
    records = list(folder.records())
    pick = PersonPick.load(folder)
    chosen = kept_in_detail(records, [] if verdict.trial is None else [verdict.trial, *verdict.ties])
    for record in records:
        tidy_trial(folder.trial(record.number), record, keep, in_detail=record.number in chosen, pick=pick)
        sweep(folder.trial(record.number))
    number, size = kept_bytes(folder)
    if number == 0:
        return []
    shown = ", ".join(str(n) for n in chosen)
    what = {
        "all": "every checkpoint",
        "none": f"the epoch to ship of trial{'s'[: len(chosen) > 1]} {shown}",
        "best": f"the epochs around the onset of trial{'s'[: len(chosen) > 1]} {shown}, to compare, and the epoch to "
        "ship of each other complete trial",
    }[keep.checkpoints]
    return [f"Kept in trials/: {what}; {number} LoRA file{'s'[: number > 1]}, {_weight(size)}."]


def delete(path: Path) -> None:
    """Whole or not at all: a folder goes aside first, so that nobody ever takes half of it for a checkpoint."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = path.with_name(f".{secrets.token_hex(8)}.part")
    with contextlib.suppress(FileNotFoundError):  # a worker may be at it, too
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _weight(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"


def sweep_study(folder: StudyFolder) -> None:
    """Delete what kills left half written in a study's own folder, and anywhere in its finals'; only for who holds its
    lock."""
    for leftover in [*folder.path.iterdir(), *folder.path.glob(f"{LOOKS_FOLDER}/**/.*")]:
        if _LEFTOVER.fullmatch(leftover.name):
            delete(leftover)


def sweep(folder: Path) -> None:
    """Delete what kills left half written or half deleted in a trial's folder; only when no worker is alive."""
    for leftover in [*folder.glob(".*"), *folder.glob("*/.*")]:
        delete(leftover)

"""How a trial stands among those that have ended, and what is kept of it for that.

Losers leave the epoch they would ship; the few best also the checkpoints around it, since what people do next is
compare epochs.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from math import isfinite
from pathlib import Path

from search.record.record import StudyFolder, TrialRecord
from search.study.settings import KeepSection
from search.verdict.decision import decide

IN_DETAIL = 3
"""The winner and those that come next to it: of so many more is kept than of the others, whatever is drawn again."""
MOST_NOISE = 0.02
"""Scores closer than this may turn out to be ties (`search.verdict.verdict`), so that either can become the winner."""
_AROUND = 2  # checkpoints before the first and after the last epoch that matters


def best_trials(records: Iterable[TrialRecord], most: int) -> list[int]:
    """Numbers of the trials that are drawn again before the verdict: the highest scores among those that ship."""
    scored = [(value, record) for record in records if (value := _value(record)) is not None]
    scored.sort(key=lambda pair: (-pair[0], pair[1].number))
    return list(islice((record.number for _, record in scored if decide(record).ships), most))


def contenders(records: Iterable[TrialRecord], most: int = IN_DETAIL) -> set[int]:
    """Numbers of the trials that may still be among the best few, however the study goes on.

    The highest scores, and all within the noise of the highest (under an objective a tie makes no winner). Only
    complete trials, unless there are none.
    """
    records = list(records)
    noise = 0.0 if any(record.objective for record in records) else MOST_NOISE
    scored = [(value, record) for record in records if (value := _value(record)) is not None]
    pool = [(v, r) for v, r in scored if r.state == "complete"] or scored
    pool.sort(key=lambda pair: (-pair[0], pair[1].number))
    near = {r.number for place, (v, r) in enumerate(pool) if place < most or v >= pool[0][0] - noise}
    return near.union(best_trials(records, most))


def kept_in_detail(records: Sequence[TrialRecord], ranked: Sequence[int], most: int = IN_DETAIL) -> list[int]:
    """Numbers of at most so many trials, of which more is kept: `ranked` (winner and ties) first, then by score."""
    values = {record.number: _value(record) or 0.0 for record in records}
    rest = sorted(contenders(records, most) - set(ranked), key=lambda number: (-values[number], number))
    return [*ranked, *rest][:most]


def kept_epochs(record: TrialRecord, epochs: Sequence[int], keep: KeepSection, *, in_detail: bool) -> set[int]:
    """Of the epochs whose checkpoints a trial that has ended has, those that stay.

    Args:
        record: of the trial.
        epochs: rising.
        keep: the study's setting.
        in_detail: whether it is among the best few, or may still come among them.
    """
    if keep.checkpoints == "all":
        return set(epochs)
    shipped = record.epoch_shipped
    if record.twins is not None and shipped not in epochs:
        shipped = record.twins.before  # what ships by its twins was deleted before they were asked for
    if (
        shipped is None
        or shipped not in epochs
        or not (in_detail or (record.state == "complete" and keep.checkpoints == "best"))
    ):
        return set()
    before = [] if record.twins is None else [record.twins.before]
    if not in_detail or keep.checkpoints == "none":
        return {shipped, *before}.intersection(epochs)
    matter = [shipped, *before, *_turns(record), *_choices(record)]
    places = [place for place, epoch in enumerate(epochs) if min(matter) <= epoch <= max(matter)]
    return set(epochs[max(0, places[0] - _AROUND) : places[-1] + _AROUND + 1])


def kept_bytes(folder: StudyFolder) -> tuple[int, int]:
    """(number, bytes) of the LoRA files under `trials/`."""
    sizes = [path.stat().st_size for path in folder.path.glob("trials/*/checkpoints/[0-9]*/lora.safetensors")]
    return len(sizes), sum(sizes)


def saved_epochs(folder: Path) -> list[int]:
    """Epochs of a trial's checkpoints, rising."""
    return sorted(int(path.name) for path in folder.glob("checkpoints/[0-9]*"))


def _turns(record: TrialRecord) -> list[float]:
    """Epochs at which an onset was found."""
    turns = [] if record.onset is None else [record.onset.context, record.onset.memory]
    return [turn.epoch for turn in turns if turn.epoch is not None]


def _choices(record: TrialRecord) -> list[int]:
    """The other epochs that somebody may want to ship."""
    choices = [] if record.onset is None else [record.onset.safe, record.onset.alike]
    return [choice.epoch for choice in choices if choice is not None]


def _value(record: TrialRecord) -> float | None:
    value = record.value if record.state == "complete" else record.score
    return value if record.epoch_shipped is not None and value is not None and isfinite(value) else None

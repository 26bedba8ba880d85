"""What is decided about a trial, and so about a study: taken here once, kept in `verdict.json`, told by everything.

A study's decision is its winner's. Tables, sheets, plots, the report, notes and `best/` say what stands here and
nothing of their own.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from metrics.onset.behaviour import LEARNED_FLOOR
from metrics.onset.turns import Choice, Copying, Disagreement, LearnedBy, Onset, Ship, Turn, TurnStatus, earlier_of
from search.record.final_run import Average
from search.record.finished_run import Unit
from search.record.record import StudyFolder, TrialRecord
from trainer.checkpoint import LORA_FILE, checkpoint_path

Outcome = Literal["ship", "not_learned", "poor", "unfinished", "failed", "nothing"]
Kind = Literal["trial", "final", "finished"]
ToldStatus = TurnStatus | Literal["not_learned"]

LEAST_SCORE = 0.1  # below it a checkpoint shows the subject not at all, or nothing but it: the base reads about 0.05


@dataclass(frozen=True)
class OnsetFound:
    """One of the two onsets as it is told.

    Attributes:
        status: "found"; "at_start" (at or before the first checkpoint); "beyond" (none until the last checkpoint);
            "unmeasured"; "not_learned" (images do not show the subject, so there is nothing to overfit).
        epoch: where it lies; None unless found or at_start.
        low, high: its 90 % interval; a `high` of None is open: it may lie beyond the last checkpoint.
        channels: the channels that say so.
    """

    status: ToldStatus
    epoch: float | None = None
    low: float | None = None
    high: float | None = None
    channels: tuple[str, ...] = ()

    @property
    def by_copies(self) -> bool:
        """Whether copies in generated images alone were looked at, because no photos are held out."""
        return self.channels == ("copying",)

    @property
    def reproduces(self) -> bool:
        """Whether it is copied photos that say so."""
        return self.epoch is not None and "copying" in self.channels


@dataclass(frozen=True)
class Decision:
    """What to do with a trial (a study: with its winner), and what is known about it.

    Attributes:
        outcome: "ship"; "not_learned" (its images do not show the subject); "poor" (no epoch before its onset has a
            score worth the name); "unfinished" (it was pruned, or still runs); "failed"; "nothing" (no trial at all).
        trial: its number; None under "nothing".
        epoch: the checkpoint it is about: to ship, or else the one that comes nearest to it; None without any.
        score: in [0, 1] at `epoch`; of any scale under an objective.
        objective: the function of the user's own that makes `score`, "" where we make it. own_score: the score as we
            make it at `epoch`, where there is one.
        learned: from which epoch on the images show the subject; None where they do not, or where only losses say so.
        learned_by: "images"; "losses" alone; "assumed" where nothing measures it; "" when it is not learned.
        context: from where on new contexts get worse. memory: from where on even photos of the same shoots do.
        copying: whether training photos come back in drawings; no epoch is chosen by it.
        last: the last epoch looked at.
        disagreement: moved subjects that contradict real photos of held-out contexts, or None.
        likeness: the highest fidelity of any checkpoint, 0 as the base to 1 as the photos; None when not measured.
        average: first and last epoch of the checkpoints whose average ships instead of `epoch`; None where it does not.
        kind: what was looked at: a trial of a search, the run that ships, or a finished run of another trainer.
        unit: what epochs are counted in: "step" for a finished run whose files count steps.
        safe: the checkpoint up to which images do all that prompts ask for. alike: the last one before the photos are
            memorised. None where there is nothing to ship, or they are not known.
        chosen_by: which of them `epoch` is; "balanced" lies between.
        twins: how many twins say where memorising begins: the losses on held-out photos are theirs; 0 without any.
    """

    outcome: Outcome
    trial: int | None = None
    epoch: int | None = None
    score: float | None = None
    learned: int | None = None
    learned_by: LearnedBy = ""
    context: OnsetFound = field(default_factory=lambda: OnsetFound("unmeasured"))
    memory: OnsetFound = field(default_factory=lambda: OnsetFound("unmeasured"))
    last: int | None = None
    disagreement: Disagreement | None = None
    likeness: float | None = None
    average: tuple[int, int] | None = None
    kind: Kind = "trial"
    unit: Unit = "epoch"
    safe: Choice | None = None
    alike: Choice | None = None
    chosen_by: Ship = "safe"
    copying: Copying = field(default_factory=lambda: Copying("unmeasured"))
    objective: str = ""
    own_score: float | None = None
    twins: int = 0

    @property
    def learns_too_late(self) -> bool:
        """Whether nothing ships because the images show the subject only after overfitting has begun."""
        return self.outcome == "not_learned" and self.likeness is not None and self.likeness >= LEARNED_FLOOR

    @property
    def ships(self) -> bool:
        """Whether there is an epoch to ship."""
        return self.outcome == "ship"

    @property
    def shipped(self) -> int | None:
        """The epoch to ship; None when nothing is."""
        return self.epoch if self.ships else None

    @property
    def earlier(self) -> tuple[str, OnsetFound | None]:
        """("context" or "memory", that onset) for the earlier one that has an epoch; ("", None) when none has."""
        return earlier_of(self.context, self.memory) or ("", None)

    def as_json(self) -> dict[str, Any]:
        """Plain values for `verdict.json`: every field, and `ship` as true or false."""
        return {"ship": self.ships, **asdict(self)}


def decide(record: TrialRecord) -> Decision:
    """The decision about one trial, from its record alone."""
    onset = record.onset
    score = record.score if record.score is not None else record.value if record.state == "complete" else None
    score = None if score is None or not isfinite(score) else score
    quality = _quality(record, score)
    outcome = _outcome(record, onset, quality)
    by_objective: dict[str, Any] = {"objective": record.objective, "own_score": record.own_score}
    if onset is None:
        last, kind, unit = record.epochs_trained or None, _kind(record), unit_of(record)
        epoch = record.epoch_shipped
        return Decision(outcome, record.number, epoch, score, last=last, kind=kind, unit=unit, **by_objective)
    by: LearnedBy = onset.learned_by or ("images" if onset.learned is not None else "")  # older records do not say
    seen = quality is not None and quality >= LEAST_SCORE and onset.status != "never_learned"
    told = seen or by == "images"  # else there is no subject to get worse
    average = None if record.final is None or outcome != "ship" else record.final.average
    average = average if average is not None and average.better else None
    return Decision(
        outcome,
        record.number,
        record.epoch_shipped,
        score if average is None else average.score,
        learned=onset.learned if seen and by != "losses" else None,
        learned_by=by if seen or by == "losses" else "",
        context=_found(onset.context, told),
        memory=_found(onset.memory, told),
        last=record.epochs_trained,
        disagreement=onset.disagreement if told else None,
        likeness=onset.likeness,
        average=None if average is None else (average.epochs[0], average.epochs[-1]),
        kind=_kind(record),
        unit=unit_of(record),
        safe=onset.safe if outcome == "ship" else None,
        alike=onset.alike if outcome == "ship" else None,
        chosen_by=onset.ship,
        copying=onset.copying if told else Copying("unmeasured"),
        twins=0 if record.twins is None or record.twins.onset is None else record.twins.count,
        **by_objective,
    )


def lora_to_ship(folder: StudyFolder, found: Decision) -> Path:
    """Where the LoRA lies that a trial ships, whether it was kept or not."""
    trial = folder.trial(found.trial or 0)
    if found.average is not None:
        return Average.lora(trial)
    return checkpoint_path(trial / "checkpoints", found.shipped or 0) / LORA_FILE


def best_so_far(records: Iterable[TrialRecord]) -> Decision | None:
    """The decision with the highest score among complete trials that have an epoch to ship; None when none has."""
    decisions = [decision for record in records if (decision := decide(record)).ships]
    return max(decisions, key=lambda d: (d.score or 0.0, -(d.trial or 0)), default=None)


def _quality(record: TrialRecord, score: float | None) -> float | None:
    """What is held against `LEAST_SCORE`: the score as we make it, whatever the scale of an objective. Where we cannot
    make one, an objective's word is taken."""
    if not record.objective or score is None:
        return score
    return LEAST_SCORE if record.own_score is None or not isfinite(record.own_score) else record.own_score


def _outcome(record: TrialRecord, onset: Onset | None, score: float | None) -> Outcome:
    if record.state == "failed":
        return "failed"
    if record.state in ("running", "pruned"):
        return "unfinished"
    if not record.has_epochs:
        return "ship"  # a finished LoRA: weights of its blocks are tried
    if record.epoch_shipped is None or onset is None or onset.status == "never_learned":
        return "not_learned"
    if score is not None and score >= LEAST_SCORE:
        return "ship"
    return "not_learned" if onset.likeness is not None and onset.likeness < LEARNED_FLOOR else "poor"


def _kind(record: TrialRecord) -> Kind:
    if record.finished_run is not None:
        return "finished"
    return "trial" if record.final is None else "final"


def unit_of(record: TrialRecord) -> Unit:
    """What a trial's epochs are counted in."""
    return "epoch" if record.finished_run is None else record.finished_run.unit


def _found(turn: Turn, told: bool) -> OnsetFound:
    if not told:
        return OnsetFound("not_learned")
    return OnsetFound(turn.status, turn.epoch, turn.low, turn.high, turn.channels)

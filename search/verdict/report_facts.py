"""The large numbers at the head of a report."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metrics.onset.sentences import choice_interval
from search.verdict.decision import Decision
from search.verdict.quantities import duration, size
from search.verdict.trial_sentences import turn_short

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict


@dataclass(frozen=True)
class Fact:
    """A large number with words under it; `kind` is "ship", "onset" or ""."""

    number: str
    word: str
    kind: str = ""


def facts_of(verdict: "Verdict") -> list[Fact]:
    """The facts of a verdict, in the order in which they stand in the report."""
    found = verdict.decision
    facts, unit = [], found.unit
    if found.trial is not None:
        facts.append(_shipped(found))
        if found.score is not None:
            fresh = " on fresh images" if verdict.scored_afresh else ""
            scale = f" by {found.objective}" if found.objective else " (0 to 1)"
            facts.append(Fact(f"{found.score:.3f}", f"score at {unit} {found.epoch}{fresh}{scale}"))
        if found.own_score is not None:
            facts.append(Fact(f"{found.own_score:.3f}", "Onset's own score there (0 to 1)"))
        if verdict.is_one_run and verdict.peak is not None:
            between = f" ({verdict.peak.first}–{verdict.peak.last})" if verdict.peak.first < verdict.peak.last else ""
            facts.append(Fact(str(verdict.peak.epoch), f"{unit} of the best images{between}"))
        for choice, word in ((found.safe, "safe"), (found.alike, "most alike")):
            if choice is not None and found.safe != found.alike:
                between = choice_interval(choice)
                facts.append(Fact(str(choice.epoch), f"{word} {unit}" + (f" ({between})" if between else "")))
        for name in ("context", "memory"):
            onset = getattr(found, name)
            short, _, between = turn_short(onset).partition(" (")
            said = f"{name} onset" + (f" ({between}" if between else "")
            facts.append(Fact(short, said, "onset" if onset.epoch is not None else ""))
        if verdict.finished_run is None:
            facts.append(Fact(f"{verdict.epochs_trained} / {verdict.epochs}", "epochs trained / planned"))
        else:
            facts.append(Fact(str(verdict.epochs_trained), f"{unit}s trained"))
        if verdict.lora_bytes:
            facts.append(Fact(size(verdict.lora_bytes), "LoRA file"))
    spent = verdict.cost
    clock = "on the clock" if spent.wall_seconds else "of worker time"
    return [
        *facts,
        Fact(str(spent.trials), "trial" if spent.trials == 1 else "trials"),
        Fact(duration(spent.wall_seconds or spent.seconds), clock),
    ]


def _shipped(found: Decision) -> Fact:
    if not found.ships:
        return Fact("none", f"{found.unit} to ship")
    if found.average is not None:
        return Fact(f"{found.average[0]}–{found.average[1]}", f"{found.unit}s whose average is to ship", "ship")
    return Fact(str(found.epoch), f"{found.unit} to ship", "ship")

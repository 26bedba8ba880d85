"""A verdict in plain words: what to do, why, and how sure it is. Every sentence follows from the decision."""

from collections.abc import Sequence
from math import floor
from typing import TYPE_CHECKING

from metrics.onset.sentences import choice_sentences, disagreement_text, epoch_text
from search.verdict.all_photos import compare_text
from search.verdict.copying_sentences import ships_copies
from search.verdict.cost import spent_sentence
from search.verdict.decision import Decision
from search.verdict.final_run_sentences import against_before, all_photos, average_text
from search.verdict.finalists import finalist_cost, finalist_sentences, tie_sentences
from search.verdict.finished_run_sentences import run_headline, what_it_rests_on, what_it_took, what_to_use
from search.verdict.front import front_sentences
from search.verdict.plateau import Peak
from search.verdict.quantities import counted
from search.verdict.said import Said
from search.verdict.settings_sentences import leave_epochs, settings
from search.verdict.trial_sentences import objective_sentences, told_onsets
from search.verdict.twin_sentences import twin_cost, twin_sentences
from trainer.config.rules import FLAT_SCHEDULERS

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

CUT_OUTS = "cache/probe/composites.png"
_LONGER = {"trial": " (train.epochs)", "final": " (final.past)", "finished": ""}
"""The key that a study file of each kind has for that."""


def headline(verdict: "Verdict") -> str:
    """What to do, in one line."""
    found = verdict.decision
    if verdict.said.headline:
        return verdict.said.headline
    if verdict.is_one_run:
        return run_headline(found)
    fresh = " on fresh images" if verdict.scored_afresh else ""
    score = "" if found.score is None else f" (score {found.score:.3f}{fresh})"
    if found.ships:
        return f"Ship epoch {found.epoch} of trial {found.trial}{score}."
    if found.learns_too_late:
        return f"Ship nothing yet: the best trial ({found.trial}) overfits before it learns the subject."
    if found.outcome == "not_learned":
        return f"Ship nothing yet: the best trial ({found.trial}) did not learn the subject."
    if found.outcome == "poor":
        return f"Ship nothing yet: the best score is {found.score or 0.0:.3f} (trial {found.trial})."
    if found.outcome == "unfinished":
        return f"Ship nothing yet: no trial has trained to its end. The best so far is trial {found.trial}{score}."
    return "Ship nothing: no trial got far enough to be scored."


def say(verdict: "Verdict", errors: Sequence[str] = ()) -> Said:
    """All there is to say about a verdict; `errors`: the texts of failed trials' errors, oldest first."""
    run = verdict.finished_run
    took = spent_sentence(verdict.cost) if run is None else what_it_took(verdict, run)
    return Said(
        _do(verdict), _why(verdict), _how_sure(verdict, errors), (took, *finalist_cost(verdict), *twin_cost(verdict))
    )


# --- what to do


def _gentler(found: Decision) -> str:
    return f"Use a lower learning rate over more {found.unit}s, a smaller rank, or more varied photos."


def _do(verdict: "Verdict") -> tuple[str, ...]:
    found = verdict.decision
    if found.learns_too_late:
        return (f"Let it learn more slowly. {_gentler(found)}",)
    if found.outcome == "not_learned":
        return (
            f"Use more {found.unit}s or a higher learning rate.",
            "Check the captions: each of them must contain the trigger word.",
        )
    if found.outcome == "poor":
        return (_gentler(found),)
    if found.outcome == "unfinished":
        return ("Give the study more trials (budget.trials) and run it again. It goes on where it stopped.",)
    if not found.ships:
        return ("Fix what made the trials fail, then run the study again.",) if verdict.cost.failed else ()
    said, config = [], verdict.config
    assert config is not None  # what ships was trained
    if verdict.finished_run is not None:
        return (what_to_use(verdict, verdict.finished_run), *ships_copies(found))
    if verdict.lora_bytes is not None:
        said.append(f"Use best/{verdict.study}.safetensors.")
    else:
        said.append("Train it again with best/train.yaml. The LoRA of that epoch was not kept.")
    said += ships_copies(found)
    said.append(f"Its settings: {settings(config)}.")
    if verdict.final is not None:
        return (*said, all_photos(verdict))
    if verdict.photos is not None and verdict.photos[1]:
        said.append(_all_photos(verdict))
    if config.lr_scheduler not in FLAT_SCHEDULERS:
        horizon = verdict.epochs
        said.append(leave_epochs(horizon or 0, found.epoch))
    return tuple(said)


def _all_photos(verdict: "Verdict") -> str:
    trained, held = verdict.photos or (0, 0)
    said = f"{held} of the {trained + held} photos were held out here. To use all of them, train best/train.yaml"
    between = verdict.on_all_photos
    if between is None:
        return f"{said}."
    if between[0] == between[1]:
        return f"{said} and take epoch {between[1]} again."
    return f"{said} and {compare_text(*between)}."


# --- why


def _why(verdict: "Verdict") -> tuple[str, ...]:
    found = verdict.decision
    if found.outcome == "nothing":
        return ()
    said = []
    likeness = "" if found.likeness is None else f" (likeness: at most {max(0.0, found.likeness):.2f} of 1)"
    if found.learns_too_late:
        said.append(f"Its images show the subject{likeness}, but only after held-out photos have begun to get worse.")
    elif found.outcome == "not_learned":
        said.append(
            f"Up to {found.unit} {found.last} its images look hardly more like the photos than the base's{likeness}."
        )
    elif found.outcome == "poor":
        said.append(
            f"Its best images are those of {found.unit} {found.epoch}. They hardly show the subject, or they show it "
            "whatever the prompt says."
        )
    elif found.outcome == "unfinished":
        said.append("A trial is stopped early (pruned) when others are ahead of it.")
    if found.ships:
        said += [_choice(found), *objective_sentences(found), *choice_sentences(found, found.last, found.unit)]
    said += _learned(found, None if verdict.is_one_run else verdict.plateau)
    if found.ships and verdict.is_one_run and verdict.peak is not None:
        said.append(_peak(verdict.peak, found.unit))
    if found.ships and verdict.final is not None:
        said += [average_text(found, verdict.final), against_before(found, verdict.final)]
    said += told_onsets(found, against=False)
    return (*said, *front_sentences(verdict))


def _learned(found: Decision, plateau: tuple[int, int] | None) -> list[str]:
    if found.learned_by == "losses" and found.ships:
        return [
            "The losses say that the subject is learned. The images hardly show it: look at the contact sheet first."
        ]
    if found.learned is None:
        return []
    first, last = (max(plateau[0], found.learned), plateau[1]) if plateau else (0, 0)
    alike = f" {found.unit.capitalize()}s {first} to {last} score alike." if first < last else ""
    return [f"The images show the subject from {found.unit} {found.learned} on.{alike}"]


def _peak(peak: Peak, unit: str) -> str:
    alike = f" ({unit}s {peak.first} to {peak.last} score alike)" if peak.first < peak.last else ""
    return f"The images are best at {unit} {peak.epoch}, with a score of {peak.score:.3f}{alike}."


def _choice(found: Decision) -> str:
    name, onset = found.earlier
    epoch, learned, at = found.epoch or 0, found.learned, f"{found.unit.capitalize()} {found.epoch or 0}"
    if found.safe is not None and epoch > found.safe.epoch:
        if found.chosen_by == "likeness":
            return f"{at} is the last checkpoint before the photos are memorised (score.ship: likeness)."
        if not {"heldout_loss", "context_loss"} & {*found.context.channels, *found.memory.channels}:
            return (
                f"{at} is later than the safe {found.unit}. No photos are held out, and losses of moved subjects alone "
                "turn early: images usually get better until a little past the onset."
            )
        return f"{at} is later than the safe {found.unit}, because until there the subject still gets more alike."
    # the score may be higher elsewhere: it compares trials, and chooses the epoch only where no losses are measured
    measured = any(channel.endswith("_loss") for channel in (*found.context.channels, *found.memory.channels))
    best = "has the best losses" if measured else "scores best"
    if onset is None or onset.epoch is None:
        return f"{at} {best} of all checkpoints."
    if learned is not None and epoch < learned:
        return f"{at} is the last checkpoint before the {name} onset. The subject is learned only after it."
    if epoch >= onset.epoch:
        return f"{at} is the first checkpoint that shows the subject. None lies before the {name} onset."
    shows = "show the subject and lie" if learned is not None else "lie"
    just = epoch_text(onset.epoch) == str(epoch)
    near = " It lies just before that onset." if just else ""
    return f"{at} {best} of the checkpoints that {shows} before the {name} onset.{near}"


# --- how sure


def _how_sure(verdict: "Verdict", errors: Sequence[str]) -> tuple[str, ...]:
    found = verdict.decision
    said = []
    if verdict.finished_run is not None:
        said.append(what_it_rests_on(verdict.finished_run))
    if found.disagreement is not None:
        said.append(disagreement_text(found.disagreement, found.unit))
        said.append(f"Usually a mask is wrong. Look at {CUT_OUTS} and give better masks (score.shifted.masks).")
    if any(onset.epoch is not None and onset.high is None for onset in (found.context, found.memory)):
        said.append(f"“open” means that the onset may also come after {found.unit} {found.last}, the last checkpoint.")
    if found.ships and verdict.config is not None:
        said += _inside(found, verdict.config.save_every_n_epochs)
        if found.epoch == found.last and found.earlier[1] is None:
            more = f"More {found.unit}s{_LONGER[found.kind]} may be better still."
            said.append(f"{found.unit.capitalize()} {found.epoch} is the last checkpoint. {more}")
        said += [*finalist_sentences(verdict), *tie_sentences(verdict)]
    said += twin_sentences(verdict)
    if verdict.cost.failed:
        last = f" The last error: {errors[-1].strip().splitlines()[-1]}" if errors and errors[-1].strip() else ""
        said.append(f"{counted(verdict.cost.failed, 'trial')} failed.{last}")
    return tuple(said)


def _inside(found: Decision, step: int) -> list[str]:
    """What to make of an epoch that may already lie behind the onset; `step`: epochs between checkpoints."""
    epoch, learned, unit = found.epoch or 0, found.learned, found.unit
    lows = [(onset.low, name) for name in ("context", "memory") if (onset := getattr(found, name)).low is not None]
    low, name = min(lows, default=(None, ""))
    if low is None or epoch <= low or found.chosen_by == "likeness":
        return []
    if (onset := getattr(found, name)).status == "at_start":
        key = "save_every_n_epochs" if step > 1 else "steps_per_epoch"
        often = "" if found.kind == "finished" else f" (train.{key})"
        return [
            f"{unit.capitalize()} {epoch_text(onset.epoch)} is the first checkpoint, so overfitting may begin even "
            f"earlier. Save more often{often} or use a lower learning rate."
        ]
    said = [
        f"{unit.capitalize()} {epoch} lies inside the interval of the {name} onset, so overfitting may already have "
        "begun."
    ]
    if found.safe is not None and found.safe.epoch < epoch:
        said[0] += f" To be surer, take {unit} {found.safe.epoch} (score.ship: safe)."
    elif learned is not None and learned <= low:
        until = max(learned, floor(low / step) * step)
        one = "an epoch" if unit == "epoch" else "a step"
        earlier = f"{unit} {learned}" if learned == until else f"{one} from {learned} to {until}"
        said[0] += f" To be surer, take {earlier}."
    elif learned is not None:
        said[0] += f" No earlier {unit} is safer, because none before that interval has learned the subject."
        said.append("With a lower learning rate it may learn the subject before it overfits.")
    if name == "context" and found.context.channels and "context_loss" not in found.context.channels:
        said.append("That interval usually gets narrower when whole contexts are held out (score.holdout_contexts).")
    return said

"""A verdict in plain words: what to do, why, and how sure it is. Every sentence follows from the decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

from metrics.onset.sentences import disagreement_text, epoch_text, interval_text
from search.record.record import TrialRecord
from search.verdict.all_photos import compare_text
from search.verdict.decision import Decision, OnsetFound
from search.verdict.settings_sentences import settings
from trainer.config.rules import FLAT_SCHEDULERS

if TYPE_CHECKING:
    from search.verdict.verdict import Cost, Verdict

READ_FROM = {
    "shifted_loss": "moved subjects",
    "context_loss": "photos of held-out contexts",
    "heldout_loss": "held-out photos",
    "fidelity": "likeness to the photos",
    "prompt": "how well prompts are obeyed",
    "copying": "copies of photos",
    "colour": "colours",
    "composition": "layouts",
    "diversity": "variety between images",
}
"""What a channel looks at, in a reader's words."""
CUT_OUTS = "cache/probe/composites.png"


@dataclass(frozen=True)
class Said:
    """A verdict's sentences, in the order in which they are read.

    Attributes:
        do: what to do now. why: what was found. sure: what speaks against it. took: what it cost.
    """

    do: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    sure: tuple[str, ...] = ()
    took: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(heading, sentences) of each part that has any."""
        parts = (("What to do", self.do), ("Why", self.why), ("How sure", self.sure), ("What it took", self.took))
        return tuple((heading, sentences) for heading, sentences in parts if sentences)


def headline(verdict: "Verdict") -> str:
    """What to do, in one line."""
    found = verdict.decision
    score = "" if found.score is None else f" (score {found.score:.3f})"
    if found.ships:
        return f"Ship epoch {found.epoch} of trial {found.trial}{score}."
    if found.learns_too_late:
        return f"Ship nothing yet: the best trial, {found.trial}, overfits before it learns the subject."
    if found.outcome == "not_learned":
        return f"Ship nothing yet: the best trial, {found.trial}, did not learn the subject."
    if found.outcome == "poor":
        return f"Ship nothing yet: the best score is {found.score or 0.0:.3f} (trial {found.trial})."
    if found.outcome == "unfinished":
        return f"Ship nothing yet: no trial has trained to its end. The best so far is trial {found.trial}{score}."
    return "Ship nothing: no trial got far enough to be scored."


def say(verdict: "Verdict", errors: Sequence[str] = ()) -> Said:
    """All there is to say about a verdict; `errors`: the texts of failed trials' errors, oldest first."""
    return Said(_do(verdict), _why(verdict), _how_sure(verdict, errors), (cost(verdict.cost),))


def trial_sentences(found: Decision) -> tuple[str, ...]:
    """One trial by itself: what comes of it, then both onsets as far as they are known."""
    return (_trial_headline(found), *_onsets(found))


def plot_caption(found: Decision, first: str | None = None) -> str:
    """The same, short enough to stand above a plot. `first`: another first sentence."""
    onsets = [onset_sentences(name, getattr(found, name), found.last)[0] for name in _told(found)]
    against = [disagreement_text(found.disagreement)] if found.disagreement is not None else []
    return " ".join([_trial_headline(found) if first is None else first, *onsets, *against])


def onset_sentences(name: str, onset: OnsetFound, last: int | None) -> tuple[str, str]:
    """One of the two onsets: where it lies, and what that means ("" where nothing is to be added).

    Args:
        name: "context" or "memory". last: the last epoch looked at.
    """
    title, context = f"{name.capitalize()} onset", name == "context"
    if onset.epoch is not None:
        at = f"epoch {epoch_text(onset.epoch)}" + (", the first checkpoint" if onset.status == "at_start" else "")
        between = interval_text(onset.low, onset.high)
        where = f"{title}: {at}" + (f" (90 % interval {between})" if between else "")
        if not context and onset.reproduces:
            return f"{where}.", "From there on images copy the photos."
        read = f" Read from: {channels(onset.channels)}." if onset.channels and context else ""
        worse = "the subject gets worse in contexts that the photos do not show" if context else (
            "even held-out photos of the same shoots get worse, because the training photos are memorised"
        )  # fmt: skip
        return f"{where}.", f"From there on {worse}.{read}"
    if onset.status == "beyond" and not context and onset.by_copies:
        why = "Nothing else can tell, because no photos are held out (score.holdout)."
        return f"{title}: no copies of the photos until epoch {last}, the last checkpoint.", why
    if onset.status == "beyond":
        return f"{title}: none until epoch {last}, the last checkpoint.", ""
    if context:
        needs = (
            "It needs at least two checkpoints, and a subject that can be cut out or photos of whole contexts held out "
            "(score.holdout_contexts)."
        )
    else:
        needs = "It needs held-out photos (score.holdout) and at least two checkpoints."
    return f"{title}: could not be judged.", needs


def onset_short(found: Decision) -> str:
    """The earlier onset for a table: `17.3 (8.3–open) context`, `none yet`, `no copies`, `not judged`, or `–`."""
    name, onset = found.earlier
    if onset is not None and onset.epoch is not None:
        return f"{turn_short(onset)} {name}"
    statuses = {found.context.status, found.memory.status}
    if "not_learned" in statuses:
        return "–"
    if "beyond" not in statuses:
        return "not judged"
    return "no copies" if found.context.status != "beyond" and found.memory.by_copies else "none yet"


def turn_short(onset: OnsetFound) -> str:
    """One onset in a word or two: `17.3 (8.3–open)`, `none yet`, `no copies`, `not judged`, or `–`."""
    if onset.epoch is not None:
        between = interval_text(onset.low, onset.high)
        return epoch_text(onset.epoch) + (f" ({between})" if between else "")
    if onset.status == "beyond":
        return "no copies" if onset.by_copies else "none yet"
    return "–" if onset.status == "not_learned" else "not judged"


def state_text(record: TrialRecord) -> str:
    """`complete`, `stopped at its onset`, `pruned`, `failed`, `running`; `…, files lost` where a disk lost some."""
    at_onset = record.state == "complete" and record.stopped == "onset"
    return ("stopped at its onset" if at_onset else record.state) + (", files lost" if record.lost else "")


def channels(names: Sequence[str]) -> str:
    """`moved subjects, held-out photos`: what channels look at."""
    return ", ".join(READ_FROM.get(name, name) for name in names)


def cost(spent: "Cost") -> str:
    """What the study took."""
    kinds = [
        f"{number} {what}"
        for number, what in (
            (spent.complete - spent.at_onset, "trained to the end"),
            (spent.at_onset, "stopped at the onset"),
            (spent.pruned, "pruned because others were ahead"),
            (spent.failed, "failed"),
            (spent.running, "unfinished"),
        )
        if number
    ]
    clock = f"{duration(spent.wall_seconds)} on the clock, " if spent.wall_seconds is not None else ""
    return (
        f"{_count(spent.trials, 'trial')}"
        + (f" ({', '.join(kinds)})" if kinds else "")
        + f", {_count(spent.epochs, 'trained epoch')}, {clock}{duration(spent.seconds)} of worker time "
        f"(training {duration(spent.train)}, drawing {duration(spent.sample)}, scoring {duration(spent.score)})."
    )


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(num_bytes: int) -> str:
    """`1.2 MB`, `340 kB`."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{max(1, round(num_bytes / 1e3))} kB"


# --- what to do


def _do(verdict: "Verdict") -> tuple[str, ...]:
    found = verdict.decision
    if found.learns_too_late:
        return ("Learn more slowly: a lower learning rate over more epochs, a smaller rank, or photos that vary more.",)
    if found.outcome == "not_learned":
        return (
            "Give it more epochs or a higher learning rate.",
            "Look at the captions: the trigger has to stand in each of them.",
        )
    if found.outcome == "poor":
        return ("Try a lower learning rate over more epochs, a smaller rank, or photos that vary more.",)
    if found.outcome == "unfinished":
        return ("Give the study more trials (budget.trials), and run it again: it goes on where it stopped.",)
    if not found.ships:
        return ("Mend what made the trials fail, and run the study again.",) if verdict.cost.failed else ()
    said, config = [], verdict.config
    assert config is not None  # what ships was trained
    if verdict.lora_bytes is not None:
        said.append(f"Use best/{verdict.study}.safetensors: {settings(config)}.")
    else:
        said.append(
            f"Train it again with best/train.yaml, because the LoRA of that epoch was not kept: {settings(config)}."
        )
    if verdict.photos is not None and verdict.photos[1]:
        said.append(_all_photos(verdict))
    if config.lr_scheduler not in FLAT_SCHEDULERS:
        horizon = verdict.epochs
        ends = f", and training ends at {found.epoch} by itself" if found.epoch != horizon else ""
        said.append(f"Leave epochs at {horizon} in train.yaml: the learning rate is laid out over {horizon}{ends}.")
    return tuple(said)


def _all_photos(verdict: "Verdict") -> str:
    trained, held = verdict.photos or (0, 0)
    said = f"To learn from all {trained + held} photos ({held} were held out here), train best/train.yaml"
    between = verdict.on_all_photos
    if between is None:
        return f"{said}."
    if between[0] == between[1]:
        return f"{said}: epoch {between[1]} stays the one to take."
    return f"{said} and {compare_text(*between)}."


# --- why


def _why(verdict: "Verdict") -> tuple[str, ...]:
    found = verdict.decision
    if found.outcome == "nothing":
        return ()
    said = []
    likeness = "" if found.likeness is None else f" (likeness at most {max(0.0, found.likeness):.2f} of 1)"
    if found.learns_too_late:
        said.append(
            f"Its images do show the subject{likeness}, but only after held-out photos have begun to get worse."
        )
    elif found.outcome == "not_learned":
        said.append(f"Until epoch {found.last} its images hardly came closer to the photos than the base's{likeness}.")
    elif found.outcome == "poor":
        said.append(
            f"Its best images, of epoch {found.epoch}, hardly show the subject, or show it whatever the prompt says."
        )
    elif found.outcome == "unfinished":
        said.append("A trial is stopped early (pruned) when others are ahead of it.")
    said += _learned(found, verdict.plateau)
    said += _onsets(found, against=False)
    if found.ships:
        said.append(_choice(found))
    return tuple(said)


def _learned(found: Decision, plateau: tuple[int, int] | None) -> list[str]:
    if found.learned_by == "losses" and found.ships:
        return ["The losses say that the subject is learned, the images hardly do: look at the contact sheet first."]
    if found.learned is None:
        return []
    first, last = (max(plateau[0], found.learned), plateau[1]) if plateau else (0, 0)
    alike = f"; epochs {first} to {last} score alike" if first < last else ""
    return [f"The images show the subject from epoch {found.learned} on{alike}."]


def _choice(found: Decision) -> str:
    name, onset = found.earlier
    epoch, learned = found.epoch or 0, found.learned
    # the score may be higher elsewhere: it compares trials, and chooses the epoch only where no losses are measured
    measured = any(channel.endswith("_loss") for channel in (*found.context.channels, *found.memory.channels))
    best = "has the best losses" if measured else "scores best"
    if onset is None or onset.epoch is None:
        return f"Of all checkpoints, epoch {epoch} {best}."
    if learned is not None and epoch < learned:
        return (
            f"Epoch {epoch} is the last checkpoint before the {name} onset, which comes before the subject is learned."
        )
    if epoch >= onset.epoch:
        return f"No checkpoint that shows the subject lies before the {name} onset; epoch {epoch} is the first one."
    just = epoch_text(onset.epoch) == str(epoch)
    shows = "show the subject and lie" if learned is not None else "lie"
    near = ", just before it" if just else ""
    return f"Of the checkpoints that {shows} before the {name} onset, epoch {epoch} {best}{near}."


def _told(found: Decision) -> tuple[str, ...]:
    if found.outcome in ("failed", "nothing") or found.context.status == "not_learned":
        return ()
    return ("context", "memory")


def _onsets(found: Decision, *, against: bool = True) -> list[str]:
    said = [" ".join(filter(None, onset_sentences(name, getattr(found, name), found.last))) for name in _told(found)]
    if against and found.disagreement is not None:
        said.append(disagreement_text(found.disagreement))
    return said


# --- how sure


def _how_sure(verdict: "Verdict", errors: Sequence[str]) -> tuple[str, ...]:
    found = verdict.decision
    said = []
    if found.disagreement is not None:
        said.append(disagreement_text(found.disagreement))
        said.append(f"A wrong mask is the usual cause: look at {CUT_OUTS}, and give masks (score.shifted.masks).")
    if any(onset.epoch is not None and onset.high is None for onset in (found.context, found.memory)):
        said.append(f"“open”: the onset may also lie after epoch {found.last}, the last checkpoint.")
    if found.ships and verdict.config is not None:
        said += _inside(found, verdict.config.save_every_n_epochs)
        if found.epoch == found.last and found.earlier[1] is None:
            said.append(f"Epoch {found.epoch} is the last checkpoint: more epochs (train.epochs) may be better still.")
        said += _ties(verdict)
    if verdict.cost.failed:
        last = f" The last error: {errors[-1].strip().splitlines()[-1]}" if errors and errors[-1].strip() else ""
        said.append(f"{_count(verdict.cost.failed, 'trial')} failed.{last}")
    return tuple(said)


def _inside(found: Decision, step: int) -> list[str]:
    """What to make of an epoch that may already lie behind the onset; `step`: epochs between checkpoints."""
    epoch, learned = found.epoch or 0, found.learned
    lows = [(onset.low, name) for name in ("context", "memory") if (onset := getattr(found, name)).low is not None]
    low, name = min(lows, default=(None, ""))
    if low is None or epoch <= low:
        return []
    if (onset := getattr(found, name)).status == "at_start":
        return [
            f"Nothing earlier than epoch {epoch_text(onset.epoch)} was looked at: save more often, or learn slower."
        ]
    said = [f"Epoch {epoch} lies inside the interval of the {name} onset, so overfitting may already have begun."]
    if learned is not None and learned <= low:
        until = max(learned, floor(low / step) * step)
        earlier = f"epoch {learned}" if learned == until else f"an epoch from {learned} to {until}"
        said[0] += f" To be safe, take {earlier}."
    elif learned is not None:
        said[0] += " No epoch before that interval has learned the subject, so no earlier epoch is safer."
        said.append("A lower learning rate may learn the subject before it overfits.")
    if name == "context" and found.context.channels and "context_loss" not in found.context.channels:
        said.append("Whole contexts held out (score.holdout_contexts) usually make that interval narrower.")
    return said


def _ties(verdict: "Verdict") -> list[str]:
    if not verdict.ties:
        return []
    many = len(verdict.ties) > 1
    others = " and ".join(filter(None, (", ".join(map(str, verdict.ties[:-1])), str(verdict.ties[-1]))))
    return [
        f"Trial{'s' * many} {others} {'are' if many else 'is'} as good within the noise of the score "
        f"(±{verdict.noise:.3f}): the smaller LoRA was taken, then the one with more good epochs."
    ]


def _trial_headline(found: Decision) -> str:
    score = "" if found.score is None else f" (score {found.score:.3f})"
    if found.ships:
        return f"Its best epoch is {found.epoch}{score}."
    if found.outcome == "not_learned":
        late = "it overfits before it learns the subject" if found.learns_too_late else "it did not learn the subject"
        return f"Nothing to ship: {late}."
    if found.outcome == "poor":
        return f"Nothing to ship: its best score is {found.score or 0.0:.3f} (epoch {found.epoch})."
    if found.outcome == "failed":
        return "Nothing to ship: it failed."
    so_far = "" if found.epoch is None else f" Its best epoch until then: {found.epoch}{score}."
    return f"Nothing to ship: it was not trained to its end.{so_far}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")

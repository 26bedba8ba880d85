"""An onset in words: epochs and intervals have one form everywhere, and a whole onset has a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import expm1
from typing import TYPE_CHECKING, Literal, Protocol

from metrics.onset.behaviour import LEARNED_FLOOR

if TYPE_CHECKING:
    from metrics.onset.turns import Choice, Copying, Dated, Disagreement, Onset, Turn

Kind = Literal["context", "memory"]

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
OPEN = "open"
"""The upper end of an interval that may lie beyond the last checkpoint."""


class Told(Protocol):
    """One onset as it is told: a `Turn`, or what a study makes of it."""

    @property
    def status(self) -> str: ...
    @property
    def epoch(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def channels(self) -> tuple[str, ...]: ...


class WithChoices(Protocol):
    """What can be shipped of a run: an `Onset`, or what a study makes of it."""

    @property
    def safe(self) -> Choice | None: ...
    @property
    def alike(self) -> Choice | None: ...
    @property
    def memory(self) -> Dated: ...


def epoch_text(epoch: float) -> str:
    """`16`, `17.3`, `132`: an epoch between two checkpoints has one decimal below 100.

    >>> [epoch_text(value) for value in (16, 17.26, 131.8)]
    ['16', '17.3', '132']
    """
    whole = abs(epoch - round(epoch)) < 0.05 or epoch >= 100
    return f"{epoch:.0f}" if whole else f"{epoch:.1f}"


def interval_text(low: float | None, high: float | None) -> str:
    """`8.3–17`, or `8.3–open` when it may end beyond the last checkpoint; "" without an interval.

    >>> interval_text(8.25, None)
    '8.2–open'
    """
    if low is None:
        return ""
    return f"{epoch_text(low)}–{OPEN if high is None else epoch_text(high)}"


def channels_text(names: Sequence[str], words: Mapping[str, str] | None = None) -> str:
    """What channels look at, in a reader's words. `words`: those of some channels, where they are others than usual.

    >>> channels_text(["shifted_loss", "heldout_loss"])
    'moved subjects and held-out photos'
    """
    return listed([(words or {}).get(name, READ_FROM.get(name, name)) for name in names])


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def percent_text(log_ratio: float) -> str:
    """`+150 %`, `−55 %`: a ln ratio to the base as people say it.

    >>> percent_text(0.5), percent_text(-0.8)
    ('+65 %', '−55 %')
    """
    percent = round(100 * expm1(log_ratio))
    return f"{'−' if percent < 0 else '+'}{abs(percent)} %"


def disagreement_text(found: Disagreement, unit: str = "epoch") -> str:
    """What the two witnesses of new contexts say against each other, and which of them is believed.

    Levels are the loss against the base's at the last checkpoint; the directions are those since the onset that one of
    them claims.
    """
    moved, real = ("rises", "falls") if found.moved_rises else ("falls", "rises")
    return (
        f"The two measures of new contexts disagree. After {unit} {found.since} the loss {moved} on subjects that were "
        f"cut out and moved ({percent_text(found.moved)} against the base at {unit} {found.until}). It {real} on real "
        f"photos of held-out contexts ({percent_text(found.real)}). The real photos decide."
    )


def turn_sentences(
    kind: Kind, turn: Told, last: int | None, unit: str = "epoch", reader: str = "it"
) -> tuple[str, str]:
    """One of the two onsets: where it lies, and what that means ("" where nothing is to be added).

    Args:
        last: the last epoch (or step) looked at. unit: "epoch" or "step".
        reader: what has not seen the photos that say so.
    """
    title, copies = f"{kind.capitalize()} onset", kind == "memory" and turn.channels == ("copying",)
    if turn.epoch is not None:
        at = f"{unit} {epoch_text(turn.epoch)}" + (", the first checkpoint" if turn.status == "at_start" else "")
        between = interval_text(turn.low, turn.high)
        where = f"{title}: {at}" + (f" (90 % sure: {between})." if between else ".")
        worse = _WORSE["copies" if kind == "memory" and "copying" in turn.channels else kind]
        return where, f"From there on, {worse.format(reader)}."
    if turn.status != "beyond":
        return f"{title}: not measured.", ""
    if copies:
        where = f"{title}: no copies of the photos up to {unit} {last}, the last checkpoint."
        return where, "Nothing else could show it, because no photos are held out."
    return f"{title}: none up to {unit} {last}, the last checkpoint.", ""


def copying_sentence(seen: Copying, unit: str = "epoch") -> str:
    """Whether training photos come back in drawings; "" where that was not measured.

    Args:
        unit: "epoch" or "step".
    """
    if seen.status == "unmeasured":
        return ""
    if seen.status == "unseen":
        return "No sign that training photos come back in drawings."
    nearer, low, high = (round(-100 * expm1(-(value or 0.0))) for value in (seen.nearer, seen.low, seen.high))
    when = f"later, at {unit} {seen.epoch}" if seen.status == "later" else f"at {unit} {seen.epoch}"
    return (
        f"Training photos seem to come back in drawings {when}: images of their captions come {nearer} % nearer to "
        f"their own photos than images of held-out captions do (90 % sure: {low}–{high} %)."
    )


_WORSE = {
    "context": "the subject gets worse in contexts that the photos do not show",
    "memory": "the LoRA memorises its photos, and even photos of the same shoots that {} was not trained on get worse",
    "copies": "images copy the photos",
}


def choice_sentences(onset: WithChoices, last: int | None, unit: str = "epoch") -> tuple[str, ...]:
    """The safe and the most alike checkpoint, as far as they are known; nothing where they are the same one.

    Args:
        last: the last epoch (or step) looked at. unit: "epoch" or "step".
    """
    if onset.safe is None or onset.alike is None or onset.safe.epoch == onset.alike.epoch:
        return ()
    where = f"{_choice_text(onset.alike)}. It is the last checkpoint before the photos are memorised."
    if onset.memory.epoch is None and onset.alike.high is None:
        read = "" if onset.alike.epoch == last else " with a loss on held-out photos"
        where = f"{onset.alike.epoch}, the last checkpoint{read}. The photos are not memorised up to there."
    elif onset.memory.epoch is None:
        where = f"{onset.alike.epoch}. Later ones know photos of the subject less well than the base does."
    return (
        f"Safe: {unit} {_choice_text(onset.safe)}. Up to there, images still do what prompts ask for.",
        f"Most alike: {unit} {where} Prompts are usually followed less well than at the safe {unit}.",
    )


def choice_interval(choice: Choice) -> str:
    """`12–16`, or "" where there is only its one checkpoint."""
    alone = choice.low == choice.epoch and choice.high in (None, choice.epoch)
    return "" if alone else interval_text(choice.low, choice.high)


def _choice_text(choice: Choice) -> str:
    between = choice_interval(choice)
    return f"{choice.epoch} (90 % sure: {between})" if between else str(choice.epoch)


FLAT = (
    "the loss neither falls nor rises for sure. So it does not say whether the subject was learned, or which "
    "checkpoint to ship."
)
"""What is told of a table that does not begin with the base, and whose losses have no trend."""


def worse_sentence(turns: Sequence[Turn], unit: str) -> str:
    """What is told of losses that get worse from the first checkpoint on; "" without one."""
    if not turns:
        return ""
    read = channels_text(list(dict.fromkeys(name for turn in turns for name in turn.channels)))
    return f"From the first {unit} looked at, the loss on {read} only gets worse. A lower learning rate may help."


def sentence(onset: Onset, note: str, unit: str, last: int, worse: str = "") -> str:
    """The epoch to ship, the others that could be, and both onsets.

    Args:
        note: why it is that epoch, where that is not plain; else "".
        unit: "epoch" or "step". last: the last one looked at.
        worse: what `worse_sentence` says where nothing was learned, or `FLAT`.
    """
    if onset.status == "never_learned":
        if onset.likeness is not None and onset.likeness >= LEARNED_FLOOR:
            return f"Up to {unit} {last}, the subject was learned only after overfitting had begun."
        if worse == FLAT:
            return f"Up to {unit} {last}, {worse}"
        return f"Up to {unit} {last}, the subject was not learned. {worse or 'So there is nothing to overfit yet.'}"
    said = [f"Ship {unit} {onset.best}" + (f": {note}." if note else "."), *choice_sentences(onset, last, unit)]
    kinds: tuple[tuple[Kind, Turn], ...] = (("context", onset.context), ("memory", onset.memory))
    told = [
        each for kind, turn in kinds if turn.status != "unmeasured" for each in turn_sentences(kind, turn, last, unit)
    ]
    said += filter(None, told or ["Nothing here says when overfitting begins."])
    if onset.copying.status != "unmeasured":
        said.append(copying_sentence(onset.copying, unit))
    if onset.learned is None and worse:
        said.append(worse)
    if onset.disagreement is not None:
        said.append(disagreement_text(onset.disagreement, unit))
    return " ".join(said)

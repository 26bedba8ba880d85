"""One trial in plain words: what comes of it, its two onsets, and how a table says them."""

from metrics.onset.sentences import (
    Kind,
    channels_text,
    choice_sentences,
    disagreement_text,
    epoch_text,
    interval_text,
    turn_sentences,
)
from search.record.record import TrialRecord
from search.verdict.copying_sentences import copying_sentences
from search.verdict.decision import Decision, OnsetFound
from search.verdict.twin_sentences import read_from_twins, words_of

_HOLDOUT = {"trial": "score.holdout", "final": "score.holdout", "finished": "checkpoints.held_out"}
"""The key that a study file of each kind has for that."""
_NEEDS: dict[str, str] = {
    "context": (
        "That takes at least two checkpoints, and a subject that can be cut out of the photos or whole contexts that "
        "are held out (score.holdout_contexts)."
    ),
    "memory": "That takes at least two checkpoints, and photos that are held out ({}).",
}
"""Without which an onset cannot be measured."""


def trial_sentences(found: Decision) -> tuple[str, ...]:
    """One trial by itself: what comes of it, then its onsets as far as they are known, and copies."""
    return (
        _trial_headline(found),
        *objective_sentences(found),
        *choice_sentences(found, found.last, found.unit),
        *told_onsets(found),
    )


def objective_sentences(found: Decision) -> list[str]:
    """Who made the score, where it was not we, and what ours is."""
    if not found.objective or found.score is None:
        return []
    own = "" if found.own_score is None else f" Onset's own score there is {found.own_score:.3f}."
    return [f"The score is what {found.objective} makes of the readings.{own}"]


def plot_caption(found: Decision, first: str | None = None) -> str:
    """The same, short enough to stand above a plot. `first`: another first sentence."""
    onsets = [onset_sentences(name, found)[0] for name in _told(found)]
    onsets += copying_sentences(found) if found.copying.status in ("seen", "later") else ()
    against = [disagreement_text(found.disagreement, found.unit)] if found.disagreement is not None else []
    return " ".join([_trial_headline(found) if first is None else first, *onsets, *against])


def onset_sentences(name: Kind, found: Decision) -> tuple[str, str]:
    """One of the two onsets: where it lies, and what that means ("" where nothing is to be added)."""
    onset: OnsetFound = getattr(found, name)
    where, meaning = turn_sentences(name, onset, found.last, found.unit, "a twin" if found.twins else "it")
    if onset.epoch is not None and name == "context" and onset.channels:
        meaning += f" Measured on {channels_text(onset.channels, words_of(found))}."
    if onset.status == "beyond" and meaning:
        meaning = f"{meaning.removesuffix('.')} ({_HOLDOUT[found.kind]})."
    if onset.epoch is None and onset.status != "beyond":
        meaning = _NEEDS[name].format(_HOLDOUT[found.kind])
    if name == "memory" and onset.status != "unmeasured":
        meaning = " ".join(filter(None, (meaning, read_from_twins(found))))
    return where, meaning


def onset_short(found: Decision) -> str:
    """The earlier onset for a table: `17.3 (8.3–open) context`, `none yet`, `no copies`, `not measured`, or `–`."""
    name, onset = found.earlier
    if onset is not None and onset.epoch is not None:
        return f"{turn_short(onset)} {name}"
    statuses = {found.context.status, found.memory.status}
    if "not_learned" in statuses:
        return "–"
    if "beyond" not in statuses:
        return "not measured"
    return "no copies" if found.context.status != "beyond" and found.memory.by_copies else "none yet"


def turn_short(onset: OnsetFound) -> str:
    """One onset in a word or two: `17.3 (8.3–open)`, `none yet`, `no copies`, `not measured`, or `–`."""
    if onset.epoch is not None:
        between = interval_text(onset.low, onset.high)
        return epoch_text(onset.epoch) + (f" ({between})" if between else "")
    if onset.status == "beyond":
        return "no copies" if onset.by_copies else "none yet"
    return "–" if onset.status == "not_learned" else "not measured"


def state_text(record: TrialRecord) -> str:
    """`complete`, `stopped at its onset`, `pruned`, `failed`, `running`; `…, files lost` where a disk lost some."""
    at_onset = record.state == "complete" and record.stopped == "onset"
    return ("stopped at its onset" if at_onset else record.state) + (", files lost" if record.lost else "")


def _trial_headline(found: Decision) -> str:
    score = "" if found.score is None else f" (score {found.score:.3f})"
    if found.ships:
        return f"Its best {found.unit} is {found.epoch}{score}."
    if found.outcome == "not_learned":
        late = "it overfits before it learns the subject" if found.learns_too_late else "it did not learn the subject"
        return f"Nothing to ship: {late}."
    if found.outcome == "poor":
        return f"Nothing to ship: its best score is {found.score or 0.0:.3f} ({found.unit} {found.epoch})."
    if found.outcome == "failed":
        return "Nothing to ship: it failed."
    so_far = "" if found.epoch is None else f" Its best {found.unit} so far is {found.epoch}{score}."
    return f"Nothing to ship: it was not trained to its end.{so_far}"


def _told(found: Decision) -> tuple[Kind, ...]:
    if found.outcome in ("failed", "nothing") or found.context.status == "not_learned":
        return ()
    return ("context", "memory")


def told_onsets(found: Decision, *, against: bool = True) -> list[str]:
    """Both onsets and copies; `against`: also what moved subjects say against real photos."""
    said = [" ".join(filter(None, onset_sentences(name, found))) for name in _told(found)]
    said += copying_sentences(found)
    if against and found.disagreement is not None:
        said.append(disagreement_text(found.disagreement, found.unit))
    return said

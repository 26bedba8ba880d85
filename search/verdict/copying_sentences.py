"""Whether training photos come back in drawings, in words."""

from metrics.onset.sentences import copying_sentence
from search.verdict.decision import Decision

_NEEDS = {
    "trial": "That takes captions of three photos that are trained on and of three that are held out (score.holdout, "
    "score.probe).",
    "final": "This run trains on all photos, so there are none to compare with. The study before it may say.",
    "finished": "That takes captions of three photos that were trained on and of three that were not "
    "(checkpoints.held_out).",
}


def copying_sentences(found: Decision) -> tuple[str, ...]:
    """What is seen of it, or what it takes to know; nothing of a subject that is not learned."""
    if found.outcome in ("failed", "nothing") or found.context.status == "not_learned":
        return ()
    said = copying_sentence(found.copying, found.unit)
    return (said or f"Whether training photos come back in drawings is not known. {_NEEDS[found.kind]}",)


def ships_copies(found: Decision) -> tuple[str, ...]:
    """What to do where they seem to come back in what ships."""
    if not found.ships or found.copying.status != "seen":
        return ()
    return (
        f"Training photos seem to come back in its drawings. If none may, compare earlier {found.unit}s on the contact "
        "sheet with the photos.",
    )


def copying_note(found: Decision) -> tuple[str, ...]:
    """The same beside a picture; nothing where there is no sign of copies."""
    at = f"{found.unit} {found.copying.epoch}"
    notes = {"seen": f"photos seem to come back at {at}", "later": f"photos seem to come back later, at {at}"}
    return tuple(filter(None, [notes.get(found.copying.status)]))

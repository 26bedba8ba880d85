"""A judgement on block weights in plain words: what was turned down, what that wins and costs."""

from collections.abc import Sequence
from pathlib import PurePath

from search.record.judgement import Change, Judgement
from search.verdict.quantities import counted, duration
from search.verdict.said import Said

NAMES = {
    "background": "the photos' background in new contexts (0 as the base, 1 as in the photos)",
    "prompt": "obedience to prompts against the base (0 as the base)",
    "copying": "copying of photos (0.5 as near as they are to each other)",
    "shifted_loss": "the loss on moved subjects (ln ratio to the base)",
    "context_loss": "the loss in held-out contexts (ln ratio to the base)",
}


def say_judgement(found: Judgement, lora: str, study: str, *, looks: int, seconds: float, gate: Sequence[str]) -> Said:
    """All there is to say.

    Args:
        lora: the file's name. looks: sets of weights that were tried.
        gate: faults that the gate finds in the delivered file, one line each.
    """
    name = PurePath(lora).stem
    sure = []
    if found.images:
        more = len(found.among) - 1
        beside = f" {counted(more, 'other set')} of weights {'was' if more == 1 else 'were'} judged beside it."
        sure.append(
            f"Judged on {found.images} images of {found.prompts} prompts with seeds that the search never saw."
            f"{beside if more > 0 else ''} All intervals together hold in 95 of 100 cases."
        )
    if gate:
        sure.append(f"The file has faults: {'; '.join(gate)}. python -m trainer.deliver says what to do.")
    took = (f"{looks} sets of block weights were looked at in {duration(seconds)}. Nothing was trained.",)
    if not found.turns_down:
        do = [f"Use {lora} as it is (best/{study}.safetensors is a copy)."]
        why = f"Nothing is turned down, because {found.why_not}."
        if found.params and found.images:
            tried = f"The best weights that the search found turn down {_weights(found)}."
            why = f"{tried} They are not taken, because {found.why_not}."
        return Said(tuple(do), (why, *_changes(found)), tuple(sure), took, headline="Nothing to win: use it as it is.")
    prompt = f"<lora:{name}:1:lbw={found.lbw}>"
    do = [
        f"Use best/{study}.safetensors at strength 1.",
        f"Or the old file in a WebUI with sd-webui-lora-block-weight: {prompt}",
    ]
    head = f"Turn down {_weights(found)}."
    return Said(tuple(do), _changes(found), tuple(sure), took, headline=head)


def _weights(found: Judgement) -> str:
    changed = [f"{group} to {weight:g}" for group, weight in found.params.items() if weight != 1]
    return ", ".join(changed[:-1]) + (" and " if len(changed) > 1 else "") + (changed[-1] if changed else "nothing")


def _changes(found: Judgement) -> tuple[str, ...]:
    said = []
    for name, change in found.changes.items():
        sure = "surely better" if name in found.wins else "surely worse" if name in found.costs else "no sure change"
        said.append(f"{NAMES[name][0].upper()}{NAMES[name][1:]}: {_span(change)}: {sure}.")
    if found.likeness is not None:
        said.append(f"Likeness to the subject (1 as the photos): {_span(found.likeness)}.")
    if found.plain is not None and found.wins:
        read = [
            f"{_short(name)} {_against(found.plain_values[name], found.changes[name].after)}"
            for name in found.wins
            if name in found.plain_values
        ]
        if found.plain >= 1:
            said.append("Turning the whole LoRA down would cost likeness that these weights keep.")
        elif read:
            said.append(f"The whole LoRA at strength {found.plain:.2f} would be as alike and read {', '.join(read)}.")
    return tuple(said)


def _short(name: str) -> str:
    return NAMES[name].partition(" (")[0]


def _against(plain: float, after: float) -> str:
    plain_text, after_text = _number(plain), _number(after)
    same = plain_text == after_text
    return f"{plain_text}, as these weights do" if same else f"{plain_text} instead of {after_text}"


def _span(change: Change) -> str:
    before, after, better, low, high = (
        _number(value) for value in (change.before, change.after, change.better_by, change.low, change.high)
    )
    return f"{before} → {after} (better by {better}, {low} to {high})"


def _number(value: float) -> str:
    """Two digits, three where two would show none of it.

    >>> _number(0.471), _number(-0.0042), _number(-0.0001)
    ('0.47', '-0.004', '0')
    """
    if abs(value) < 0.0005:
        return "0"
    return f"{value:.3f}" if abs(value) < 0.01 else f"{value:.2f}"

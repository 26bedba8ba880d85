"""What a data check found, in plain words: a headline, and for each finding what it is, what to do and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from search.record.data_check import DataCheck, Evidence, Finding, Kind, TagEffect

PARTS: tuple[tuple[str, tuple[Kind, ...]], ...] = (
    (
        "Change these photos",
        (
            "other_subject",
            "repeated",
            "blurred",
            "overexposed",
            "underexposed",
            "small",
            "other_colours",
            "colours_scatter",
            "framing_off",
            "pulls_drawings",
        ),
    ),
    ("Correct these captions", ("wrong_tag", "missing_tag", "wrong_caption")),
    ("Think about these tags", ("tag_everywhere", "tag_absorbed", "tag_lost", "tag_unknown_to_base", "tag_once")),
    ("Good to know", ("memorised_first", "never_fitted")),
)
"""The page's parts in their order, each with the findings that it tells."""


@dataclass(frozen=True)
class Told:
    """A finding in words: `what` it is, what to `do` about it, and `why` that matters."""

    what: str
    do: str
    why: str


def headline(check: DataCheck) -> str:
    """What to do with the set, in one line."""
    photos = {f.photos[0] for f in check.findings if f.action == "replace" and f.photos}
    repeats = sum(len(f.photos) - 1 for f in check.findings if f.action == "keep_one")
    captions = {photo for f in check.findings if f.action == "retag" for photo in f.photos}
    parts = []
    if photos:
        parts.append(f"replace {_count(len(photos), 'photo')}")
    if repeats:
        parts.append(f"take out {_count(repeats, 'copy', 'copies')}")
    if captions:
        parts.append(f"correct {_count(len(captions), 'caption')}")
    if not parts:
        return "These photos and captions can be trained on"
    said = ", ".join(parts)
    return f"{said[0].upper()}{said[1:]}, then go on"


def short_names(files: Sequence[str]) -> dict[str, str]:
    """What photos are called in sentences: without their folder where no two files have the same name."""
    names = {file: PurePosixPath(file).name for file in files}
    return names if len(set(names.values())) == len(names) else {file: file for file in files}


def told(finding: Finding, names: Mapping[str, str] | None = None) -> Told:
    """The finding in words. `names`: what photos are called; None takes their files."""
    called = [photo if names is None else names[photo] for photo in finding.photos]
    tag, photo = f"“{finding.tag}”", called[0] if called else ""
    return {
        "other_subject": Told(
            f"{photo} seems to show another subject.",
            "Look at it. If it is not your subject, take it out.",
            "The LoRA learns a mixture of the two.",
        ),
        "repeated": Told(
            f"{_names(called)} are one photo.",
            f"Keep {photo}, and take out the others.",
            "A photo that is there twice is learned by heart twice as fast. Copies count even where they were saved "
            "anew, mirrored, cropped or brightened.",
        ),
        "blurred": Told(
            f"{photo} is out of focus or shaken.",
            "Replace it with a sharp one, or take it out.",
            "The LoRA learns the blur along with the subject.",
        ),
        "overexposed": Told(
            f"{photo} is overexposed: its lights are lost.",
            "Take a darker version if there is one, or take it out.",
            "White patches are learned as part of the subject.",
        ),
        "underexposed": Told(
            f"{photo} is almost black.",
            "Brighten it, or take it out.",
            "There is little to learn in it, and drawings become darker.",
        ),
        "small": Told(
            f"{photo} is smaller than what it is trained at.",
            "Replace it with a larger one, or train at a lower resolution.",
            "It is enlarged, and the LoRA learns its softness.",
        ),
        "other_colours": Told(
            f"{photo} has colours unlike all others, and its caption does not say why.",
            "Correct its colours, say the reason in its caption (“at sunset”), or take it out.",
            "Unsaid colours end up in the subject: drawings vary in colour for no reason.",
        ),
        "wrong_tag": Told(
            f"{photo}: the caption says {tag}; the image shows “{finding.shown}”.",
            "Correct the caption.",
            "A wrong tag teaches the LoRA that the tag means what this image shows.",
        ),
        "missing_tag": Told(
            f"{photo}: the caption leaves out what most others say; the image shows “{finding.shown}”.",
            "Add the tag.",
            "What no tag says is taken for a part of the subject.",
        ),
        "wrong_caption": Told(
            f"{photo}: captions of other photos fit this image better than its own.",
            "Read the caption beside the image, and correct it.",
            "A wrong caption teaches the LoRA the wrong words.",
        ),
        "tag_everywhere": Told(
            f"{tag} stands in every caption, so it always comes with the trigger.",
            "If it belongs to the subject, leave it out of the captions. If not, add photos that show something else.",
            "The LoRA cannot tell it from the subject. In prompts it will then do little.",
        ),
        "tag_once": Told(
            f"{tag} stands in one caption only ({photo}).",
            "Check the spelling. Else add photos that show it, or do not rely on it.",
            "One photo is too few to learn what a word means.",
        ),
        "tag_absorbed": Told(
            f"{tag} has gone into the trigger: drawings show it whether the prompt says it or not.",
            "Add photos that show something else in its place, and say so in their captions.",
            "You cannot ask for anything else any more.",
        ),
        "tag_lost": Told(
            f"{tag} has lost its effect: the base obeys it, the LoRA hardly does.",
            "Check that the captions that say it are right, and add photos that show other things.",
            "Prompts with this word will be ignored.",
        ),
        "tag_unknown_to_base": Told(
            f"The base draws the same with and without {tag}: it does not know the word, or always draws so.",
            "Use another word for it, or another base. Your photos are not to blame.",
            "A LoRA of a few photos cannot teach a base a new word beside the trigger.",
        ),
        "colours_scatter": Told(
            "Drawings vary in colour more than your photos do.",
            f"Look first at {_names(called)}: they are farthest from the set's colours."
            if called
            else "Look at the photos for colours that no caption explains.",
            "What captions do not explain comes back at random.",
        ),
        "framing_off": Told(
            "Drawings place the subject otherwise than your photos do.",
            f"Look first at {_names(called)}: their framing is farthest from the others'."
            if called
            else "Say position and size in the captions.",
            "Framing that captions do not say is learned as part of the subject.",
        ),
        "pulls_drawings": Told(
            f"{photo} pulls drawings towards it, even where the prompt asks for something new.",
            "Take it out, or add photos like it in other places.",
            "It is the first that will be learned by heart.",
        ),
        "memorised_first": Told(
            f"{photo} is learned much faster than the others.",
            "Nothing, unless it is a copy, or very plain. Watch for it in drawings.",
            "It is learned by heart first.",
        ),
        "never_fitted": Told(
            f"{photo} is not learned: its loss does not fall as the others' does.",
            "See whether it shows your subject, and whether its caption is right.",
            "It works against the other photos.",
        ),
    }[finding.kind]


def figure(evidence: Evidence) -> str:
    """A figure in words: "width of its sharpest edges in pixels: 3.1 (the other photos: 0.8)"."""
    said = f"{evidence.name}: {_number(evidence.value)}"
    if evidence.low is not None and evidence.high is not None:
        said += f" ({_number(evidence.low)} to {_number(evidence.high)})"
    return said if evidence.usual is None else f"{said} ({evidence.usual_is}: {_number(evidence.usual)})"


def facts(check: DataCheck) -> list[tuple[str, str]]:
    """(large number, words under it)."""
    found = [(str(check.photos), "photos"), (f"{check.different:.0f}", "different ones they come to")]
    if check.rank is not None and check.chance is not None:
        found.append((f"{check.rank:.1f}", f"mean rank of a caption for its own image (chance: {check.chance:.1f})"))
    if check.tags:
        reflected = sum(tag.verdict == "reflected" for tag in check.tags)
        found.append((f"{reflected} of {len(check.tags)}", "tags that drawings obey"))
    return found


def effect(tag: TagEffect) -> str:
    """What a tag does, in words."""
    return {
        "reflected": "drawings obey it",
        "unknown to the base": "the base does not heed it",
        "lost": "the base obeys it, the LoRA does not",
        "absorbed": "it comes with the trigger, asked for or not",
        "ambiguous": "too little to tell",
    }[tag.verdict]


def _names(photos: Sequence[str]) -> str:
    return "".join(photos) if len(photos) < 2 else f"{', '.join(photos[:-1])} and {photos[-1]}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.2g}"

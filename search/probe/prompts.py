"""What the probe asks for: its prompts and seeds, captions as an encoder understands them, captions of composites."""

import re
from collections.abc import Sequence

import numpy as np

from metrics.checkpoint.score import ProbeLabels
from metrics.subjects.composites import Composites, context_caption, position_words
from metrics.subjects.prompt_template import fill
from search.study.settings import ScoreSection
from trainer.data.dataset import Photo

_SMALL = 0.85  # of the subject's size in its own photo
STREAMS = {
    "images": 1,
    "backgrounds": 2,
    "heldout": 3,
    "shifted": 4,
    "composites": 5,
    "context": 6,
    "finalists": 7,
    "critic": 8,
}
"""Numbers that keep what is drawn for different uses apart: seeds of one never meet those of another."""


def probe_labels(
    score: ScoreSection, photos: Sequence[Photo], trained: Sequence[int], heldout: Sequence[int]
) -> tuple[ProbeLabels, int]:
    """Sets A, B and C times the seeds; a caption that several photos share is drawn once."""
    rng = np.random.default_rng([score.seed, len(trained) + len(heldout)])
    rows: dict[str, tuple[str, str, int]] = {}
    for kind, pool, count in (("A", trained, score.probe.trained), ("B", heldout, score.probe.heldout)):
        taken = 0
        for index in rng.permutation(list(pool)) if pool else ():
            photo = photos[int(index)]
            if taken < count and photo.caption not in rows:
                rows[photo.caption] = (neutral_caption(photo), kind, int(index))
                taken += 1
    first = photos[trained[0]]
    words = {"trigger": first.trigger or "", "class_word": first.class_word or ""}
    for template in score.probe.contexts:
        prompt = context_caption(template, **words)
        rows.setdefault(prompt, (context_caption(template, trigger="", class_word=words["class_word"]), "C", -1))
    seeds = [probe_seed(score, "images", i) for i in range(score.probe.seeds)]
    entries = [(prompt, *rest, seed) for prompt, rest in rows.items() for seed in seeds]
    prompts, neutral, sets, photo_rows, drawn = (tuple(column) for column in zip(*entries, strict=True))
    return ProbeLabels(prompts, neutral, sets, photo_rows, drawn), len(seeds)


def neutral_caption(photo: Photo) -> str:
    """The caption with the class word for the trigger, as an encoder understands it."""
    return neutral_text(photo.caption, photo.trigger or "", photo.class_word or "")


def neutral_text(text: str, trigger: str, class_word: str) -> str:
    """Any text with the class word for the trigger; as it is without one."""
    if not trigger:
        return text
    # whole words: a trigger like "sks" also ends "desks"
    said = re.sub(rf"(?<!\w){re.escape(trigger)}(?:\s+{re.escape(class_word)})?(?!\w)", lambda _: class_word, text)
    return " ".join(said.split())


def composite_captions(template: str, photos: Sequence[Photo], made: Composites, contexts: Sequence[str]) -> list[str]:
    """What a composite shows: the subject, where it ended up and how large, and the context the base was asked for.

    Args:
        photos: of which each composite's subject is.
        contexts: of the backgrounds.
    """
    captions = []
    for photo, where, scale, place in zip(photos, position_words(made), made.scale, made.background, strict=True):
        size = "small" if scale < _SMALL else "large"
        words = {"trigger": photo.trigger or "", "class": photo.class_word or ""}
        captions.append(fill(template, {**words, "context": contexts[place], "position": where, "size": size}))
    return captions


def probe_seed(score: ScoreSection, stream: str, index: int) -> int:
    """Seeds of the probe's own streams, apart from training's small numbers."""
    return 1_000_003 * (1 + score.seed) + 10_007 * STREAMS[stream] + index

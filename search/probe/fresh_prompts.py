"""What finalists are drawn from: seeds that the search never used, and as far as there are any, prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.checkpoint.calibration import ProbeLabels
from metrics.subjects.composites import context_caption
from metrics.subjects.prompt_template import fill
from search.probe.prompts import STREAMS, neutral_caption, probe_seed
from search.record.finalists import FRESH
from search.record.probe_description import ProbeDescription
from search.study.settings import FRESH_CONTEXTS, PLACES, FinalistsSection, ScoreSection
from trainer.data.dataset import Photo

_WHERE = ("left", "right", "centre")
_SIZES = ("large", "small")


@dataclass(frozen=True)
class FreshPrompts:
    """What is drawn: an entry of `labels` for each image. repeated: number of prompts that the search used, too."""

    labels: ProbeLabels
    num_seeds: int
    repeated: int

    @property
    def num_prompts(self) -> int:
        return len(self.labels) // self.num_seeds


def fresh_prompts(
    score: ScoreSection, finalists: FinalistsSection, photos: Sequence[Photo], about: ProbeDescription
) -> FreshPrompts:
    """Up to twice as many prompts of each set as the probe has, of those that it left: other captions, other contexts.
    Where fewer are left than it has, its own come again, under seeds that are fresh in any case.

    More prompts, not more seeds of each: that narrows the interval of the score most.

    Args:
        photos: all of the study, without regularisation images.
        about: the study's probe, prompts that were added later among it.
    """
    used = set(about.prompts)
    generator = np.random.default_rng([score.seed, STREAMS["finalists"], len(photos)])
    rows: dict[str, tuple[str, str, int]] = {}
    for kind, pool, count in (
        ("A", about.trained_rows, score.probe.trained),
        ("B", about.heldout_rows, score.probe.heldout),
    ):
        order = [int(row) for row in generator.permutation(list(pool))] if pool else []
        order.sort(key=lambda row: photos[row].caption in used)  # stable: what is left comes first
        taken = 0
        for row in order:
            photo = photos[row]
            if taken < (count if photo.caption in used else FRESH * count) and photo.caption not in rows:
                rows[photo.caption] = (neutral_caption(photo), kind, row)
                taken += 1
    first = photos[about.trained_rows[0]]
    subject = first.trigger or "", first.class_word or ""
    if finalists.contexts is not None:
        contexts = [_pair(template, subject) for template in finalists.contexts]
    else:
        left = [pair for pair in _left(score, subject) if pair[0] not in used]
        own = [_pair(template, subject) for template in score.probe.contexts]
        contexts = left[: FRESH * len(own)] if len(left) >= len(own) else [*left, *own][: len(own)]
    for prompt, neutral in contexts:
        rows.setdefault(prompt, (neutral, "C", -1))
    num_seeds = finalists.seeds or score.probe.seeds
    seeds = [probe_seed(score, "finalists", i) for i in range(num_seeds)]
    entries = [(prompt, *rest, seed) for prompt, rest in rows.items() for seed in seeds]
    prompts, said, sets, photo_rows, drawn = (tuple(column) for column in zip(*entries, strict=True))
    return FreshPrompts(ProbeLabels(prompts, said, sets, photo_rows, drawn), num_seeds, len(used.intersection(rows)))


def _pair(template: str, subject: tuple[str, str]) -> tuple[str, str]:
    """A prompt in a new context, and the same without the trigger."""
    trigger, class_word = subject
    prompt, neutral = (context_caption(template, trigger=word, class_word=class_word) for word in (trigger, ""))
    return prompt, neutral


def _left(score: ScoreSection, subject: tuple[str, str]) -> list[tuple[str, str]]:
    """Contexts of which the probe has none: captions of moved subjects, where they are the study's own, else the list
    that comes along."""
    if tuple(score.shifted.contexts) == PLACES:
        return [_pair(template, subject) for template in FRESH_CONTEXTS]
    found = []
    for number, context in enumerate(score.shifted.contexts):
        words = {"context": context, "position": _WHERE[number % 3], "size": _SIZES[number % 2]}
        found.append(_pair(fill(score.shifted.caption, words), subject))
    return found

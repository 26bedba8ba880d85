"""What drawings and losses of a trained LoRA tell of the photos and captions it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metrics.captions.effects import Contrast, contrast, tag_effects
from metrics.captions.tags import TagTable
from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.image_descriptors import Traits
from metrics.photo_set.learning import farthest, learning, pulls
from metrics.trajectory.readings import Readings
from search.findings.before_training import CheckedPhotos
from search.probe.prompts import neutral_text
from search.record.data_check import Action, DataCheck, Evidence, Finding, Kind, TagEffect

Draw = Callable[[Sequence[str], Sequence[int], bool], np.ndarray]
"""(prompts, seeds, by the LoRA rather than by the base) → uint8 `[n, H, W, 3]`."""
_SCATTERS, _OFF = 2.0, 3.0  # of the readings `scatter` (a ratio) and `framing` (robust standard deviations)
_UNDONE: Mapping[str, tuple[Kind, Action]] = {
    "absorbed": ("tag_absorbed", "reword"),
    "lost": ("tag_lost", "reword"),
    "unknown to the base": ("tag_unknown_to_base", "know"),
}


@dataclass(frozen=True)
class TagDrawings:
    """What each tag does, and a drawing without it beside one with it, uint8 `[H, 2·W, 3]`."""

    effects: tuple[TagEffect, ...]
    pairs: Mapping[str, np.ndarray]


def draw_tags(
    photos: CheckedPhotos,
    encoder: Encoder,
    draw: Draw,
    *,
    seeds: Sequence[int],
    captions: int,
    most: int,
) -> TagDrawings:
    """Draws with and without each tag, by the LoRA and by its base, and says what each tag does.

    Args:
        seeds: of each prompt. captions: at most so many of those that say a tag. most: tags, those most used.
    """
    table = photos.tags
    asked = _asked(photos, table, captions, most)
    prompts = list(dict.fromkeys(prompt for pairs in asked.values() for pair in pairs for prompt in pair))
    places = {prompt: index for index, prompt in enumerate(prompts)}
    each = [(prompt, seed) for prompt in prompts for seed in seeds]
    if not each:
        return TagDrawings((), {})
    neutral = [neutral_text(prompt, photos.trigger, photos.class_word) for prompt in prompts]
    drawn = {
        True: draw([prompt for prompt, _ in each], [seed for _, seed in each], True),
        # the base knows no trigger: it is asked for the class
        False: draw([neutral[places[prompt]] for prompt, _ in each], [seed for _, seed in each], False),
    }
    features = {trained: encoder.images(images, cache=False) for trained, images in drawn.items()}
    texts = encoder.texts(neutral)
    contrasts, shown = list[Contrast](), dict[str, np.ndarray]()
    for tag, pairs in asked.items():
        rows = [
            [places[pair[side]] * len(seeds) + place for pair in pairs for place in range(len(seeds))]
            for side in (0, 1)
        ]
        said = [texts[[places[pair[side]] for pair in pairs for _ in seeds]] for side in (0, 1)]
        contrasts.append(
            contrast(
                (features[True][rows[0]], features[True][rows[1]]),
                (features[False][rows[0]], features[False][rows[1]]),
                (said[0], said[1]),
            )
        )
        shown[tag] = np.concatenate([drawn[True][rows[1][0]], drawn[True][rows[0][0]]], axis=1)
    effects = tuple(
        TagEffect(tag, *found.lora, *found.base, *found.always, found.chance, found.verdict)
        for tag, found in zip(asked, tag_effects(contrasts), strict=True)
    )
    return TagDrawings(effects, shown)


def with_training(
    check: DataCheck,
    photos: CheckedPhotos,
    effects: Sequence[TagEffect],
    more: Sequence[Finding],
) -> DataCheck:
    """The check of the photos by themselves, with what the training has shown."""
    everywhere = {finding.tag for finding in check.findings if finding.kind == "tag_everywhere"}
    tags = [finding for finding in _tag_findings(effects) if finding.tag not in everywhere]
    found = sorted((*more, *tags), key=lambda finding: not finding.needs_change)
    return replace(check, findings=(*check.findings, *found), tags=tuple(effects), trained=True)


def drawing_findings(
    photos: CheckedPhotos,
    of_photos: Traits,
    readings: Readings,
    drawn: np.ndarray,
    base: np.ndarray,
) -> Iterator[Finding]:
    """Colours that scatter, framing that is off, and photos that pull drawings, each with the photos behind it.

    Args:
        of_photos: `metrics.checkpoint.image_descriptors.measure` of the photos, their features among it.
        readings: of the last checkpoint.
        drawn, base: features of drawings that ask for what the photos do not show, by the LoRA and by the base.
    """
    spreads: tuple[tuple[Kind, str, float, np.ndarray, str, float], ...] = (
        ("colours_scatter", "scatter", _SCATTERS, of_photos.colour_means, "variance of colours between drawings", 1.0),
        ("framing_off", "framing", _OFF, of_photos.framings, "distance of framing, in spreads", 0.0),
    )
    for kind, channel, limit, rows, name, usual in spreads:
        reading = readings.channels.get(channel)
        if reading is None or not reading.low > limit:
            continue
        causes = tuple(photos.files[row] for row in farthest(rows)[:4])
        evidence = Evidence(name, reading.value, reading.low, reading.high, usual, "the photos")
        yield Finding(kind, "know", causes, evidence=(evidence,))
    if len(drawn) and of_photos.features.shape[1]:
        for row in np.flatnonzero(pulls(drawn, base, of_photos.features)):
            share = float(((drawn @ of_photos.features.T).argmax(axis=1) == row).mean())
            before = float(((base @ of_photos.features.T).argmax(axis=1) == row).mean())
            name = "% of new drawings that are nearest to it"
            evidence = Evidence(name, 100 * share, usual=100 * before, usual_is="the base's drawings")
            yield Finding("pulls_drawings", "know", (photos.files[row],), evidence=(evidence,))


def learning_findings(
    files: Sequence[str], epochs: Sequence[int], losses: np.ndarray, base: np.ndarray
) -> Iterator[Finding]:
    """Photos that are learned first, and those that never are, over the whole training.

    Args:
        files: of the photos trained on. epochs: of the checkpoints, rising.
        losses: `[E, N, levels, draws]`. base: `[N, levels, draws]`.
    """
    found = learning(losses, base)
    sides: tuple[tuple[Kind, np.ndarray], ...] = (
        ("never_fitted", found.never_fitted),
        ("memorised_first", found.memorised_first),
    )
    for kind, which in sides:
        for row in np.flatnonzero(which).tolist():
            change, low, high, usual = (
                100 * (float(np.exp(value)) - 1)
                for value in (
                    found.ratio[-1, row], found.low[-1, row], found.high[-1, row], np.median(found.ratio[-1])
                )
            )  # fmt: skip
            evidence = [Evidence("change of its loss in %", change, low, high, usual)]
            if found.reached[row] < len(epochs):
                name = "epoch at which its loss was as low as the others' at the end"
                reached, last = float(epochs[found.reached[row]]), float(epochs[-1])
                evidence.append(Evidence(name, reached, usual=last, usual_is="the end"))
            yield Finding(kind, "know", (files[row],), evidence=tuple(evidence))


def _asked(photos: CheckedPhotos, table: TagTable, captions: int, most: int) -> dict[str, list[tuple[str, str]]]:
    """Of each tag (prompt with it, prompt without it), from captions spread over those that say it."""
    columns = sorted(range(len(table.tags)), key=lambda tag: (-table.counts[tag], tag))[:most]
    found = {}
    for tag in columns:
        rows = np.flatnonzero(table.says[:, tag])
        said = list(dict.fromkeys(photos.captions[row] for row in rows))
        first = {photos.captions[row]: int(row) for row in rows[::-1]}
        step = max(1, len(said) // captions)
        chosen = said[::step][:captions]
        found[table.tags[tag]] = [(caption, table.without(first[caption], tag)) for caption in chosen]
    return found


def _tag_findings(effects: Sequence[TagEffect]) -> Iterator[Finding]:
    for effect in effects:
        if effect.verdict not in _UNDONE:
            continue
        kind, action = _UNDONE[effect.verdict]
        evidence = [
            Evidence(
                "effect in drawings",
                effect.effect,
                effect.low,
                effect.high,
                effect.base,
                "the base's effect",
            )
        ]
        if kind == "tag_absorbed":
            name = "effect where the prompt does not ask for it"
            evidence.append(Evidence(name, effect.always, effect.always_low, effect.always_high))
        yield Finding(kind, action, tag=effect.tag, evidence=tuple(evidence))

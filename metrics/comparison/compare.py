"""A folder of generated images against a folder of training photos: what drifts and which photos are copied."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from metrics.channels.bootstrap import half_splits, reading_of_items
from metrics.channels.colour import burn, burn_null, drift, drift_null, scatter
from metrics.channels.composition import (
    distances,
    energy_null,
    framing_drift,
    framing_null,
    framing_unit,
    layout_drift,
    layout_vectors,
    small_grey,
)
from metrics.channels.copying import clear_copies, copying, copying_null
from metrics.channels.diversity import vendi_score
from metrics.channels.obedience import prompt_changes
from metrics.channels.similarity import (
    concept_axis,
    leave_one_out_cosines,
    left_out_projections,
    mean_cosines,
    near_duplicates,
)
from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.image_descriptors import Traits, measure
from metrics.comparison.copies import Pair, mirror_images, pairs_of
from metrics.comparison.other_subject import CHANCE, apartness
from metrics.comparison.twins import laid_on
from metrics.errors import MetricsError
from metrics.images.image_folder import ImageFolder
from metrics.trajectory.readings import Reading

NOTABLE, CLEAR = 2.0, 4.0  # null units
FEW_PHOTOS = 8  # below which up to a quarter of honest sets seem to hold a copy

# in the order of `channels.colour.BURN_FEATURES` and of `channels.composition.framing`: below the photos, above them
BURNS = (
    ("paler", "more saturated"), ("duller", "glaring"), ("fewer clipped pixels", "clipped pixels"),
    ("flatter", "harsher contrast"), ("less colourful", "more colourful"),
)  # fmt: skip
FRAMINGS = (("farther left", "farther right"), ("higher", "lower"), ("smaller", "larger"), ("taller", "wider"))

Level = Literal["fine", "notable", "clear"]


@dataclass(frozen=True)
class Measure:
    """One number about the samples.

    Attributes:
        name: key in the JSON; label: for people.
        value, low, high: with its 90 % interval.
        expected: what photos of the set would read in the samples' place.
        units: (value - expected) in standard deviations of the photos' own null, positive is worse; NaN without a null.
        says: a remark in words.
        level: how much it matters: fine, notable (about two units), clear (four, or clear copies).
    """

    name: str
    label: str
    value: float
    low: float
    high: float
    expected: float
    units: float
    says: str
    level: Level


@dataclass(frozen=True)
class FolderScores:
    """What `score_folders` found.

    Attributes:
        measures: in the order in which they are shown.
        pairs: one per sample, the nearest first.
        copied: photos that samples are copies of, with those samples.
        duplicates: photos that repeat another photo and are left out of all but the search for copies.
        notes: what was not measured, and why.
    """

    measures: tuple[Measure, ...]
    pairs: tuple[Pair, ...]
    copied: dict[str, tuple[str, ...]]
    duplicates: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict:
        """Plain data; NaN becomes None."""
        measures = {
            entry.name: {key: _plain(value) for key, value in asdict(entry).items() if key != "name"}
            for entry in self.measures
        }
        return {
            "measures": measures,
            "nearest": [asdict(pair) for pair in self.pairs],
            "copied": {photo: list(samples) for photo, samples in self.copied.items()},
            "duplicates": list(self.duplicates),
            "notes": list(self.notes),
        }


def score_folders(
    train: ImageFolder,
    samples: ImageFolder,
    base: ImageFolder | None,
    encoder: Encoder | None,
    identity_encoder: Encoder | None = None,
) -> FolderScores:
    """Everything that can be said about the samples without a diffusion model.

    Args:
        train: at least four photos that do not repeat each other.
        samples: at least three images.
        base: what the base draws without LoRA, for fidelity and burn; where names agree with those of the samples,
            prompts are compared image by image.
        encoder: None leaves what needs no network: colour, layout, copying by layout.

    Raises:
        MetricsError: too few images.
    """
    for folder, least, what in (
        (train, 4, "training photos"),
        (samples, 3, "samples"),
        (base, 3, "images of the base"),
    ):
        if folder is not None and len(folder) < least:
            raise MetricsError(f"{folder.root}: {len(folder)} {what}, at least {least} are needed")
    photos = measure(train.images, encoder, identity_encoder, cache=True)
    seen = measure(samples.images, encoder, identity_encoder)
    reference = None if base is None else measure(base.images, encoder, identity_encoder, cache=True)
    likeness = identity_encoder or encoder
    has_identity = likeness is not None
    kept = ~near_duplicates(photos.identity if has_identity else photos.layouts, photos.thumbnails)
    if kept.sum() < 4:
        raise MetricsError(
            f"{train.root}: {kept.sum()} photos and {(~kept).sum()} repeats of them, at least 4 are needed"
        )
    known = photos.rows(kept)
    laid = laid_on(samples.images, train.images)
    if likeness is not None:
        mirrored = likeness.images(mirror_images(samples.images), cache=False)
        pairs = pairs_of(samples.names, train.names, (seen.identity, mirrored), photos.identity, kept, laid)
    else:
        mirrored = layout_vectors(small_grey(mirror_images(samples.images)))
        pairs = pairs_of(samples.names, train.names, (seen.layouts, mirrored), photos.layouts, kept, laid)
    copies = sum(pair.copied for pair in pairs)

    measures: list[Measure] = []
    if has_identity:
        measures += _similarity(seen, known, reference)
        measures.append(_copying("copying", "copying", seen.identity, known.identity, copies))
    measures += judge(seen, known, reference, copies=None if has_identity else copies)
    if encoder is not None:
        measures.append(_diversity(seen, known))
        measures += _prompts(samples, base, seen, reference, encoder)
    copied: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        if pair.copied:
            copied[pair.photo] = (*copied.get(pair.photo, ()), pair.sample)
    duplicates = tuple(name for name, keep in zip(train.names, kept, strict=True) if not keep)
    notes = _notes(train, samples, base, {measure.name for measure in measures}, encoder)
    if len(known) < FEW_PHOTOS and any(pair.copied and not pair.same_picture for pair in pairs):
        notes = (
            *notes,
            f"with only {len(known)} photos chance can look like a copy: look at each sample that is called one",
        )
    return FolderScores(tuple(measures), tuple(pairs), copied, duplicates, notes)


def judge(seen: Traits, photos: Traits, base: Traits | None = None, *, copies: int | None = None) -> list[Measure]:
    """What needs no network: colours, layout and framing of the samples against the photos.

    Args:
        copies: how many layouts are clearly copied, where that is known.
    """
    return [*_colour(seen, photos, base), *_composition(seen, photos, copies), _framing(seen, photos)]


def _notes(
    train: ImageFolder, samples: ImageFolder, base: ImageFolder | None, measured: set[str], encoder: Encoder | None
) -> tuple[str, ...]:
    notes = []
    if "copying" not in measured:
        notes.append("no encoder: fidelity, prompts and diversity are not measured, copying is judged by layout")
    elif encoder is None:
        notes.append("no --encoder: prompts and diversity are not measured")
    if base is not None and base.root == samples.root:
        notes.append(f"the {len(base)} images of epoch 0 there count as the base's")
    if base is None:
        notes.append("no --base folder: fidelity is not measured, and burn is judged against the photos alone")
    if encoder is not None and encoder.has_texts and "clip_text" not in measured:
        with_prompt = sum(map(bool, samples.captions))
        notes.append(
            f"only {with_prompt} of {len(samples)} samples have their prompt beside or inside them: "
            "whether prompts are followed is not measured"
        )
    elif base is not None and "clip_text" in measured and "prompt_change" not in measured:
        notes.append(
            "fewer than 3 samples with a prompt have an image of the same name, or of the same prompt and seed, "
            "in --base: prompts not compared"
        )
    for folder in (train, samples, *([] if base is None else [base])):
        notes += folder.notes
    return tuple(notes)


def _similarity(seen: Traits, photos: Traits, base: Traits | None) -> list[Measure]:
    cosines, level = mean_cosines(seen.identity, photos.identity), leave_one_out_cosines(photos.identity)
    found = []
    if base is not None:
        axis = concept_axis(photos.identity, base.identity)
        origin = reading_of_items(base.identity.astype(np.float64) @ axis)
        ours = reading_of_items(seen.identity.astype(np.float64) @ axis)
        value = ours.value - origin.value  # the base's images are a few of many, too: its spread adds to ours
        low, high = (
            float(np.hypot(own - ours.value, other - origin.value))
            for own, other in ((ours.low, origin.high), (ours.high, origin.low))
        )
        # the unit is the photos' own mean, and they are few, too
        own = left_out_projections(photos.identity, base.identity)
        unsure = value * 1.645 * float(own.std(ddof=1)) / np.sqrt(len(own)) * float(np.linalg.norm(axis))
        reading = Reading(value, value - float(np.hypot(low, unsure)), value + float(np.hypot(high, unsure)))
        says = "more alike than photos are" if reading.low > 1 else "partly there" if reading.high < 0.9 else "learned"
        if reading.low <= 0:
            says = "not learned" if reading.high < 1 else "cannot be told from the base"
        level_of: dict[str, Level] = {"not learned": "clear", "more alike than photos are": "notable"}
        off = level_of.get(says, "fine")
        found.append(_measure("fidelity", "fidelity (0…1)", reading, 1.0, float("nan"), says, level=off))
    reading = reading_of_items(cosines)
    group = apartness(seen.identity, photos.identity)
    says = (
        "this is not your subject" if group.other else "as the photos" if group.chance > CHANCE else "not quite alike"
    )
    off = "clear" if group.other else "fine"
    found.append(_measure("subject", "apart from photos", group.reading, 0.0, float("nan"), says, level=off))
    found.append(_measure("similarity", "cosine to photos", reading, float(level.mean()), float("nan"), "raw cosine"))
    return found


def _copying(name: str, label: str, seen: np.ndarray, photos: np.ndarray, copies: int | None = None) -> Measure:
    reading = reading_of_items(copying(seen, photos, remove_duplicates=False))
    units = (reading.value - 0.5) / copying_null(len(seen), len(photos))
    says = (
        "nearer than photos are" if units > NOTABLE else "farther than photos" if units < -NOTABLE else "as the photos"
    )
    copies = int(clear_copies(seen, photos).sum()) if copies is None else copies
    if copies:  # few copies, or few photos, do not show in an AUC
        return _measure(name, f"{label}, AUC", reading, 0.5, units, f"{copies} of {len(seen)} copied", level="clear")
    return _measure(name, f"{label}, AUC", reading, 0.5, units, says)


def _colour(seen: Traits, photos: Traits, base: Traits | None) -> list[Measure]:
    z, items = drift(seen.colour_cdfs, photos.colour_cdfs, drift_null(photos.colour_cdfs))
    z = _in_units(z, len(photos))
    found = [_measure("colour", "colour drift, z", reading_of_items(items), 0.0, z, _drift_words(z))]
    outside = burn(seen.burn, photos.burn if base is None else base.burn, photos.burn)
    worst = int(outside.mean(axis=0).argmax())
    reading = reading_of_items(outside[:, worst])
    # any of the features, on either side
    units = _in_units(reading.value / burn_null(len(seen), len(photos)), len(photos), looked_at=2 * len(BURNS))
    difference = seen.burn[:, worst].mean() - photos.burn[:, worst].mean()
    says = BURNS[worst][int(difference > 0)] if units > NOTABLE else "as the photos"
    found.append(_measure("burn", "burn", reading, 0.0, units, says))
    ratio = reading_of_items(scatter(seen.colour_means, photos.colour_means))
    units = float(np.log(max(ratio.value, 1e-3)) / _scatter_null(photos.colour_means, len(seen)))
    says = "images too unlike" if units > NOTABLE else "colours all alike" if units < -CLEAR else "as the photos"
    level: Level | None = "notable" if units < -CLEAR else None
    found.append(_measure("scatter", "colour scatter", ratio, 1.0, units, says, level=level))
    return found


def _in_units(z: float, num_photos: int, *, looked_at: int = 1) -> float:
    """Standard deviations of a normal law that are as rare as z: few photos know their own spread badly (Student's
    law), and the worst of several readings is often large (Bonferroni; then at least 0)."""
    from scipy.stats import norm, t

    chance = max(looked_at * float(t.sf(abs(z), num_photos - 1)), 1e-300)
    return float(np.copysign(norm.isf(min(chance, 0.5)), z))


def _scatter_null(means: np.ndarray, num_samples: int) -> float:
    """Standard deviation of the log ratio of two halves' scatter, scaled to the sizes compared."""
    ratios = []
    for half in half_splits(len(means)):
        first, second = (means[rows].var(axis=0, ddof=1).sum() for rows in (half, ~half))
        ratios.append(np.log(max(first, 1e-9) / max(second, 1e-9)))
    scale = np.sqrt((1 / num_samples + 1 / len(means)) / (4 / len(means)))
    return max(float(np.std(ratios)) * float(scale), 0.05)


def _composition(seen: Traits, photos: Traits, copies: int | None) -> list[Measure]:
    null = energy_null(distances(photos.layouts, photos.layouts))
    z, items = layout_drift(seen.layouts, photos.layouts, null)
    z = _in_units(z, len(photos))
    says = _drift_words(z) if z > -NOTABLE else "nearer than photos are: copied?"
    drifted = _measure("composition", "layout drift, z", reading_of_items(items), 0.0, z, says)
    return [drifted, _copying("layout_copying", "layout copying", seen.layouts, photos.layouts, copies)]


def _framing(seen: Traits, photos: Traits) -> Measure:
    z, items = framing_drift(seen.framings, photos.framings, framing_null(photos.framings))
    z = _in_units(z, len(photos))
    moved = (seen.framings.mean(axis=0) - photos.framings.mean(axis=0)) / framing_unit(photos.framings)
    most = int(np.abs(moved).argmax())
    says = FRAMINGS[most][int(moved[most] > 0)] if z > NOTABLE else "as the photos"
    return _measure("framing", "framing drift, z", reading_of_items(items), 0.0, z, says)


def _diversity(seen: Traits, photos: Traits) -> Measure:
    """Vendi score of random groups of the samples ÷ that of equally large groups of photos; judged on its logarithm, so
    that samples that are all one image lie as far off as they are."""
    size = max(2, min(len(seen), len(photos)) // 2)
    generator = np.random.default_rng(0)
    scores = [
        np.array([vendi_score(rows[generator.permutation(len(rows))[:size]]) for _ in range(60)])
        for rows in (seen.features, photos.features)
    ]
    ratio = (scores[0] - 1) / max(float(scores[1].mean() - 1), 1e-6)
    spread = float(np.log(np.maximum(scores[1] - 1, 1e-6)).std()) * np.sqrt(2)
    value = float(ratio.mean())
    reading = Reading(value, float(np.quantile(ratio, 0.05)), float(np.quantile(ratio, 0.95)))
    units = -float(np.log(max(value, 1e-6))) / max(spread, 0.02)
    says = {"clear": "all alike", "notable": "less varied", "fine": "as varied as the photos"}[_level_of(units)]
    return _measure("diversity", "diversity, ratio", reading, 1.0, units, says)


def _prompts(
    samples: ImageFolder, base: ImageFolder | None, seen: Traits, reference: Traits | None, encoder: Encoder | None
) -> list[Measure]:
    rows = [row for row, caption in enumerate(samples.captions) if caption]
    if encoder is None or not encoder.has_texts or len(rows) < 3:
        return []
    texts = encoder.texts([samples.captions[row] for row in rows])
    reading = reading_of_items((seen.features[rows].astype(np.float64) * texts).sum(axis=1))
    found = [_measure("clip_text", "cosine to prompts", reading, float("nan"), float("nan"), "raw cosine")]
    where = {} if base is None else dict(samples.pairs(base))
    both = [(row, text) for row, text in zip(rows, texts, strict=True) if row in where]
    if reference is not None and len(both) >= 3:
        mine = seen.features[[row for row, _ in both]]
        theirs = reference.features[[where[row] for row, _ in both]]
        reading = reading_of_items(prompt_changes(mine, theirs, np.stack([text for _, text in both])))
        units = -reading.value / max(float((theirs @ texts.T).std()) / np.sqrt(len(both)), 1e-4)
        says = "prompts are obeyed less" if reading.high < 0 else "prompts are obeyed"
        found.append(_measure("prompt_change", "prompt, change", reading, 0.0, units, says))
    return found


def _measure(
    name: str, label: str, reading: Reading, expected: float, units: float, says: str, *, level: Level | None = None
) -> Measure:
    level = level or _level_of(units)
    return Measure(name, label, reading.value, reading.low, reading.high, expected, float(units), says, level)


def _level_of(units: float) -> Level:
    return "clear" if units > CLEAR else "notable" if units > NOTABLE else "fine"


def _drift_words(z: float) -> str:
    return {"clear": "drifted", "notable": "slightly off", "fine": "as the photos"}[_level_of(z)]


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not np.isfinite(value) else value

"""A folder of generated images against a folder of training photos: what drifts and which photos are copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from metrics.bootstrap import half_splits, reading_of_items
from metrics.colour import BURN_FEATURES, burn, burn_null, drift, drift_null, scatter
from metrics.composition import distances, energy_null, layout_drift
from metrics.copying import copying, copying_null, leave_one_out_nearest
from metrics.diversity import vendi_score
from metrics.encoders import Encoder
from metrics.errors import MetricsError
from metrics.obedience import prompt_changes
from metrics.readings import Reading
from metrics.similarity import concept_axis, leave_one_out_cosines, mean_cosines, near_duplicates
from metrics.traits import Traits, measure

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
LONGEST_SIDE = 768  # larger images are reduced on reading: no channel sees more
NOTABLE, CLEAR = 2.0, 4.0  # null units


@dataclass(frozen=True)
class ImageFolder:
    """Images of one folder and its subfolders, in the order of their names.

    Attributes:
        names: relative paths.
        images: uint8 `[H, W, 3]`.
        captions: text of the `.txt` beside each image, "" without one.
    """

    root: Path
    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Measure:
    """One number about the samples.

    Attributes:
        name: key in the JSON; label: for people.
        value, low, high: with its 90 % interval.
        expected: what photos of the set would read in the samples' place.
        units: (value - expected) in standard deviations of the photos' own null, positive is worse; NaN without a null.
        says: a remark in words.
    """

    name: str
    label: str
    value: float
    low: float
    high: float
    expected: float
    units: float
    says: str


@dataclass(frozen=True)
class Pair:
    """A sample and its nearest photo. `beyond` is the share of photos that have no photo as near as that."""

    sample: str
    photo: str
    similarity: float
    beyond: float


@dataclass(frozen=True)
class FolderScores:
    """What `score_folders` found.

    Attributes:
        measures: in the order in which they are shown.
        pairs: one per sample, the nearest first.
        copied: photos that are some sample's nearest at `beyond` of 0.95 or more, with the samples that come that near.
        duplicates: photos that repeat another photo and were left out.
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


def read_folder(root: str | Path) -> ImageFolder:
    """Read all images of a folder (EXIF orientation applied, alpha laid on white, reduced to `LONGEST_SIDE`).

    Raises:
        MetricsError: no such folder, no image in it, or an image that cannot be read, by name.
    """
    from PIL import Image, ImageOps

    root = Path(root)
    if not root.is_dir():
        raise MetricsError(f"no such folder: {root}")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise MetricsError(f"no images in {root} (looked for {', '.join(sorted(SUFFIXES))})")
    images, captions = [], []
    for path in paths:
        try:
            with Image.open(path) as file:
                file.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
                picture = ImageOps.exif_transpose(file)
                if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                    picture = picture.convert("RGBA")
                    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
                if picture.mode.startswith("I;16"):
                    picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
                picture = picture.convert("RGB")
                picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        except (OSError, ValueError, SyntaxError) as error:
            raise MetricsError(f"cannot read image {path}: {error}") from error
        images.append(np.asarray(picture))
        text = path.with_suffix(".txt")
        captions.append(text.read_text(encoding="utf-8", errors="replace").strip() if text.is_file() else "")
    return ImageFolder(root, tuple(path.relative_to(root).as_posix() for path in paths), tuple(images), tuple(captions))


def score_folders(
    train: ImageFolder,
    samples: ImageFolder,
    base: ImageFolder | None,
    encoder: Encoder | None,
    identity_encoder: Encoder | None = None,
) -> FolderScores:
    """Everything that can be said about the samples without a diffusion model.

    Args:
        train: at least four photos.
        samples: at least three images.
        base: what the base draws without LoRA, for fidelity and burn; where names agree with those of the samples,
            prompts are compared image by image.
        encoder: None leaves what needs no network: colour, layout, copying by layout.

    Raises:
        MetricsError: too few images.
    """
    for folder, least, what in ((train, 4, "training photos"), (samples, 3, "samples")):
        if len(folder) < least:
            raise MetricsError(f"{folder.root}: {len(folder)} {what}, at least {least} are needed")
    photos = measure(train.images, encoder, identity_encoder, cache=True)
    seen = measure(samples.images, encoder, identity_encoder)
    reference = None if base is None else measure(base.images, encoder, identity_encoder, cache=True)
    has_features = bool(photos.identity.shape[1])
    repeated = near_duplicates(photos.identity if has_features else photos.layouts, photos.thumbnails)
    kept = ~repeated if (~repeated).sum() >= 4 else np.ones(len(train), bool)
    known = photos.rows(kept)
    names = [name for name, keep in zip(train.names, kept, strict=True) if keep]

    notes = []
    measures: list[Measure] = []
    if has_features:
        measures += _similarity(seen, known, reference)
        measures.append(_copying("copying", "copying", seen.identity, known.identity))
    else:
        notes.append("no encoder: fidelity, prompts and diversity are not measured, copying is judged by layout")
    if base is None:
        notes.append("no --base folder: fidelity is not measured, and burn is judged against the photos alone")
    measures += _colour(seen, known, reference)
    measures += _composition(seen, known)
    if has_features:
        measures.append(_diversity(seen, known))
        measures += _prompts(samples, base, seen, reference, encoder)
    pairs = _pairs(
        samples.names, names, *((seen.identity, known.identity) if has_features else (seen.layouts, known.layouts))
    )
    copied: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        if pair.beyond >= 0.95:
            copied[pair.photo] = (*copied.get(pair.photo, ()), pair.sample)
    duplicates = tuple(name for name, keep in zip(train.names, kept, strict=True) if not keep)
    return FolderScores(tuple(measures), tuple(pairs), copied, duplicates, tuple(notes))


def _similarity(seen: Traits, photos: Traits, base: Traits | None) -> list[Measure]:
    cosines, level = mean_cosines(seen.identity, photos.identity), leave_one_out_cosines(photos.identity)
    found = []
    if base is not None:
        axis = concept_axis(photos.identity, base.identity)
        reading = reading_of_items((seen.identity.astype(np.float64) - base.identity.mean(axis=0)) @ axis)
        says = "more alike than photos are" if reading.low > 1 else "partly there" if reading.high < 0.9 else "learned"
        found.append(_measure("fidelity", "fidelity (0…1)", reading, 1.0, float("nan"), says))
    reading = reading_of_items(cosines)
    found.append(_measure("similarity", "cosine to photos", reading, float(level.mean()), float("nan"), "raw cosine"))
    return found


def _copying(name: str, label: str, seen: np.ndarray, photos: np.ndarray) -> Measure:
    reading = reading_of_items(copying(seen, photos, remove_duplicates=False))
    units = (reading.value - 0.5) / copying_null(len(seen), len(photos))
    says = "photos are copied" if units > CLEAR else "near the photos" if units > NOTABLE else "as the photos"
    says = "farther than photos" if units < -NOTABLE else says
    return _measure(name, f"{label}, AUC", reading, 0.5, units, says)


def _colour(seen: Traits, photos: Traits, base: Traits | None) -> list[Measure]:
    z, items = drift(seen.colour_cdfs, photos.colour_cdfs, drift_null(photos.colour_cdfs))
    found = [_measure("colour", "colour drift, z", reading_of_items(items), 0.0, z, _drift_words(z))]
    outside = burn(seen.burn, photos.burn if base is None else base.burn, photos.burn)
    worst = int(outside.mean(axis=0).argmax())
    reading = reading_of_items(outside[:, worst])
    units = reading.value / burn_null(len(seen), len(photos))
    difference = seen.burn[:, worst].mean() - photos.burn[:, worst].mean()
    says = f"{'more' if difference > 0 else 'less'} {BURN_FEATURES[worst]}" if units > NOTABLE else "within"
    found.append(_measure("burn", "burn", reading, 0.0, units, says))
    ratio = reading_of_items(scatter(seen.colour_means, photos.colour_means))
    units = float(np.log(max(ratio.value, 1e-3)) / _scatter_null(photos.colour_means, len(seen)))
    says = "colours scatter" if units > NOTABLE else "colours all alike" if units < -CLEAR else "as the photos"
    found.append(_measure("scatter", "colour scatter", ratio, 1.0, units, says))
    return found


def _scatter_null(means: np.ndarray, num_samples: int) -> float:
    """Standard deviation of the log ratio of two halves' scatter, scaled to the sizes compared."""
    ratios = []
    for half in half_splits(len(means)):
        first, second = (means[rows].var(axis=0, ddof=1).sum() for rows in (half, ~half))
        ratios.append(np.log(max(first, 1e-9) / max(second, 1e-9)))
    scale = np.sqrt((1 / num_samples + 1 / len(means)) / (4 / len(means)))
    return max(float(np.std(ratios)) * float(scale), 0.05)


def _composition(seen: Traits, photos: Traits) -> list[Measure]:
    null = energy_null(distances(photos.layouts, photos.layouts))
    z, items = layout_drift(seen.layouts, photos.layouts, null)
    says = _drift_words(z) if z > -NOTABLE else "nearer than photos are: copied?"
    drifted = _measure("composition", "layout drift, z", reading_of_items(items), 0.0, z, says)
    return [drifted, _copying("layout_copying", "layout copying", seen.layouts, photos.layouts)]


def _diversity(seen: Traits, photos: Traits) -> Measure:
    """Vendi score of random groups of the samples ÷ that of equally large groups of photos."""
    size = max(2, min(len(seen), len(photos)) // 2)
    generator = np.random.default_rng(0)
    scores = [
        np.array([vendi_score(rows[generator.permutation(len(rows))[:size]]) for _ in range(60)])
        for rows in (seen.features, photos.features)
    ]
    ratio = (scores[0] - 1) / max(float(scores[1].mean() - 1), 1e-6)
    spread = float(scores[1].std() / max(scores[1].mean() - 1, 1e-6)) * np.sqrt(2)
    value = float(ratio.mean())
    reading = Reading(value, float(np.quantile(ratio, 0.05)), float(np.quantile(ratio, 0.95)))
    units = (1 - value) / max(spread, 0.02)
    says = "all alike" if units > CLEAR else "less varied" if units > NOTABLE else "as varied as the photos"
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
    where = {} if base is None else {name: row for row, name in enumerate(base.names)}
    both = [(row, text) for row, text in zip(rows, texts, strict=True) if samples.names[row] in where]
    if reference is not None and len(both) >= 3:
        mine = seen.features[[row for row, _ in both]]
        theirs = reference.features[[where[samples.names[row]] for row, _ in both]]
        reading = reading_of_items(prompt_changes(mine, theirs, np.stack([text for _, text in both])))
        units = -reading.value / max(float((theirs @ texts.T).std()) / np.sqrt(len(both)), 1e-4)
        says = "prompts are obeyed less" if reading.high < 0 else "prompts are obeyed"
        found.append(_measure("prompt_change", "prompt, change", reading, 0.0, units, says))
    return found


def _pairs(samples: Sequence[str], photos: Sequence[str], seen: np.ndarray, known: np.ndarray) -> list[Pair]:
    cosines = seen.astype(np.float64) @ known.astype(np.float64).T
    nearest, similarity = cosines.argmax(axis=1), cosines.max(axis=1)
    levels = leave_one_out_nearest(known)
    pairs = [
        Pair(
            samples[row], photos[nearest[row]], float(similarity[row]), float((levels < similarity[row] - 1e-6).mean())
        )
        for row in range(len(samples))
    ]
    return sorted(pairs, key=lambda pair: -pair.similarity)


def _measure(name: str, label: str, reading: Reading, expected: float, units: float, says: str) -> Measure:
    return Measure(name, label, reading.value, reading.low, reading.high, expected, float(units), says)


def _drift_words(z: float) -> str:
    return "drifted" if z > CLEAR else "slightly off" if z > NOTABLE else "as the photos"


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not np.isfinite(value) else value

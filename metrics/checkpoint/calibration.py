"""What a study's checkpoints are judged against: the photos, the base's images and losses, and their own nulls."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from metrics.channels.colour import drift_null
from metrics.channels.composition import distances, energy_null, framing_null
from metrics.channels.similarity import concept_axis, near_duplicates
from metrics.checkpoint.encoders import Encoder, Images
from metrics.checkpoint.image_descriptors import Traits, measure
from metrics.checkpoint.recognition import recogniser
from metrics.errors import MetricsError, mistake, nearest
from metrics.files import write_whole
from metrics.trajectory.readings import WEIGHTED

VERSION = 6


@dataclass(frozen=True)
class ProbeLabels:
    """What each of the probe's n images was asked for.

    Attributes:
        prompts: as drawn, with the trigger.
        neutral: the same with the class word for the trigger, which an encoder understands.
        sets: "A" a trained photo's caption, "B" a held-out photo's caption, "C" a novel context.
        photo: row of the photo whose caption it is, -1 in set C.
        seeds: of the initial noise.
    """

    prompts: tuple[str, ...]
    neutral: tuple[str, ...]
    sets: tuple[str, ...]
    photo: tuple[int, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, entry.name)) for entry in fields(self)}
        if len(lengths) != 1:
            raise MetricsError("probe labels: prompts, neutral, sets, photo and seeds need one entry per image")
        if set(self.sets) - {"A", "B", "C"}:
            raise mistake("probe labels: sets", sorted(set(self.sets) - set("ABC"))[0], "A, B or C")

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def prompt_numbers(self) -> np.ndarray:
        """`[n]`, equal for images of one prompt."""
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(self.prompts))}
        return np.array([numbers[prompt] for prompt in self.prompts])

    @property
    def from_set(self) -> np.ndarray:
        """Boolean `[n]`: drawn from a photo's caption. All images where fewer than three are."""
        own = np.array([kind != "C" for kind in self.sets])
        return own if own.sum() >= 3 else np.ones(len(self), bool)

    @property
    def contexts(self) -> np.ndarray:
        """Boolean `[n]`: what prompt obedience is judged on, set C, or all where it has fewer than two contexts."""
        novel = np.array([kind == "C" for kind in self.sets])
        distinct = {text for text, kind in zip(self.neutral, self.sets, strict=True) if kind == "C"}
        return novel if len(distinct) >= 2 else np.ones(len(self), bool)


@dataclass(frozen=True)
class Calibration:
    """Made once per study by `calibrate`; `save` and `load` keep it, so that a restarted worker gives the same numbers.

    Attributes:
        labels: of the probe.
        trained: boolean `[N]`, which photos are trained on.
        kept: boolean `[N]`, trained and no near-duplicate of an earlier one: the X of every distance.
        photos, base: traits of all photos and of the base's probe images.
        texts: unit rows `[n, D]` of the neutral prompts, `[n, 0]` without a text encoder.
        axis: `[D]`, the direction of `fidelity`, or `[0]` without an encoder.
        subject: `[D + 1]`, the line of `recognised`, or `[0]` without moved subjects and their spoiled twins.
        critic: the mean gain of trained photos under a critic, which an image that shows the subject has; 0 without
            one, or where it has learned nothing.
        colour_null: mean and standard deviation of the colour distance between halves of X; NaN below four photos.
        layout_null, framing_null: standard deviation of the energy distance of layouts, and of framings in their
            units, between halves of X; NaN below four photos.
        base_losses: name to `[N, levels, draws]`.
        shifted_photo: `[M]`, which photo each composite was cut from, or empty.
        weights: channel to the weight of its excess in the score; 1 where absent.
        encoder, identity_encoder: resident, not saved.
    """

    labels: ProbeLabels
    trained: np.ndarray
    kept: np.ndarray
    photos: Traits
    base: Traits
    texts: np.ndarray
    axis: np.ndarray
    subject: np.ndarray
    colour_null: tuple[float, float]
    layout_null: float
    framing_null: float
    base_losses: Mapping[str, np.ndarray]
    shifted_photo: np.ndarray
    weights: Mapping[str, float]
    critic: float = 0.0
    encoder: Encoder | None = None
    identity_encoder: Encoder | None = None

    @property
    def duplicates(self) -> np.ndarray:
        """Boolean `[N]`: trained photos that repeat an earlier one."""
        return self.trained & ~self.kept

    def for_images(self, labels: ProbeLabels, base_images: Images) -> Calibration:
        """The same rule for images of other prompts and seeds, which the base has drawn, too. No losses are read.

        Photos, what tells the subject, nulls and weights stay as they are, so that scores compare.

        Raises:
            MetricsError: another number of images than labels.
        """
        if len(base_images) != len(labels):
            raise MetricsError(f"calibration: {len(base_images)} base images with {len(labels)} labels")
        texts = np.zeros((len(labels), 0), np.float32)
        if self.encoder is not None and self.texts.shape[1]:
            texts = self.encoder.texts(labels.neutral)
        return replace(
            self,
            labels=labels,
            base=measure(base_images, self.encoder, self.identity_encoder, cache=True),
            texts=texts,
            base_losses={},
            shifted_photo=np.zeros(0, np.int64),
        )

    def save(self, path: str | Path) -> None:
        """One npz file, whole or not at all."""
        about = {
            "version": VERSION,
            "labels": asdict(self.labels),
            "weights": dict(self.weights),
            "critic": self.critic,
            "encoder": _digest(self.encoder),
            "identity_encoder": _digest(self.identity_encoder),
        }
        arrays: dict[str, np.ndarray] = {
            "about": np.array(json.dumps(about)),
            "trained": self.trained,
            "kept": self.kept,
            "texts": self.texts,
            "axis": self.axis,
            "subject": self.subject,
            "nulls": np.array([*self.colour_null, self.layout_null, self.framing_null]),
            "shifted_photo": self.shifted_photo,
            **{f"base_losses.{name}": np.asarray(values) for name, values in self.base_losses.items()},
        }
        for owner in ("photos", "base"):
            traits: Traits = getattr(self, owner)
            arrays |= {f"{owner}.{entry.name}": getattr(traits, entry.name) for entry in fields(Traits)}
        write_whole(Path(path), lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))

    @classmethod
    def load(cls, path: str | Path, *, encoder: Encoder | None, identity_encoder: Encoder | None = None) -> Calibration:
        """Read what `save` wrote.

        Raises:
            MetricsError: no such file, another version, or made with another encoder.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(str(arrays["about"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise MetricsError(f"{path}: this calibration cannot be read ({error})") from error
        if about["version"] != VERSION:
            raise mistake(f"{path}: version", about["version"], str(VERSION), "make this calibration again")
        if [about["encoder"], about["identity_encoder"]] != [_digest(encoder), _digest(identity_encoder)]:
            raise MetricsError(f"{path}: this calibration was made with another encoder: make it again")
        labels = {name: tuple(values) for name, values in about["labels"].items()}
        traits = {
            owner: Traits(**{entry.name: _trait(arrays, owner, entry.name) for entry in fields(Traits)})
            for owner in ("photos", "base")
        }
        nulls = arrays["nulls"]
        return cls(
            labels=ProbeLabels(**labels),
            trained=arrays["trained"],
            kept=arrays["kept"],
            texts=arrays["texts"],
            axis=arrays["axis"],
            subject=arrays["subject"],
            colour_null=(float(nulls[0]), float(nulls[1])),
            layout_null=float(nulls[2]),
            framing_null=float(nulls[3]),
            base_losses={
                name.removeprefix("base_losses."): values
                for name, values in arrays.items()
                if name.startswith("base_losses.")
            },
            shifted_photo=arrays["shifted_photo"],
            weights=about["weights"],
            critic=about.get("critic", 0.0),
            encoder=encoder,
            identity_encoder=identity_encoder,
            **traits,
        )


def calibrate(
    photos: Images,
    trained: Sequence[bool],
    base_images: Images,
    labels: ProbeLabels,
    encoder: Encoder | None,
    *,
    identity_encoder: Encoder | None = None,
    base_losses: Mapping[str, np.ndarray] | None = None,
    shifted_photo: Sequence[int] | None = None,
    shifted_images: Images | None = None,
    spoiled_images: Images | None = None,
    weights: Mapping[str, float] | None = None,
    critic: float = 0.0,
) -> Calibration:
    """All leave-one-out levels and base nulls of a study.

    Args:
        photos: uint8 `[H, W, 3]`, trained and held-out ones, sizes may differ.
        trained: for each photo, whether it is trained on.
        base_images: the probe drawn by the base, uint8, one per label.
        encoder: for similarity and prompts; None leaves the channels of colour and layout.
        identity_encoder: for similarity to the photos and copying (DINOv2 through timm is the usual one); None:
            `encoder`.
        base_losses: `[N, levels, draws]` each of "heldout", "context" and "shifted" that is measured.
        shifted_photo: which photo each of the M composites was cut from, for honest intervals.
        shifted_images: those M composites, uint8; with `spoiled_images`, their spoiled twins, an image is judged by
            itself (`recognised`).
        weights: channel (`copying`, `colour`, `composition`, `diversity`) to the weight of its excess in the score.
        critic: as in `Calibration`.

    Raises:
        MetricsError: numbers that do not fit each other, or no trained photo.
    """
    mask = np.asarray(trained, bool)
    if len(mask) != len(photos) or len(base_images) != len(labels):
        raise MetricsError(
            f"calibrate: {len(photos)} photos with {len(mask)} flags, {len(base_images)} base images with "
            f"{len(labels)} labels"
        )
    if not mask.any():
        raise MetricsError("calibrate: no photo is trained on")
    if max(labels.photo) >= len(photos):
        raise MetricsError(f"calibrate: a label names photo {max(labels.photo)} of {len(photos)}")
    unknown = set(weights or {}) - set(WEIGHTED)
    if unknown:
        strange = sorted(unknown)[0]
        raise mistake("weights", strange, f"one of {', '.join(WEIGHTED)}{nearest(strange, WEIGHTED)}")
    photo_traits = measure(photos, encoder, identity_encoder, cache=True)
    base_traits = measure(base_images, encoder, identity_encoder, cache=True)
    kept = mask.copy()
    identity = photo_traits.identity if photo_traits.identity.shape[1] else photo_traits.layouts
    kept[np.flatnonzero(mask)] &= ~near_duplicates(identity[mask], photo_traits.thumbnails[mask])
    if kept.sum() < 3:
        kept = mask.copy()
    own = photo_traits.rows(kept)
    texts = np.zeros((len(labels), 0), np.float32)
    if encoder is not None and encoder.has_texts:
        texts = encoder.texts(labels.neutral)
    axis = np.zeros(0)
    if own.identity.shape[1]:
        axis = concept_axis(own.identity, base_traits.identity[labels.from_set])
    owners = np.asarray(shifted_photo if shifted_photo is not None else [], np.int64)
    moved, spoiled = (images if images is not None else [] for images in (shifted_images, spoiled_images))
    if len(moved) not in (0, len(owners)):
        raise MetricsError(f"calibrate: {len(moved)} moved subjects, and photos of {len(owners)}")
    subject = np.zeros(0)
    reader = identity_encoder or encoder
    if reader is not None and len(moved) and len(spoiled):
        distinct = np.flatnonzero(kept | ~mask)
        subject = recogniser(
            np.concatenate([photo_traits.identity[distinct], reader.images(moved)]),
            np.concatenate([distinct, owners]),
            reader.images(spoiled),
            base_traits.identity,
        )
    enough = kept.sum() >= 4
    return Calibration(
        labels=labels,
        trained=mask,
        kept=kept,
        photos=photo_traits,
        base=base_traits,
        texts=texts,
        axis=axis,
        subject=subject,
        colour_null=drift_null(own.colour_cdfs) if enough else (float("nan"), float("nan")),
        layout_null=energy_null(distances(own.layouts, own.layouts)) if enough else float("nan"),
        framing_null=framing_null(own.framings) if enough else float("nan"),
        base_losses=dict(base_losses or {}),
        shifted_photo=owners,
        weights=dict(weights or {}),
        critic=max(0.0, critic),
        encoder=encoder,
        identity_encoder=identity_encoder,
    )


def _trait(arrays: Mapping[str, np.ndarray], owner: str, name: str) -> np.ndarray:
    """An array of traits; of a calibration that was made before pixels were kept, none of them."""
    if name == "pixels":
        return arrays.get(f"{owner}.pixels", np.zeros((len(arrays[f"{owner}.colour_means"]), 0), np.float32))
    return arrays[f"{owner}.{name}"]


def _digest(encoder: Encoder | None) -> str | None:
    return None if encoder is None else encoder.digest

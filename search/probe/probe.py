"""The probe: what every checkpoint of a study is looked at with, built once, and the photos held out for it.

trainer and metrics get arrays and labels; that a study exists is known here only.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metrics.checkpoint.calibration import VERSION as CALIBRATION_VERSION
from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.objective import scored_by
from metrics.checkpoint.score import Calibration, ProbeLabels, calibrate, read_checkpoint
from metrics.comparison.twins import twins
from metrics.errors import MetricsError
from metrics.subjects.composites import composites_sheet, make_composites
from metrics.subjects.spoiled_twins import make_spoiled_twins
from metrics.trajectory.readings import Readings
from search.probe.drawing import drawing_of, precision_of
from search.probe.photo_masks import photo_masks
from search.probe.probe_files import PROBE_FILES, building, keep_probe_file
from search.probe.prompts import composite_captions, neutral_caption, probe_labels, probe_seed
from search.record.events import load_readings, save_readings
from search.record.lock import locked
from search.record.probe_description import PROBE_FILE, ProbeDescription
from search.record.record import write_samples
from search.study.objective import Objective, base_scored
from search.study.settings import ScoreSection
from search.study.split import given_split, in_contexts, split, with_twins
from search.study.study import Study
from trainer.config.config import TrainConfig
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset, Photo, load_pixels, scan_dataset
from trainer.families import Base
from trainer.files import shown
from trainer.inference.evaluate import Evaluation
from trainer.inference.sample import sample, with_lora
from trainer.lora.lora import LoraWeights

BUILD_SECONDS = 3600.0  # how long other workers wait for the one that builds the probe
_BACKGROUNDS_PER_CONTEXT = 2


@dataclass
class Probe:
    """Built by `open_probe`.

    Attributes:
        labels: one entry per image; the seeds of a prompt stand side by side.
        num_seeds: images per prompt.
        trained: the photos to train on, regularisation images among them. everything: those held out as well.
        losses: "heldout", "context" and "shifted", those that are measured.
        base_images, base_readings: epoch 0.
        added: prompts that are drawn beneath and not scored.
        objective: what makes the score, where it is not ours.
        precision: "bf16" or "fp16" to draw and measure under autocast, None as the base is.
        notices: what the user should be told.
    """

    base: Base
    cache: LatentCache
    config: TrainConfig
    score: ScoreSection
    labels: ProbeLabels
    num_seeds: int
    trained: Dataset
    everything: Dataset
    losses: dict[str, Evaluation]
    calibration: Calibration
    base_images: np.ndarray
    base_readings: Readings
    precision: str | None
    notices: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    objective: Objective | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """What the user should be told of the base and of this."""
        return (*(f"the base: {notice}" for notice in self.base.notices), *self.notices)

    def read(
        self,
        lora: LoraWeights,
        *,
        epoch: int,
        effort: float,
        twin: LoraWeights | None = None,
        say: Callable[[str], None] = lambda what: None,
    ) -> tuple[Readings, np.ndarray, dict[str, float]]:
        """Look at a checkpoint: (readings, images uint8 [n, H, W, 3] with those of added prompts at the end, seconds by
        "sample" and "score").

        Args:
            twin: the LoRA that the losses are measured with, where this one has seen the photos held out.
        """
        began = time.perf_counter()
        trains_text = any(component != "denoiser" for component, _ in lora.modules)
        # merged once for drawing and losses; encoders that the LoRA changes need it each time
        inner = lora if trains_text else None
        with with_lora(self.base, None if trains_text else lora):
            say("drawing")
            images, more = _draw(self, inner), _draw_added(self, inner)
            drawn = time.perf_counter()
            say("scoring")
            losses = {} if twin is not None else _losses(self, inner)
        if twin is not None:
            with with_lora(self.base, None if trains_text else twin):
                losses = _losses(self, twin if trains_text else None)
        found = read_checkpoint(
            self.calibration, epoch=epoch, effort=effort, images=images, losses=losses, unseen=twin is None
        )
        readings = scored_by(self.objective, found)
        return readings, np.concatenate([images, more]), {"sample": drawn - began, "score": time.perf_counter() - drawn}

    def draw(self, lora: LoraWeights | None, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Any prompts, drawn as the probe's are: uint8 `[n, H, W, 3]`, by the base where there is no LoRA."""
        return sample(
            self.base,
            lora,
            prompts,
            seeds,
            **drawing_of(self.score, self.config),
            precision=self.precision,
            cache=self.cache,
        )


def open_probe(study: Study, base: Base, folder: Path, encoder: Encoder, identity: Encoder | None) -> Probe:
    """Load the study's probe from `cache/`, or build it: the first worker builds, the others wait.

    Raises:
        TrainerError, MetricsError: photos, masks or settings that cannot be used.
        MissingReadingError: `score.objective` asks for a reading that this study does not take.
    """
    probe = _opened(study, base, folder, encoder, identity)
    readings, unscored = base_scored(study.objective, probe.base_readings)
    notices = (*probe.notices, *unscored)
    return replace(probe, base_readings=readings, notices=notices, objective=study.objective)


def _opened(study: Study, base: Base, folder: Path, encoder: Encoder, identity: Encoder | None) -> Probe:
    config = study.config(next(study.space.combinations()))
    home = folder / "probe"
    cache = LatentCache(base, folder / "latents")
    dataset = scan_dataset(study.data, reg_data=study.reg_data, trigger=config.trigger, class_word=config.class_word)

    def load(place: Path, about: ProbeDescription) -> Probe:
        keep_probe_file(place, folder.parent)
        return _load(study, config, base, cache, dataset, place, about, encoder, identity)

    # lock and new probe lie beside the cache, which may be deleted at any time
    with locked(folder.parent / ".probe.lock", wait_seconds=BUILD_SECONDS):
        about = _known(study, home)
        if about is not None:
            try:
                return load(home, about)
            except (FileNotFoundError, MetricsError):
                if all((home / name).is_file() for name in PROBE_FILES):
                    raise
        with building(folder.parent, home) as aside:
            return load(aside, _build(study, config, base, cache, dataset, aside, encoder, identity))


def _known(study: Study, home: Path) -> ProbeDescription | None:
    """What the kept probe's `probe.json` says; None where there is none, or one of other settings."""
    try:
        about = ProbeDescription.load(home / PROBE_FILE)
    except (FileNotFoundError, ValueError):
        return None
    same = (about.study, about.calibration) == (study.probe_digest, CALIBRATION_VERSION)
    return about if same and about.photos else None


def _build(
    study: Study,
    config: TrainConfig,
    base: Base,
    cache: LatentCache,
    dataset: Dataset,
    home: Path,
    encoder: Encoder,
    identity: Encoder | None,
) -> ProbeDescription:
    """Write everything that costs time into `home`; returns what its `probe.json` says."""
    score = study.score
    photos = [photo for photo in dataset.photos if not photo.is_reg]
    pixels = [load_pixels(photo, config.size) for photo in photos]
    captions = [photo.caption for photo in photos]
    seen = features = (identity or encoder).images(pixels)
    if encoder.has_texts:
        features = np.concatenate([features, encoder.texts([neutral_caption(photo) for photo in photos])], axis=1)
    apart, copies = in_contexts(captions, score.holdout_contexts), twins(pixels)
    if study.finished_run is not None:
        sides = given_split(study.rows_held_out, apart, seen, copies)
        apart = [row for row in apart if row not in sides.repeats]
    else:
        apart = with_twins(seen, apart, copies) if apart else []
        sides = split(features, score.holdout, score.seed, apart, seen=seen, copies=copies)
    trained, heldout = sides.trained, sides.heldout
    labels, num_seeds = probe_labels(score, photos, trained, heldout)
    precision = precision_of(score, base)
    drawing: dict[str, Any] = {**drawing_of(score, config), "precision": precision, "cache": cache}
    # before anything is drawn: masks may be wrong
    shifted = score.shifted.composites
    masks = photo_masks(study, photos, pixels, config, base, identity or encoder) if shifted else None
    style = score.shifted.masks == "none" or (masks is not None and masks.style)
    base_images = sample(base, None, labels.prompts, labels.seeds, **drawing)

    notes: tuple[str, ...] = () if sides.note is None else (sides.note,)
    if apart:
        named = ", ".join(score.holdout_contexts)
        notes = (*notes, f"{len(apart)} of {len(photos)} photos are held out with their context ({named})")
    if not any(photo.trigger or photo.class_word for photo in photos):
        notes = (*notes, "prompts of new contexts and moved subjects name no subject: give train.trigger, class_word")
    shifted_images, shifted_captions, owners = np.zeros((0, 0, 0, 3), np.uint8), [], np.zeros(0, np.int64)
    spoiled_images = shifted_images
    if masks is not None:
        notes = (*notes, *masks.notes)
        if masks.reason is None:
            # of all photos: held-out ones alone are few and make the onset's interval wide (docs/log.md)
            kept = [row for row, usable in enumerate(masks.usable) if usable]
            contexts = [context for context in score.shifted.contexts for _ in range(_BACKGROUNDS_PER_CONTEXT)]
            seeds = [probe_seed(score, "backgrounds", i) for i in range(len(contexts))]
            backgrounds = sample(base, None, contexts, seeds, **drawing)
            cut, outlines = [pixels[row] for row in kept], [masks.masks[row] for row in kept]
            made = make_composites(
                cut, outlines, backgrounds, count=score.shifted.composites, seed=probe_seed(score, "composites", 0)
            )
            composites_sheet(cut, outlines, made, path=home / "composites.png", rows=len(cut))
            shifted_images, owners = made.images, np.array(kept)[made.photo]
            spoiled_images = make_spoiled_twins(cut, outlines, backgrounds, seed=probe_seed(score, "composites", 1))
            shifted_captions = composite_captions(score.shifted.caption, [photos[i] for i in owners], made, contexts)
        else:
            notes = (*notes, masks.reason)
    arrays: dict[str, Any] = {"shifted_images": shifted_images, "shifted_photo": owners, "base_images": base_images}
    np.savez(home / "arrays.npz", allow_pickle=False, **arrays)

    moved = shifted_images, shifted_captions
    rows_of = {"heldout": heldout, "context": apart}
    evaluations = _evaluations(study, config, base, cache, photos, dict(enumerate(pixels)), rows_of, moved)
    measured = {name: e.losses(precision=precision) for name, e in evaluations.items()}
    calibration = calibrate(
        pixels,
        [index in trained for index in range(len(photos))],
        base_images,
        labels,
        encoder,
        identity_encoder=identity,
        base_losses=measured,
        shifted_photo=[int(owner) for owner in owners],
        shifted_images=shifted_images,
        spoiled_images=spoiled_images,
        weights=({"consistency": 0.0} if style else {}) | score.weights,  # a style may vary
    )
    calibration.save(home / "calibration.npz")
    readings = read_checkpoint(calibration, epoch=0, effort=0.0, images=base_images, losses=measured)
    save_readings(home / "base_readings.npz", readings)
    write_samples(home / "base.png", base_images, num_seeds, prompts=labels.prompts, seeds=labels.seeds)
    about = ProbeDescription(
        study=study.probe_digest,
        calibration=CALIBRATION_VERSION,
        prompts=labels.prompts[::num_seeds],
        sets=labels.sets[::num_seeds],
        photo=labels.photo[::num_seeds],
        seeds=labels.seeds[:num_seeds],
        **drawing_of(score, config),
        precision=precision,
        trained=tuple(shown(photos[i].path.name) for i in trained),
        heldout=tuple(shown(photos[i].path.name) for i in heldout),
        context=tuple(shown(photos[i].path.name) for i in apart),
        repeats=tuple(shown(photos[i].path.name) for i in sides.repeats),
        photos=tuple(photo.content for photo in dataset.photos),
        trained_rows=tuple(trained),
        heldout_rows=tuple(heldout),
        context_rows=tuple(apart),
        shifted_captions=tuple(shifted_captions),
        notices=notes,
        labels=asdict(labels),
    )
    about.save(home / PROBE_FILE)
    return about


def _load(
    study: Study,
    config: TrainConfig,
    base: Base,
    cache: LatentCache,
    dataset: Dataset,
    home: Path,
    about: ProbeDescription,
    encoder: Encoder,
    identity: Encoder | None,
) -> Probe:
    dataset = _as_built(dataset, about.photos)
    photos = [photo for photo in dataset.photos if not photo.is_reg]
    rows = {index for index, photo in enumerate(dataset.photos) if photo.is_reg}
    places = [index for index, photo in enumerate(dataset.photos) if not photo.is_reg]
    kept = [places[i] for i in about.trained_rows] + sorted(rows)
    with np.load(home / "arrays.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    rows_of = {"heldout": about.heldout_rows, "context": about.context_rows}
    pixels = {i: load_pixels(photos[i], config.size) for rows in rows_of.values() for i in rows}
    moved = arrays["shifted_images"], about.shifted_captions
    calibration = Calibration.load(home / "calibration.npz", encoder=encoder, identity_encoder=identity)
    readings, _ = load_readings(home / "base_readings.npz")
    return Probe(
        base=base,
        cache=cache,
        config=config,
        score=study.score,
        labels=calibration.labels,
        num_seeds=len(about.seeds),
        trained=dataset.subset(kept),
        everything=dataset,
        losses=_evaluations(study, config, base, cache, photos, pixels, rows_of, moved),
        calibration=calibration,
        base_images=arrays["base_images"],
        base_readings=readings,
        precision=about.precision,
        notices=about.notices,
        added=study.added.prompts,
    )


def _as_built(dataset: Dataset, contents: Sequence[str]) -> Dataset:
    """The photos in the order in which the probe was built, whatever their files are called today: rows stay theirs."""
    rows: dict[str, list[int]] = {}
    for row, photo in enumerate(dataset.photos):
        rows.setdefault(photo.content, []).append(row)
    return dataset.subset(rows[content].pop(0) for content in contents)


def _evaluations(
    study: Study,
    config: TrainConfig,
    base: Base,
    cache: LatentCache,
    photos: Sequence[Photo],
    pixels: Mapping[int, np.ndarray],
    rows_of: Mapping[str, Sequence[int]],
    moved: tuple[np.ndarray, Sequence[str]],
) -> dict[str, Evaluation]:
    """One for each set of images: photos `rows_of` a set, and moved subjects (images, captions)."""
    score = study.score
    sets = {
        name: (np.stack([pixels[i] for i in rows]), [photos[i].caption for i in rows])
        for name, rows in rows_of.items()
        if rows
    }
    if len(moved[0]):
        sets["shifted"] = moved[0], list(moved[1])
    found = {}
    for name, (images, captions) in sets.items():
        measure = score.shifted if name == "shifted" else score.losses
        found[name] = Evaluation.prepare(
            base,
            images,
            captions,
            levels=measure.levels,
            draws=measure.draws,
            seed=probe_seed(score, name, 0),
            clip_skip=config.clip_skip,
            cache=cache,
        )
    return found


def _draw(probe: Probe, lora: LoraWeights | None) -> np.ndarray:
    return probe.draw(lora, probe.labels.prompts, probe.labels.seeds)


def _draw_added(probe: Probe, lora: LoraWeights | None) -> np.ndarray:
    """In a call of their own: scored pictures do not change by a bit."""
    if not probe.added:
        return probe.base_images[:0]
    prompts = [prompt for prompt in probe.added for _ in range(probe.num_seeds)]
    return probe.draw(lora, prompts, [*probe.labels.seeds[: probe.num_seeds]] * len(probe.added))


def _losses(probe: Probe, lora: LoraWeights | None) -> dict[str, np.ndarray]:
    return {name: e.losses(lora, precision=probe.precision) for name, e in probe.losses.items()}


def write_probe_samples(path: Path, probe: Probe, images: np.ndarray) -> None:
    """Keep a checkpoint's probe images, seeds across and prompts down."""
    write_samples(path, images, probe.num_seeds, prompts=probe.labels.prompts, seeds=probe.labels.seeds)


def write_base_samples(path: Path, probe: Probe) -> None:
    """Put the base's probe images beside a trial's own, as its epoch 0."""
    write_probe_samples(path, probe, np.concatenate([probe.base_images, _draw_added(probe, None)]))

"""Builds a study's probe: splits the photos, draws what every checkpoint is held against, measures the base."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from metrics.checkpoint.calibration import VERSION as CALIBRATION_VERSION
from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.score import calibrate, read_checkpoint
from metrics.comparison.twins import twins
from metrics.subjects.composites import composites_sheet, make_composites
from metrics.subjects.spoiled_twins import make_spoiled_twins
from search.probe.critic import open_critic, write_critic
from search.probe.drawing import drawing_of, precision_of
from search.probe.photo_masks import photo_masks
from search.probe.prompts import composite_captions, neutral_caption, probe_labels, probe_seed
from search.record.events import save_readings
from search.record.probe_description import PROBE_FILE, ProbeDescription
from search.record.record import write_samples
from search.study.split import given_split, in_contexts, split, with_twins
from search.study.study import Study
from trainer.base_model.fingerprint import fingerprint_base
from trainer.config.config import TrainConfig
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset, Photo, load_pixels
from trainer.families import Base
from trainer.files import shown
from trainer.inference.evaluate import Evaluation
from trainer.inference.sample import sample

BACKGROUNDS_PER_CONTEXT = 2


def build_probe(
    study: Study,
    config: TrainConfig,
    base: Base,
    cache: LatentCache,
    dataset: Dataset,
    home: Path,
    aside: Path,
    encoder: Encoder,
    identity: Encoder | None,
    say: Callable[[str], None],
) -> ProbeDescription:
    """Write everything that costs time into `home`; returns what its `probe.json` says.

    Args:
        aside: the study's cache, where a critic's checkpoints lie while it is trained.
    """
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
            contexts = [context for context in score.shifted.contexts for _ in range(BACKGROUNDS_PER_CONTEXT)]
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
    sets = evaluations(study, config, base, cache, photos, dict(enumerate(pixels)), rows_of, moved)
    measured = {name: each.losses(precision=precision) for name, each in sets.items()}
    if score.critic.steps:
        other = write_critic(study, base, trained_part(dataset, trained), cache, home, aside, say)
        say("building the probe")
        notes = notes if other is None else (*notes, f"the critic is the one that the study {other} has trained")
    critic = open_critic(score, base, cache, home, config.clip_skip, precision)
    learned = 0.0
    if critic is not None:
        learned = float(critic.gains([pixels[i] for i in trained], [captions[i] for i in trained]).mean())
        if not 0 < learned < inf:  # or no number at all
            learned = 0.0
            notes = (*notes, "the critic has learned nothing of the photos: the encoder says what shows the subject")
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
        critic=learned,
    )
    calibration.save(home / "calibration.npz")
    gains = critic.gains(base_images, labels.prompts) if critic is not None and learned else None
    readings = read_checkpoint(calibration, epoch=0, effort=0.0, images=base_images, losses=measured, gains=gains)
    save_readings(home / "base_readings.npz", readings)
    write_samples(home / "base.png", base_images, num_seeds, prompts=labels.prompts, seeds=labels.seeds)
    about = ProbeDescription(
        study=study.probe_digest,
        calibration=CALIBRATION_VERSION,
        base=fingerprint_base(study.base, remember=aside),
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


def evaluations(
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


def trained_part(dataset: Dataset, rows: Sequence[int]) -> Dataset:
    """Photos of these rows, which regularisation images do not count in, and these images."""
    own = [row for row, photo in enumerate(dataset.photos) if not photo.is_reg]
    others = [row for row, photo in enumerate(dataset.photos) if photo.is_reg]
    return dataset.subset([*(own[row] for row in rows), *others])

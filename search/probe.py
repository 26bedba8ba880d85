"""The probe: what every checkpoint of a study is looked at with, built once, and the photos held out for it.

trainer and metrics get arrays and labels; that a study exists is known here only.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metrics.composites import Composites, composites_sheet, context_caption, make_composites, position_words
from metrics.encoders import Encoder
from metrics.masks import SubjectMasks, load_mask_folder, subject_masks
from metrics.readings import Readings
from metrics.score import Calibration, ProbeLabels, calibrate, read_checkpoint
from search.events import load_readings, save_readings
from search.lock import locked
from search.record import read_json, write_bytes, write_json, write_samples
from search.settings import Score
from search.split import split
from search.study import Study
from trainer.attention import attention_maps
from trainer.cache import LatentCache
from trainer.config import TrainConfig
from trainer.dataset import Dataset, Photo, load_mask, load_pixels, scan_dataset
from trainer.evaluate import Evaluation
from trainer.families import Base
from trainer.lora import LoraWeights
from trainer.sample import sample, with_lora

BUILD_SECONDS = 3600.0  # how long other workers wait for the one that builds the probe
_BACKGROUNDS_PER_CONTEXT = 2
_SMALL = 0.85  # of the subject's height in its own photo
_STREAMS = {"images": 1, "backgrounds": 2, "heldout": 3, "shifted": 4, "composites": 5}


@dataclass
class Probe:
    """Built by `open_probe`.

    Attributes:
        labels: one entry per image; the seeds of a prompt stand side by side.
        num_seeds: images per prompt.
        trained: the photos to train on, regularisation images among them.
        base_images, base_readings: epoch 0.
        precision: "bf16" or "fp16" to draw and measure under autocast, None as the base is.
        notices: what the user should be told.
    """

    base: Base
    cache: LatentCache
    config: TrainConfig
    score: Score
    labels: ProbeLabels
    num_seeds: int
    trained: Dataset
    heldout: Evaluation | None
    shifted: Evaluation | None
    calibration: Calibration
    base_images: np.ndarray
    base_readings: Readings
    precision: str | None
    notices: tuple[str, ...] = ()

    def read(
        self, lora: LoraWeights, *, epoch: int, effort: float, say: Callable[[str], None] = lambda what: None
    ) -> tuple[Readings, np.ndarray, dict[str, float]]:
        """Look at a checkpoint: (readings, images uint8 [n, H, W, 3], seconds by "sample" and "score")."""
        began = time.perf_counter()
        trains_text = any(component != "denoiser" for component, _ in lora.modules)
        # merged once for drawing and losses; encoders that the LoRA changes need it each time
        inner = lora if trains_text else None
        with with_lora(self.base, None if trains_text else lora):
            say("drawing")
            images = _draw(self, inner)
            drawn = time.perf_counter()
            say("scoring")
            losses = _losses(self, inner)
        readings = read_checkpoint(self.calibration, epoch=epoch, effort=effort, images=images, losses=losses)
        return readings, images, {"sample": drawn - began, "score": time.perf_counter() - drawn}


def open_probe(study: Study, base: Base, folder: Path, encoder: Encoder, identity: Encoder | None) -> Probe:
    """Load the study's probe from `cache/`, or build it: the first worker builds, the others wait.

    Raises:
        TrainerError, MetricsError: photos, masks or settings that cannot be used.
    """
    config = study.config(next(study.space.combinations()))
    home = folder / "probe"
    cache = LatentCache(base, folder / "latents")
    with locked(folder / "probe.lock", wait_seconds=BUILD_SECONDS):
        dataset = scan_dataset(
            study.data, reg_data=study.reg_data, trigger=config.trigger, class_word=config.class_word
        )
        about = read_json(home / "probe.json") if (home / "probe.json").is_file() else None
        if about is None or about["study"] != study.digest:
            about = _build(study, config, base, cache, dataset, home, encoder, identity)
        return _load(study, config, base, cache, dataset, home, about, encoder, identity)


def _build(
    study: Study,
    config: TrainConfig,
    base: Base,
    cache: LatentCache,
    dataset: Dataset,
    home: Path,
    encoder: Encoder,
    identity: Encoder | None,
) -> dict[str, Any]:
    """Write everything that costs time; `probe.json` last, so that a probe without one does not exist."""
    score = study.score
    photos = [photo for photo in dataset.photos if not photo.is_reg]
    pixels = [load_pixels(photo, config.size) for photo in photos]
    captions = [photo.caption for photo in photos]
    features = (identity or encoder).images(pixels)
    if encoder.has_texts:
        features = np.concatenate([features, encoder.texts([_neutral(p, p.caption) for p in photos])], axis=1)
    trained, heldout = split(features, score.holdout, score.seed)
    labels, num_seeds = _labels(score, photos, trained, heldout)
    precision = _precision(score, base)
    drawing: dict[str, Any] = {**_drawing(score, config), "precision": precision, "cache": cache}
    # before anything is drawn: masks may be wrong
    masks = _masks(study, photos, pixels, config, base) if score.shifted.composites else None
    style = score.shifted.masks == "none" or (masks is not None and masks.style)
    base_images = sample(base, None, labels.prompts, labels.seeds, **drawing)

    notes: tuple[str, ...] = ()
    shifted_images, shifted_captions, owners = np.zeros((0, 0, 0, 3), np.uint8), [], np.zeros(0, np.int64)
    if masks is not None:
        notes = masks.notes
        if masks.reason is None:
            # of all photos: held-out ones alone are few and make the onset's interval wide (docs/log.md)
            kept = [row for row, usable in enumerate(masks.usable) if usable]
            contexts = [context for context in score.shifted.contexts for _ in range(_BACKGROUNDS_PER_CONTEXT)]
            seeds = [_seed(score, "backgrounds", i) for i in range(len(contexts))]
            backgrounds = sample(base, None, contexts, seeds, **drawing)
            cut, outlines = [pixels[row] for row in kept], [masks.masks[row] for row in kept]
            made = make_composites(
                cut, outlines, backgrounds, count=score.shifted.composites, seed=_seed(score, "composites", 0)
            )
            composites_sheet(cut, outlines, made, path=home / "composites.png")
            shifted_images, owners = made.images, np.array(kept)[made.photo]
            shifted_captions = _shifted_captions(score.shifted.caption, photos[trained[0]], made, outlines, contexts)
        else:
            notes = (*notes, masks.reason)
    arrays: dict[str, Any] = {"shifted_images": shifted_images, "shifted_photo": owners, "base_images": base_images}
    home.mkdir(parents=True, exist_ok=True)
    np.savez(home / "arrays.npz", allow_pickle=False, **arrays)

    evaluations = _evaluations(study, config, base, cache, pixels, captions, heldout, shifted_images, shifted_captions)
    measured = {name: e.losses(precision=precision) for name, e in evaluations.items()}
    calibration = calibrate(
        pixels,
        [_neutral(photo, photo.caption) for photo in photos],
        [index in trained for index in range(len(photos))],
        base_images,
        labels,
        encoder,
        identity_encoder=identity,
        base_losses=measured,
        shifted_photo=[int(owner) for owner in owners],
        weights=({"consistency": 0.0} if style else {}) | score.weights,  # a style may vary
    )
    calibration.save(home / "calibration.npz")
    readings = read_checkpoint(calibration, epoch=0, effort=0.0, images=base_images, losses=measured)
    save_readings(home / "base_readings.npz", readings)
    write_samples(home / "base.png", base_images, num_seeds)
    prompts = labels.prompts[::num_seeds]
    about = {
        "study": study.digest,
        "prompts": prompts,
        "sets": labels.sets[::num_seeds],
        "photo": labels.photo[::num_seeds],
        "seeds": labels.seeds[:num_seeds],
        **_drawing(score, config),
        "precision": precision,
        "trained": [photos[i].path.name for i in trained],
        "heldout": [photos[i].path.name for i in heldout],
        "trained_rows": trained,
        "heldout_rows": heldout,
        "shifted_captions": shifted_captions,
        "notices": notes,
        "labels": asdict(labels),
    }
    write_json(home / "probe.json", about)
    return about


def _load(
    study: Study,
    config: TrainConfig,
    base: Base,
    cache: LatentCache,
    dataset: Dataset,
    home: Path,
    about: dict[str, Any],
    encoder: Encoder,
    identity: Encoder | None,
) -> Probe:
    photos = [photo for photo in dataset.photos if not photo.is_reg]
    rows = {index for index, photo in enumerate(dataset.photos) if photo.is_reg}
    places = [index for index, photo in enumerate(dataset.photos) if not photo.is_reg]
    kept = [places[i] for i in about["trained_rows"]] + sorted(rows)
    with np.load(home / "arrays.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    heldout = about["heldout_rows"]
    pixels = {i: load_pixels(photos[i], config.size) for i in heldout}
    captions = {i: photos[i].caption for i in heldout}
    evaluations = _evaluations(
        study, config, base, cache, pixels, captions, heldout, arrays["shifted_images"], about["shifted_captions"]
    )
    calibration = Calibration.load(home / "calibration.npz", encoder=encoder, identity_encoder=identity)
    readings, _ = load_readings(home / "base_readings.npz")
    return Probe(
        base=base,
        cache=cache,
        config=config,
        score=study.score,
        labels=calibration.labels,
        num_seeds=len(about["seeds"]),
        trained=dataset.subset(kept),
        heldout=evaluations.get("heldout"),
        shifted=evaluations.get("shifted"),
        calibration=calibration,
        base_images=arrays["base_images"],
        base_readings=readings,
        precision=about["precision"],
        notices=tuple(about["notices"]),
    )


def _evaluations(
    study: Study,
    config: TrainConfig,
    base: Base,
    cache: LatentCache,
    pixels: Any,
    captions: Any,
    heldout: Sequence[int],
    shifted_images: np.ndarray,
    shifted_captions: Sequence[str],
) -> dict[str, Evaluation]:
    score, found = study.score, {}
    if heldout:
        found["heldout"] = Evaluation.prepare(
            base,
            np.stack([pixels[i] for i in heldout]),
            [captions[i] for i in heldout],
            levels=score.losses.levels,
            draws=score.losses.draws,
            seed=_seed(score, "heldout", 0),
            clip_skip=config.clip_skip,
            cache=cache,
        )
    if len(shifted_images):
        found["shifted"] = Evaluation.prepare(
            base,
            shifted_images,
            shifted_captions,
            levels=score.shifted.levels,
            draws=score.shifted.draws,
            seed=_seed(score, "shifted", 0),
            clip_skip=config.clip_skip,
            cache=cache,
        )
    return found


def _draw(probe: Probe, lora: LoraWeights | None) -> np.ndarray:
    return sample(
        probe.base,
        lora,
        probe.labels.prompts,
        probe.labels.seeds,
        **_drawing(probe.score, probe.config),
        precision=probe.precision,
        cache=probe.cache,
    )


def _losses(probe: Probe, lora: LoraWeights | None) -> dict[str, np.ndarray]:
    pairs = (("heldout", probe.heldout), ("shifted", probe.shifted))
    return {name: e.losses(lora, precision=probe.precision) for name, e in pairs if e is not None}


def _drawing(score: Score, config: TrainConfig) -> dict[str, Any]:
    return {
        "size": config.size,
        "steps": score.probe.steps,
        "guidance": score.probe.guidance,
        "scheduler": score.probe.scheduler,
        "negative": score.probe.negative,
        "clip_skip": config.clip_skip,
    }


def _labels(
    score: Score, photos: Sequence[Photo], trained: Sequence[int], heldout: Sequence[int]
) -> tuple[ProbeLabels, int]:
    """Sets A, B and C times the seeds; a caption that several photos share is drawn once."""
    rng = np.random.default_rng([score.seed, len(photos)])
    rows: dict[str, tuple[str, str, int]] = {}
    for kind, pool, count in (("A", trained, score.probe.trained), ("B", heldout, score.probe.heldout)):
        taken = 0
        for index in rng.permutation(list(pool)) if pool else ():
            photo = photos[int(index)]
            if taken < count and photo.caption not in rows:
                rows[photo.caption] = (_neutral(photo, photo.caption), kind, int(index))
                taken += 1
    first = photos[trained[0]]
    words = {"trigger": first.trigger or "", "class_word": first.class_word or ""}
    for template in score.probe.contexts:
        prompt = context_caption(template, **words)
        rows.setdefault(prompt, (context_caption(template, trigger="", class_word=words["class_word"]), "C", -1))
    seeds = [_seed(score, "images", i) for i in range(score.probe.seeds)]
    entries = [(prompt, *rest, seed) for prompt, rest in rows.items() for seed in seeds]
    prompts, neutral, sets, photo_rows, drawn = (tuple(column) for column in zip(*entries, strict=True))
    return ProbeLabels(prompts, neutral, sets, photo_rows, drawn), len(seeds)


def _neutral(photo: Photo, caption: str) -> str:
    """The caption with the class word for the trigger, as an encoder understands it."""
    if not photo.trigger:
        return caption
    word = photo.class_word or ""
    said = caption.replace(f"{photo.trigger} {word}".strip(), word).replace(photo.trigger, word)
    return " ".join(said.split())


def _shifted_captions(
    template: str, photo: Photo, made: Composites, masks: Sequence[np.ndarray], contexts: Sequence[str]
) -> list[str]:
    """What a composite shows: the subject, where it ended up and how large, and the context the base was asked for."""
    tall = [float((mask > 0.5).any(axis=1).mean()) for mask in masks]
    heights = (made.box[:, 3] - made.box[:, 1]) / made.images.shape[1]
    captions = []
    for where, height, owner, place in zip(position_words(made), heights, made.photo, made.background, strict=True):
        size = "small" if height < _SMALL * tall[owner] else "large"
        said = template.replace("{context}", contexts[place]).replace("{position}", where).replace("{size}", size)
        captions.append(context_caption(said, trigger=photo.trigger or "", class_word=photo.class_word or ""))
    return captions


def _masks(
    study: Study, photos: Sequence[Photo], pixels: Sequence[np.ndarray], config: TrainConfig, base: Base
) -> SubjectMasks:
    source = study.masks
    given: list[np.ndarray | None]
    if Path(source).is_dir():
        given = load_mask_folder(source, [p.path.name for p in photos], [image.shape[:2] for image in pixels])
        source = "auto"
    else:
        given = [load_mask(photo, config.size) for photo in photos]
    attention = None
    if source == "attention":
        attention = attention_maps(base, np.stack(pixels), photos[0].class_word or "")
    return subject_masks(
        pixels,
        source=source,
        given=given,
        attention=None if attention is None else list(attention),
        segmenter=study.score.shifted.segmenter,
        class_word=photos[0].class_word,
        device=str(base.device),
    )


def _seed(score: Score, stream: str, index: int) -> int:
    """Seeds of the probe's own streams, apart from training's small numbers."""
    return 1_000_003 * (1 + score.seed) + 10_007 * _STREAMS[stream] + index


def _precision(score: Score, base: Base) -> str | None:
    if score.precision != "auto":
        return score.precision
    if base.dtype != torch.float32:
        return None
    if base.device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else None
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else None


def write_probe_samples(path: Path, probe: Probe, images: np.ndarray) -> None:
    """Keep a checkpoint's probe images, seeds across and prompts down."""
    write_samples(path, images, probe.num_seeds)


def copy_base_samples(path: Path, home: Path) -> None:
    """Put the base's probe images beside a trial's own, as its epoch 0."""
    write_bytes(path, (home / "base.png").read_bytes())

"""A worker's look at the data: losses of each photo at every checkpoint, drawings of each tag at the last, the page."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.image_descriptors import measure
from metrics.trajectory.readings import Readings
from search.findings.after_training import draw_tags, drawing_findings, learning_findings, with_training
from search.findings.before_training import check_photos
from search.findings.page import write_page
from search.findings.photos import photos_of
from search.probe.probe import Probe
from search.probe.prompts import probe_seed
from search.record.data_check import TagEffect
from search.record.events import TrialSpec
from search.record.json_files import write_bytes
from search.record.record import StudyFolder
from search.study.data_check import DataCheck
from search.study.input_digests import photo_marks
from search.study.study import Study
from trainer.data.dataset import Photo, load_pixels
from trainer.files import shown
from trainer.inference.evaluate import Evaluation
from trainer.lora.lora import LoraWeights
from trainer.packing.training_run import Run

ProbeLook = tuple[Readings, np.ndarray, dict[str, float]]
"""What `Probe.read` returns."""

_DRAWS = 4
"""Noises for each level: here a photo stands for itself, and its interval is that over draws."""


class DataLook:
    """What a data check asks of the one training of its study.

    Args:
        study: a data check.
        encoder, identity: as the probe's.
    """

    def __init__(
        self, study: Study, folder: StudyFolder, probe: Probe, encoder: Encoder, identity: Encoder | None
    ) -> None:
        assert isinstance(study.kind, DataCheck)
        self._study, self._folder, self._probe = study, folder, probe
        self._encoder, self._identity, self._settings = encoder, identity, study.kind.settings
        self._losses: Evaluation | None = None

    def look(
        self, read: Callable[..., ProbeLook], run: Run, trial: TrialSpec, *, say: Callable[[str], None]
    ) -> ProbeLook:
        """The probe's look at a checkpoint (`read`), and the data's; with the last one the data check is written."""
        found = read(say=say)
        say("checking the data")
        kept, lora = trial.folder / "photo_losses", run.lora_weights()
        kept.mkdir(exist_ok=True)
        base = kept / f"{0:04d}.npy"
        if not base.is_file():
            _save(base, self._measured(None))
        _save(kept / f"{run.epoch:04d}.npy", self._measured(lora))
        if run.epoch == trial.config.epochs:
            course = {int(file.stem): np.load(file) for file in sorted(kept.glob("*.npy"))}
            self._write(course, lora, found[0], found[1])
        return found

    def _measured(self, lora: LoraWeights | None) -> np.ndarray:
        """Losses of the photos trained on, `[N, levels, draws]`."""
        probe = self._probe
        if self._losses is None:
            photos = self._trained()
            self._losses = Evaluation.prepare(
                probe.base,
                np.stack([load_pixels(photo, probe.config.size) for photo in photos]),
                [photo.caption for photo in photos],
                levels=probe.score.losses.levels,
                draws=max(_DRAWS, probe.score.losses.draws),
                seed=probe_seed(probe.score, "heldout", 1),
                clip_skip=probe.config.clip_skip,
                cache=probe.cache,
            )
        return self._losses.losses(lora, precision=probe.precision)

    def _trained(self) -> list[Photo]:
        return [photo for photo in self._probe.trained.photos if not photo.is_reg]

    def _write(self, course: dict[int, np.ndarray], lora: LoraWeights, readings: Readings, images: np.ndarray) -> None:
        """The findings and their page. `course`: losses of the photos by epoch, those of the base under 0."""
        study, probe, settings = self._study, self._probe, self._settings
        photos = photos_of(study)
        check = check_photos(study.name, photos, self._encoder, self._identity, dataset=study.dataset)
        seeds = [probe_seed(study.score, "images", 1000 + number) for number in range(settings.seeds)]
        pairs: dict[str, np.ndarray] = {}
        effects: tuple[TagEffect, ...] = ()
        if self._encoder.has_texts and photos.tags.tags:
            drawn = draw_tags(
                photos,
                self._encoder,
                lambda prompts, seeds, trained: probe.draw(lora if trained else None, prompts, seeds),
                seeds=seeds,
                captions=settings.captions,
                most=settings.tags,
            )
            effects, pairs = drawn.effects, dict(drawn.pairs)
        new = np.array(probe.labels.sets) == "C"
        features = self._encoder.images(images[: len(new)][new], cache=False)
        more = drawing_findings(
            photos, measure(photos.images, self._encoder), readings, features, probe.calibration.base.features[new]
        )
        marks = photo_marks(self._trained(), study.data, study.reg_data)
        base, epochs = course.pop(0), sorted(course)
        losses = np.stack([course[epoch] for epoch in epochs])
        learned = learning_findings([shown(mark.file) for mark in marks], epochs, losses, base)
        check = with_training(check, photos, effects, [*more, *learned])
        write_page(
            self._folder.path,
            check,
            dict(zip(photos.files, photos.images, strict=True)),
            dict(zip(photos.files, photos.captions, strict=True)),
            pairs,
            study_file=str(study.file),
        )
        check.save(self._folder.path)


def _save(path: Path, losses: np.ndarray) -> None:
    out = io.BytesIO()
    np.save(out, losses)
    write_bytes(path, out.getvalue())  # whole or not at all: what is there is taken after a kill

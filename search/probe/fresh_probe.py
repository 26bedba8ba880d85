"""The fresh images of finalists: drawn as the probe's are, judged by the same rule against what the base draws of the
same prompts and seeds."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from metrics.channels.bootstrap import RESAMPLES
from metrics.checkpoint.calibration import VERSION as CALIBRATION_VERSION
from metrics.checkpoint.calibration import Calibration
from metrics.checkpoint.objective import scored_by
from metrics.checkpoint.score import read_checkpoint
from metrics.checkpoint.score_spread import score_draws
from metrics.files import write_whole
from metrics.trajectory.readings import Readings
from search.probe.fresh_prompts import FreshPrompts, fresh_prompts
from search.probe.probe import Probe
from search.record.finalists import FreshLook
from search.record.record import StudyFolder
from search.study.objective import base_scored
from search.study.study import Study
from trainer.inference.sample import with_lora
from trainer.lora.lora import LoraWeights


@dataclass(frozen=True)
class FreshProbe:
    """Built by `open_fresh_probe`.

    Attributes:
        prompts: what is drawn. asked: digest of that, and of how it is drawn and judged.
        calibration: the study's, for these prompts and seeds.
        base_images: uint8 `[n, H, W, 3]`.
    """

    probe: Probe
    prompts: FreshPrompts
    asked: str
    calibration: Calibration
    base_images: np.ndarray

    def look(
        self,
        lora: LoraWeights | None,
        epoch: int,
        say: Callable[[str], None] = lambda what: None,
        searched: Mapping[str, float] | None = None,
    ) -> tuple[FreshLook, np.ndarray]:
        """Draw a checkpoint, or the base without one: what is read of it, and its images.

        Args:
            searched: what the search read of it, channel to value: an objective of the user's own takes from there
                what fresh images do not measure (losses of held-out photos).
        """
        began, images = time.perf_counter(), self.base_images
        if lora is not None:
            say("drawing again")
            images = _drawn(self.probe, self.prompts, lora)
        say("scoring again")
        gains = self.probe.gains(images, self.prompts.labels)
        readings = read_checkpoint(self.calibration, epoch=epoch, effort=0.0, images=images, gains=gains)
        readings, draws = self._scored(readings, lora is None, searched)
        number, repeated = self.prompts.num_prompts, self.prompts.repeated
        seconds = time.perf_counter() - began
        return FreshLook(self.asked, readings, draws, len(images), number, repeated, seconds), images

    def _scored(
        self, readings: Readings, is_base: bool, searched: Mapping[str, float] | None
    ) -> tuple[Readings, np.ndarray]:
        objective, calibration = self.probe.objective, self.calibration
        if objective is None:
            return readings, score_draws(calibration, readings)
        if is_base:  # a number to compare with; nobody asks how far it would move
            known = {name: reading.value for name, reading in self.probe.base_readings.channels.items()}
            return base_scored(objective, readings, known)[0], np.full(RESAMPLES, np.nan)
        scored = scored_by(objective, readings, searched)
        return scored, score_draws(calibration, scored, objective=objective, also=searched)


def open_fresh_probe(study: Study, folder: StudyFolder, probe: Probe) -> FreshProbe:
    """Draw the base's fresh images, or take those that the study's cache has."""
    photos = [photo for photo in probe.everything.photos if not photo.is_reg]
    prompts = fresh_prompts(study.score, study.finalists, photos, folder.probe())
    drawing = study.score.probe.model_dump(include={"steps", "guidance", "scheduler", "negative"})
    asked = [study.probe_digest, CALIBRATION_VERSION, asdict(prompts.labels), drawing, probe.precision]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    kept = folder.cache / "finalists" / f"base-{digest[:16]}.npz"
    images = _kept(kept, len(prompts.labels))
    if images is None:
        drawn = images = _drawn(probe, prompts, None)
        write_whole(kept, lambda file: np.savez_compressed(file, allow_pickle=False, images=drawn))
    return FreshProbe(probe, prompts, digest, probe.calibration.for_images(prompts.labels, images), images)


def _drawn(probe: Probe, prompts: FreshPrompts, lora: LoraWeights | None) -> np.ndarray:
    """As `Probe.read` draws: merged once, save for encoders that the LoRA changes."""
    trains_text = lora is not None and any(component != "denoiser" for component, _ in lora.modules)
    with with_lora(probe.base, None if trains_text else lora):
        return probe.draw(lora if trains_text else None, prompts.labels.prompts, prompts.labels.seeds)


def _kept(path: Path, count: int) -> np.ndarray | None:
    with suppress(Exception), np.load(path, allow_pickle=False) as file:  # zip and numpy raise kinds of their own
        images: np.ndarray = file["images"]
        return images if len(images) == count else None
    return None

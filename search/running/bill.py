"""What a study would take: time, memory and disk, from a few steps and one look at a checkpoint on this machine."""

import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search.errors import StudyError
from search.record.record import StudyFolder
from search.running.eta import planned_epochs
from search.running.finals_cost import NO_FINALS, FinalsCost
from search.running.sharing import sharing_of
from search.study.space_values import size as size_of
from search.study.study import Study
from search.verdict.quantities import duration, size
from trainer.config.config import TrainConfig
from trainer.errors import Plain, mistake

if TYPE_CHECKING:
    from search.probe.probe import Probe

_STEPS = 6
"""Steps that are trained; the first one warms caches and does not count."""
_AROUND = 4
"""A guess: checkpoints that `keep.checkpoints: best` leaves of each of three finalists, beside the epoch to ship."""


@dataclass(frozen=True)
class Bill:
    """What was measured, and what follows from it.

    Attributes:
        trials: how many there will be. distinct: different configurations; None for any number of them.
        epochs: of the shortest and of the longest planned trial. all_epochs: of all trials, if none ends early.
        photos: (trained on, held out). steps_per_epoch: of the settings that were measured. passes: over the photos
            trained on, of an epoch.
        settings: those, in words.
        device: what it was measured on.
        prepare, step, images, readings: seconds to load and build the probe, of a trial's step (of a shared one, its
            part), and of a checkpoint's images and readings.
        checkpoints: of all trials. workers: that share the work. at_once: trials of each that share a step.
        memory: peak, GiB. lora, pictures: bytes of a checkpoint's LoRA and images.
        kept: LoRAs that stay at the end. finals: what is drawn and trained after the search; twin_losses: seconds of
            all of the twins' losses at a checkpoint.
        critic: seconds that its critic was trained now, which the study need not do again.
        notices: what the study would say of its base and its photos.
    """

    study: str
    trials: int
    distinct: int | None
    epochs: tuple[int, int]
    all_epochs: float
    photos: tuple[int, int]
    steps_per_epoch: int
    passes: float
    settings: str
    device: str
    prepare: float
    step: float
    images: float
    readings: float
    checkpoints: float
    workers: int
    memory: float
    lora: int
    pictures: int
    kept: float
    at_once: int = 1
    finals: FinalsCost = NO_FINALS
    twin_losses: float = 0.0
    critic: float = 0.0
    notices: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Time on the clock, if no trial ends early."""
        training = self.all_epochs * self.steps_per_epoch * self.step
        looking = self.checkpoints * (self.images + self.readings)
        return self.prepare + (training + looking) / min(self.workers, self.trials) + self.drawing_again

    @property
    def drawing_again(self) -> float:
        """Time on the clock for the finals."""
        return self.finals.seconds(
            self.all_epochs / self.trials * self.steps_per_epoch * self.step,
            self.images,
            self.readings,
            workers=self.workers,
            twin_losses=self.twin_losses * self.checkpoints / self.trials,
        )

    @property
    def disk(self) -> float:
        """Bytes in the end."""
        return self.kept * self.lora + self.checkpoints * self.pictures

    def lines(self) -> list[str]:
        """All of it in words."""
        low, high = self.epochs
        span = f"{low} epochs" if low == high else f"{low} to {high} epochs"
        look = self.images + self.readings
        each = "different configurations" if self.distinct != 1 else "configuration"
        found = "any number of" if self.distinct is None else f"{self.distinct:,}"
        trained, held = self.photos
        return [
            f"study {self.study}: {self.trials} trials of {span}, {self.all_epochs:,.0f} epochs in all",
            f"search space: {found} {each}",
            f"photos: {trained} to train on, {held} held out; {self.steps_per_epoch} steps an epoch"
            + ("" if self.passes == 1 else f", {self.passes:.3g} passes over them"),
            f"measured on {self.device} with {self.settings}"
            + (f", {self.at_once} trials at once:" if self.at_once > 1 else ":"),
            f"  a step {_seconds(self.step)}, a look at a checkpoint {_seconds(look)} "
            f"(images {_seconds(self.images)}, readings {_seconds(self.readings)})",
            f"time: at most {duration(self.seconds)}"
            + (f" with {self.workers} workers" if self.workers > 1 else "")
            + f", {duration(self.prepare)} of it to load"
            + (f" and {duration(self.drawing_again)} to {self.finals}" if self.drawing_again else "")
            + "; less where trials are stopped early",
            *([f"critic: trained just now in {duration(self.critic)}, and kept for the study"] if self.critic else ()),
            f"memory: {self.memory:.1f} GiB" + (" each worker" if self.workers > 1 else ""),
            f"disk: about {size(round(self.disk))} in the end (a LoRA {size(self.lora)}, "
            f"the images of a checkpoint {size(self.pictures)})",
        ]


def measure(study: Study, folder: StudyFolder) -> Bill:
    """Load the study's base, encoder and probe, train a few steps, look once. Nothing of it is kept but what the study
    would compute again: the probe, latents and embeddings in its `cache/`.

    Raises:
        StudyError: the study trains nothing.
        TrainerError, MetricsError: what the study is given cannot be used.
    """
    if study.finished_run is not None:
        raise StudyError([mistake(None, "--dry-run", Plain("a run that is finished"), "a study that trains")])
    import torch

    from search.probe.critic import TRAINING
    from search.probe.probe import open_probe, write_probe_samples
    from search.running.pack_measure import measured, step_seconds
    from search.running.worker_process import cores, load_models
    from trainer.checkpoint import LORA_FILE
    from trainer.packing.builder import pack_settings, run_settings
    from trainer.packing.pack import Pack
    from trainer.production.progress import memory_gib

    began, said = time.perf_counter(), list[tuple[str, float]]()

    def say(what: str) -> None:
        said.append((what, time.perf_counter()))
        print(what, flush=True)

    config = study.config(next(study.space.combinations()))
    models = load_models(study, folder, 0)
    base, device = models.base, models.base.device
    probe = open_probe(study, base, folder.cache, models.encoder, models.identity, say)
    critic = sum(after - at for (what, at), (_, after) in pairwise(said) if what.startswith(TRAINING))
    prepare = time.perf_counter() - began - critic
    torch.set_num_threads(study.workers.threads_of_each(cores()))
    asked = study.workers.pack
    sharing = measured(study, probe) if asked == "auto" else sharing_of(study, asked)
    at_once = sharing.width or 1
    with tempfile.TemporaryDirectory(prefix="onset-bill-") as aside:
        pack = Pack(
            base,
            probe.trained,
            pack_settings(config),
            cache=probe.cache,
            width=sharing.width,
            max_rank=sharing.max_rank,
        )
        settings = run_settings(config, output_name=study.name)
        run, *_ = [pack.join(settings, run_dir=Path(aside) / str(seat)) for seat in range(at_once)]
        steps = step_seconds(pack, _STEPS)
        _, images, seconds = probe.read(run.lora_weights(), epoch=1, effort=1.0)
        write_probe_samples(Path(aside) / "images.png", probe, images)
        twin_losses = _twin_losses(probe) if study.num_twins else 0.0
        pictures = sum(file.stat().st_size for file in Path(aside).glob("images*"))
        lora = (run.save() / LORA_FILE).stat().st_size
    return Bill(
        study=study.name,
        photos=(probe.trained.num_photos, len(study.photos) - probe.trained.num_photos),
        notices=probe.told,
        steps_per_epoch=pack.steps_per_epoch,
        passes=pack.steps_per_epoch / pack.steps_per_pass,
        settings=f"{config.optimizer}, rank {config.rank}, batch {config.batch_size}",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"the {device.type.upper()}",
        prepare=prepare,
        critic=critic,
        step=float(np.median(steps[1:] if len(steps) > 1 else steps)) / at_once,
        images=seconds["sample"],
        readings=seconds["score"],
        workers=study.workers.count,
        memory=memory_gib(base),
        lora=lora,
        pictures=pictures if study.keep.samples else 0,
        at_once=at_once,
        finals=FinalsCost.of(study),
        twin_losses=twin_losses,
        **planned(study, config.save_every_n_epochs),
    )


def planned(study: Study, every: int) -> dict[str, Any]:
    """What of a bill follows from the study alone, where its trials have a checkpoint every so many epochs."""
    horizons = planned_epochs(study.space, study.train.get("epochs", TrainConfig.model_fields["epochs"].default))
    trials = study.trials
    looks = trials * float(np.mean([np.ceil(horizon / every) for horizon in horizons]))
    return {
        "trials": trials,
        "distinct": size_of(study.space),
        "epochs": (min(horizons), max(horizons)),
        "all_epochs": trials * float(np.mean(horizons)),
        "checkpoints": looks,
        "kept": {"all": looks, "best": trials + 3.0 * _AROUND, "none": 3.0}[study.keep.checkpoints],
    }


def _twin_losses(probe: "Probe") -> float:
    """Seconds to measure every photo that is trained on once, as twins do at each checkpoint."""
    from search.probe.heldout_losses import evaluation_of

    evaluation = evaluation_of(probe, range(probe.trained.num_photos))
    began = time.perf_counter()
    evaluation.losses(precision=probe.precision)
    return time.perf_counter() - began


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else duration(value)

"""The probe: what every checkpoint of a study is looked at with, built once, and the photos held out for it.

trainer and metrics get arrays and labels; that a study exists is known here only.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from metrics.checkpoint.calibration import VERSION as CALIBRATION_VERSION
from metrics.checkpoint.encoders import Encoder
from metrics.checkpoint.objective import scored_by
from metrics.checkpoint.score import Calibration, ProbeLabels, read_checkpoint
from metrics.errors import MetricsError
from metrics.trajectory.readings import Readings
from search.probe.build_probe import build_probe, evaluations, trained_part
from search.probe.critic import Critic, forget_parts, open_critic
from search.probe.drawing import drawing_of
from search.probe.probe_files import CRITIC_FILE, PROBE_FILES, building, keep_probe_file
from search.record.events import load_readings
from search.record.lock import locked
from search.record.probe_description import PROBE_FILE, ProbeDescription
from search.record.record import StudyFolder, write_samples
from search.study.objective import Objective, base_scored
from search.study.settings import ScoreSection
from search.study.study import Study
from trainer.base_model.fingerprint import fingerprint_base
from trainer.config.config import TrainConfig
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset, load_pixels, scan_dataset
from trainer.families import Base
from trainer.inference.evaluate import Evaluation
from trainer.inference.sample import sample, with_lora
from trainer.lora.lora import LoraWeights

_WAITING_SECONDS = 60.0  # after which a worker says again that it waits


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
        critic: says which images show the subject, where the study has one.
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
    critic: Critic | None = None

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
            self.calibration,
            epoch=epoch,
            effort=effort,
            images=images,
            losses=losses,
            gains=self.gains(images, self.labels),
            unseen=twin is None,
        )
        readings = scored_by(self.objective, found)
        return readings, np.concatenate([images, more]), {"sample": drawn - began, "score": time.perf_counter() - drawn}

    def gains(self, images: np.ndarray, labels: ProbeLabels) -> np.ndarray | None:
        """What the critic says of images of these labels; None where the study has none, or one that has learned
        nothing."""
        if self.critic is None or not self.calibration.critic:
            return None
        return self.critic.gains(images, labels.prompts)

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


def open_probe(
    study: Study,
    base: Base,
    folder: Path,
    encoder: Encoder,
    identity: Encoder | None,
    say: Callable[[str], None] = lambda what: None,
) -> Probe:
    """Load the study's probe from `cache/`, or build it: the first worker builds, the others wait.

    Raises:
        TrainerError, MetricsError: photos, masks or settings that cannot be used.
        MissingReadingError: `score.objective` asks for a reading that this study does not take.
    """
    probe = _opened(study, base, folder, encoder, identity, say)
    readings, unscored = base_scored(study.objective, probe.base_readings)
    notices = (*probe.notices, *unscored)
    return replace(probe, base_readings=readings, notices=notices, objective=study.objective)


def _opened(
    study: Study,
    base: Base,
    folder: Path,
    encoder: Encoder,
    identity: Encoder | None,
    say: Callable[[str], None],
) -> Probe:
    config = study.config(next(study.space.combinations()))
    home = folder / "probe"
    cache = LatentCache(base, folder / "latents")
    dataset = scan_dataset(study.data, reg_data=study.reg_data, trigger=config.trigger, class_word=config.class_word)

    def load(place: Path, about: ProbeDescription) -> Probe:
        keep_probe_file(place, folder.parent)
        return _load(study, config, base, cache, dataset, place, about, encoder, identity)

    # lock and new probe lie beside the cache, which may be deleted at any time
    with _alone(folder.parent / ".probe.lock", say):
        about = _known(study, home, fingerprint_base(study.base, remember=folder))
        if about is not None:
            try:
                return load(home, about)
            except (FileNotFoundError, MetricsError) as error:
                needed = (*PROBE_FILES, CRITIC_FILE) if study.score.critic.steps else PROBE_FILES
                # of another encoder, say: until a trial was measured nothing binds
                binds = StudyFolder(folder.parent).has_checkpoints or not isinstance(error, MetricsError)
                if binds and all((home / name).is_file() for name in needed):
                    raise
        with building(folder.parent, home) as aside:
            built = build_probe(study, config, base, cache, dataset, aside, folder, encoder, identity, say)
            probe = load(aside, built)
        forget_parts(folder)
        return probe


@contextmanager
def _alone(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock, however long another worker builds: a critic may take it hours. Who dies gives it back."""
    while True:
        with locked(lock, wait_seconds=_WAITING_SECONDS) as alone:
            if alone:
                yield
                return
        say("waiting for the probe")


def _known(study: Study, home: Path, base: str) -> ProbeDescription | None:
    """What the kept probe's `probe.json` says; None where there is none, or one of other settings or another base.

    Args:
        base: its fingerprint.
    """
    try:
        about = ProbeDescription.load(home / PROBE_FILE)
    except (FileNotFoundError, ValueError):
        return None
    same = (about.study, about.calibration) == (study.probe_digest, CALIBRATION_VERSION)
    return about if same and about.base in ("", base) and about.photos else None


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
        trained=trained_part(dataset, about.trained_rows),
        everything=dataset,
        losses=evaluations(study, config, base, cache, photos, pixels, rows_of, moved),
        calibration=calibration,
        base_images=arrays["base_images"],
        base_readings=readings,
        precision=about.precision,
        notices=about.notices,
        added=study.added.prompts,
        critic=open_critic(study.score, base, cache, home, config.clip_skip, about.precision),
    )


def _as_built(dataset: Dataset, contents: Sequence[str]) -> Dataset:
    """The photos in the order in which the probe was built, whatever their files are called today: rows stay theirs."""
    rows: dict[str, list[int]] = {}
    for row, photo in enumerate(dataset.photos):
        rows.setdefault(photo.content, []).append(row)
    return dataset.subset(rows[content].pop(0) for content in contents)


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

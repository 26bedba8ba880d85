"""The critic: a LoRA of the photos, trained once before anything is judged. An image shows the subject as far as the
critic finds it likelier than the base does."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from metrics.checkpoint.encoders import Images
from search.probe.probe_files import CRITIC_FILE, is_whole
from search.probe.prompts import probe_seed
from search.record.json_files import digest_of
from search.record.versions import of_training
from search.study.critic_run import PARTS
from search.study.settings import ScoreSection
from search.study.study import Study
from trainer.base_model.fingerprint import fingerprint_base
from trainer.config.config import TrainConfig
from trainer.data.cache import LatentCache
from trainer.data.dataset import Dataset
from trainer.errors import TrainerError
from trainer.families import Base
from trainer.files import shown
from trainer.inference.evaluate import Evaluation
from trainer.lora.kohya_file import load_lora, read_metadata, save_lora
from trainer.lora.lora import LoraWeights
from trainer.packing.builder import pack_settings, run_settings
from trainer.packing.cpu_tuning import prepack_convolutions
from trainer.packing.pack import Pack

TRAINING = "training the critic"
"""What is said meanwhile."""
_MARK = "onset_critic"  # key in its file: what its weights follow from
_PLACE = "critic-"  # how folders begin in which its checkpoints lie while it is trained


@dataclass(frozen=True)
class Critic:
    """Says how much likelier images are with the subject than without.

    The difference of two denoising losses of an image, under the base and under a LoRA of the subject: a diffusion
    classifier (Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier"). Noise depends on an image's
    place alone, so images of one prompt and seed are compared under the same one.
    """

    base: Base
    cache: LatentCache
    lora: LoraWeights
    score: ScoreSection
    clip_skip: int | None
    precision: str | None

    def gains(self, images: Images, captions: Sequence[str]) -> np.ndarray:
        """Loss under the base minus loss under the critic, mean over noise levels and draws: `[n]` float64.

        Args:
            images: uint8 `[n, H, W, 3]`, or a list of such.
            captions: what each of them shows, with the trigger.
        """
        section = self.score.critic
        evaluation = Evaluation.prepare(
            self.base,
            np.stack(list(images)),
            captions,
            levels=section.levels,
            draws=section.draws,
            seed=probe_seed(self.score, "critic", 0),
            clip_skip=self.clip_skip,
            cache=self.cache,
        )
        before, after = (evaluation.losses(lora, precision=self.precision) for lora in (None, self.lora))
        gains: np.ndarray = (before - after).mean(axis=(1, 2))
        return gains


def write_critic(
    study: Study,
    base: Base,
    photos: Dataset,
    cache: LatentCache,
    to: Path,
    aside: Path,
    say: Callable[[str], None] = lambda what: None,
) -> str | None:
    """Write its file: trained here, or by a study of the same runs folder that trained the same one (`budget.reuse`).

    Args:
        photos: what the trials are trained on.
        to: the folder of its file.
        aside: the study's cache, where its checkpoints lie until `forget_parts`; a killed training goes on from them.

    Returns:
        The other study that it was taken from; None where it is this study's own.

    Raises:
        TrainerError: it cannot be trained, or blows up.
    """
    own = study.critic_run
    assert own is not None
    mark = _mark(study, own, base, photos, aside)
    known = aside.parent.parent.glob(f"*/{aside.name}/probe/{CRITIC_FILE}") if study.budget.reuse else ()
    for file in sorted(known, key=lambda file: (file.parents[1] != aside, file)):
        with suppress(OSError):  # that study is being deleted at this moment
            if is_whole(file) and read_metadata(file).get(_MARK) == mark:
                shutil.copyfile(file, to / CRITIC_FILE)
                return None if file.parents[1] == aside else shown(file.parents[2].name)
    weights = train_critic(own, base, photos, cache, aside / f"{_PLACE}{mark[:16]}", say)
    save_lora(to / CRITIC_FILE, weights, {_MARK: mark})
    return None


def forget_parts(aside: Path) -> None:
    """Remove what a training has left in the study's cache; the critic is there."""
    for place in aside.glob(f"{_PLACE}*"):
        shutil.rmtree(place, ignore_errors=True)


def _mark(study: Study, own: TrainConfig, base: Base, photos: Dataset, cache: Path) -> str:
    """SHA-256 of all that its weights follow from."""
    return digest_of(
        {
            "base": fingerprint_base(study.base, remember=cache),
            "photos": [photo.content for photo in photos.photos],
            "run": own.model_dump(mode="json", exclude={"base", "data", "reg_data"}),
            "device": [base.device.type, str(torch.get_num_threads()), str(study.workers.deterministic)],
            "versions": of_training(),
        }
    )


def train_critic(
    config: TrainConfig,
    base: Base,
    photos: Dataset,
    cache: LatentCache | None,
    place: Path,
    say: Callable[[str], None] = lambda what: None,
) -> LoraWeights:
    """The critic that `critic_config` describes; its checkpoints lie in `place`, and stay there.

    Raises:
        TrainerError: it cannot be trained, or blows up.
    """
    pack = Pack(base, photos, pack_settings(config), cache=cache)
    run = pack.join(run_settings(config, output_name="critic"), run_dir=place)
    while not run.finished and run.failed is None:
        say(f"{TRAINING} ({run.epoch} of {PARTS} parts done)")
        pack.train_epoch()
        if run.failed is None:
            run.save()
    weights = run.lora_weights()
    pack.leave(run)
    if run.failed is not None:
        raise TrainerError(
            f"score.critic: it cannot be trained ({run.failed}); with steps: 0 the encoder says what images show"
        )
    return weights


def open_critic(
    score: ScoreSection, base: Base, cache: LatentCache, home: Path, clip_skip: int | None, precision: str | None
) -> Critic | None:
    """The critic whose file lies in the probe's folder; None where the study has none.

    Raises:
        FileNotFoundError: there is no such file. ModelError: it is damaged.
    """
    if not score.critic.steps:
        return None
    if not (home / CRITIC_FILE).is_file():
        raise FileNotFoundError(home / CRITIC_FILE)
    lora = load_lora(home / CRITIC_FILE, family=base.family.name)
    if base.device.type == "cpu":
        prepack_convolutions(base.denoiser)  # as its training does: it reads the same, wherever it was trained
    return Critic(base, cache, lora, score, clip_skip, precision)

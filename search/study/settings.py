"""The sections of a study file beside `train` and `search`: scoring, budget, when to stop, where it runs."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from metrics.onset.turns import DEFAULT_SHIP, Ship
from trainer.config.yaml_file import as_number
from trainer.errors import nearest

CONTEXTS = (
    "a photo of {trigger} {class} on a beach",
    "a photo of {trigger} {class} in deep snow",
    "a photo of {trigger} {class} in a forest, seen from far away",
    "a photo of {trigger} {class} on a busy street at night",
    "a close-up of {trigger} {class} at the left edge, a plain red wall behind",
    "a watercolour painting of {trigger} {class}",
    "a black and white pencil drawing of {trigger} {class}",
    "a photo of {trigger} {class} in a kitchen, seen from above",
)
FRESH_CONTEXTS = (
    "a photo of {trigger} {class} beside a mountain lake",
    "a photo of {trigger} {class} in tall grass at sunset",
    "a photo of {trigger} {class} in an empty parking lot, seen from far away",
    "a photo of {trigger} {class} in a library, warm light",
    "a close-up of {trigger} {class} at the right edge, a plain blue wall behind",
    "an oil painting of {trigger} {class}",
    "a comic book drawing of {trigger} {class}",
    "a photo of {trigger} {class} on a wooden floor, seen from above",
    "a photo of {trigger} {class} under an old stone bridge",
    "a photo of {trigger} {class} in a desert, harsh sunlight",
    "a photo of {trigger} {class} in thick fog, seen from far away",
    "a photo of {trigger} {class} at a market, many people around",
    "a close-up of {trigger} {class} in the rain, at night",
    "a minimalist poster of {trigger} {class}",
    "a charcoal sketch of {trigger} {class}",
    "a photo of {trigger} {class} in an empty white room, seen from the side",
)
"""For finalists: as `CONTEXTS`, but other ones, and twice as many."""
PLACES = (
    "a beach",
    "a snowy field",
    "a forest",
    "a city street at night",
    "a plain red wall",
    "a kitchen",
    "a mountain lake",
    "an empty parking lot",
)


MOST_SEED = 2**32 - 1
SAMPLERS = ("tpe", "random", "qmc", "gp", "cmaes", "grid")
PRUNERS = ("peers", "median", "percentile", "hyperband", "successive_halving", "threshold")
Argument = bool | int | float | str | None | list[bool | int | float | str]
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_Prompt = Annotated[str, Field(min_length=1, max_length=2000)]
_Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return as_number(value)


def _named(value: str, known: tuple[str, ...]) -> str:
    if value not in known and not _CLASS.fullmatch(value):
        raise ValueError(f"{', '.join(known)}, or module:Class{nearest(value, known)}")
    return value


class ProbeSection(Section):
    """What every checkpoint is drawn with; one image for each prompt and seed."""

    seeds: int = Field(default=2, ge=1, le=100)
    """Images per prompt."""
    steps: int = Field(default=12, ge=1, le=1000)
    """Sampler steps."""
    guidance: float = Field(default=6.0, ge=1, le=100)
    """Classifier-free guidance; 1 is none."""
    scheduler: Literal["dpmpp_2m", "unipc", "ddim", "euler_a"] = "dpmpp_2m"
    """Sampler."""
    negative: str = Field(default="", max_length=2000)
    """Negative prompt."""
    trained: int = Field(default=4, ge=0, le=1000)
    """Set A: captions of this many photos trained on."""
    heldout: int = Field(default=4, ge=0, le=1000)
    """Set B: captions of at most this many held-out photos."""
    contexts: list[_Prompt] = Field(default=list(CONTEXTS), min_length=1, max_length=1000)
    """Set C: prompts in contexts that the photos do not show, with {trigger} and {class}."""


class LossesSection(Section):
    """Losses of photos held out, alone or with their context: each at fixed noise levels with fixed noise."""

    levels: int = Field(default=8, ge=1, le=1000)
    """Noise levels."""
    draws: int = Field(default=1, ge=1, le=1000)
    """Noises for each level. Photos differ by two to three times as much (benchmarks.loss_draws)."""


class ShiftedSection(Section):
    """The loss on moved subjects: cut out, moved and pasted into contexts that the base draws."""

    composites: int = Field(default=64, ge=0, le=100_000)
    """How many; 0 switches the channel off."""
    levels: int = Field(default=4, ge=1, le=1000)
    """Noise levels."""
    draws: int = Field(default=1, ge=1, le=1000)
    """Noises for each level."""
    contexts: list[_Prompt] = Field(default=list(PLACES), min_length=1, max_length=1000)
    """Prompts of the backgrounds, without the subject."""
    caption: _Prompt = "a photo of {trigger} {class}, {context}"
    """Caption of a composite; {position} (left, centre, right) and {size} (small, large) may stand in it too."""
    masks: str = "auto"
    """auto (alpha channel, else the segmenter if one is named, else where the base looks, else saliency), alpha,
    segmentation, attention (the base's own, for the class word), saliency, none (a style), or a folder of masks named
    as the photos."""
    segmenter: str | None = None
    """Segmentation model of transformers (CLIPSeg-like ones are asked for the class word), or a background remover such
    as rembg:isnet-general-use (pip install -e '.[masks]')."""


class CriticSection(Section):
    """A LoRA of the photos that is trained once, before the trials, and then says of each image, beside the encoder,
    whether it shows the subject: how much likelier it is under this LoRA than under the base."""

    steps: int = Field(default=0, ge=0, le=1_000_000)
    """Optimizer steps of its training (Prodigy, rank 8), rounded up to a multiple of 4; 400 do for 20 to 40 photos.
    0: no critic, and the encoder alone says what an image shows."""
    levels: int = Field(default=4, ge=1, le=1000)
    """Noise levels at which an image is read."""
    draws: int = Field(default=1, ge=1, le=1000)
    """Noises for each level."""


class ScoreSection(Section):
    """How a checkpoint is scored."""

    encoder: str = "ViT-B-32/laion2b_s34b_b79k"
    """open_clip model as NAME/pretrained, or a folder with an open_clip config and weights."""
    identity_encoder: str | None = None
    """A second image encoder for identity, e.g. timm:vit_small_patch14_dinov2.lvd142m, or a folder of timm's."""
    holdout: int = Field(default=4, ge=0, le=100_000)
    """Photos held out of training to measure with."""
    holdout_contexts: list[str] = Field(default_factory=list, max_length=1000)
    """Contexts held out as a whole: all photos whose captions have one of these words, e.g. [beach, at night]. Their
    loss shows what new contexts cost."""
    seed: int = Field(default=1, ge=0, le=MOST_SEED)
    """Seed of the hold-out split, the probe's images and the losses' noise: never that of training."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of drawing and of losses; auto takes bf16 where the device is faster with it."""
    probe: ProbeSection = ProbeSection()
    """What is drawn at each checkpoint."""
    losses: LossesSection = LossesSection()
    """Losses of held-out photos."""
    shifted: ShiftedSection = ShiftedSection()
    """Losses of subjects that are moved elsewhere."""
    critic: CriticSection = CriticSection()
    """Says with the encoder which images show the subject."""
    ship: Ship = DEFAULT_SHIP
    """Which checkpoint of a run is scored and shipped. safe: the last one whose images do all that prompts ask for.
    likeness: the last one before the photos are memorised, where the subject is most alike. balanced: the first from
    the safe one on that has 90 % of what held-out photos gain, at most at 1.4 times the onset. Where no
    photos are held out, the last one up to 1.4 times the onset; where whole contexts alone are, the safe one."""
    weights: dict[str, _Weight] = Field(default_factory=dict)
    """How much copying, colour, composition, diversity and consistency can each take from the score; those left out
    have weight 1, consistency 0 where there is a critic."""
    objective: str | None = None
    """A function of your own that makes the score, as module:function, from the study file's folder or the environment:
    it gets a checkpoint's readings and returns a number, higher is better."""

    @field_validator("objective")
    @classmethod
    def _objective(cls, value: str | None) -> str | None:
        if value is not None and not _CLASS.fullmatch(value):
            raise ValueError("module:function")
        return value


class BudgetSection(Section):
    """How much to spend. May change between one run of a study and the next."""

    trials: int = Field(default=30, ge=1, le=100_000)
    """Trials in all, failed ones included."""
    startup_trials: int | None = Field(default=None, ge=1, le=100_000)
    """Trials drawn at random before the sampler learns; None: a third of `trials`, at most 10."""
    reuse: bool = True
    """Take the readings of a run that a trial of this study, or of another one in the same runs folder, has had; and a
    critic that another study there has trained."""
    hours: float | None = Field(default=None, gt=0, le=100_000)
    """No new trial is begun after this long (time of earlier sittings counts)."""

    @property
    def startup(self) -> int:
        """`startup_trials` in force."""
        return self.startup_trials or min(10, max(1, self.trials // 3))


class SamplerSection(Section):
    """How the settings of the next trial are chosen. May change between one run of a study and the next."""

    name: str = "tpe"
    """tpe, random, qmc, gp, cmaes (`pip install cmaes`) or grid (every configuration once, in random order), or any
    sampler of Optuna's kind as module:Class. One of your own is made anew for each question."""
    arguments: dict[str, Argument] = {}
    """Keywords for that sampler's class."""
    start_with: list[dict[str, Argument]] = Field(default_factory=list, max_length=1000)
    """Settings to try first, in this order, e.g. [{optimizer: AdamW, rank: 16}]. Searched fields that are left out are
    drawn."""
    learn_from: list[str] = Field(default_factory=list, max_length=100)
    """Earlier studies of the same base in the same runs folder, by name: TPE begins with where their good settings lay.
    Their scores do not count, since other photos were scored."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return _named(value, SAMPLERS)


class FinalistsSection(Section):
    """The best trials, drawn again before the verdict with seeds and prompts that the search never used. May change
    between one run of a study and the next."""

    trials: int = Field(default=4, ge=0, le=50)
    """How many of the best trials are drawn again, each at its epoch to ship; the verdict is made among them. 0: none,
    and the scores of the search decide."""
    seeds: int | None = Field(default=None, ge=1, le=100)
    """Images per prompt; None: as many as the probe's. There are up to twice as many prompts as the probe has."""
    contexts: list[_Prompt] | None = Field(default=None, min_length=1, max_length=1000)
    """Prompts in new contexts, with {trigger} and {class}. None: the captions of moved subjects, where
    score.shifted.contexts are your own, else a list that comes along."""
    retrain: bool = False
    """Train them a second time, under another seed, up to their epochs to ship: then both trainings count. It takes as
    long as the finalists took."""
    twins: int = Field(default=0, ge=0, le=8)
    """So many small trainings at the winner's settings, each without another part of the photos, say where memorising
    begins, although no photo is held out. 2 to 8; 0: none. Together they take about as long as one trial less than
    that, side by side where trials share passes."""
    strengths: list[Annotated[float, Field(gt=0, le=4)]] = Field(default=[0.6, 0.8, 1.0], max_length=12)
    """At which strengths what ships is shown, at its epoch and at the kept checkpoints before and behind it; nothing is
    decided by it. []: none."""
    transfer_bases: list[str] = Field(default=[], max_length=20)
    """Other bases of the same family, paths or hub ids: what ships is shown on each of them, too."""

    @field_validator("twins")
    @classmethod
    def _twins(cls, value: int) -> int:
        if value == 1:
            raise ValueError("0 (none), or from 2 to 8")
        return value


class StopSection(Section):
    """When a trial ends before its horizon."""

    onset: bool = True
    """At a confirmed onset of overfitting."""
    prune: bool = True
    """When it is worse than its peers at equal progress."""
    pruner: str = "peers"
    """What says so: peers (ours, at equal progress of the learning rate), or Optuna's, at equal epochs: median,
    percentile, hyperband, successive_halving or threshold; or any pruner of Optuna's kind as module:Class."""
    pruner_arguments: dict[str, Argument] = {}
    """Keywords for that pruner's class."""

    @field_validator("pruner")
    @classmethod
    def _pruner(cls, value: str) -> str:
        return _named(value, PRUNERS)


class RaySection(Section):
    """The Ray cluster that places the workers, with `workers.kind: ray`."""

    address: str | None = None
    """auto (the cluster that this machine belongs to), or host:port of its head; None: one of this machine alone, for
    the length of the study."""
    gpus: float | None = Field(default=None, ge=0, le=64)
    """GPUs of each worker, such as 1 or 0.5; None: one, where the cluster has GPUs."""
    cpus: float | None = Field(default=None, gt=0, le=1024)
    """CPUs of each worker; it takes as many threads, unless workers.threads says otherwise. None: one CPU is set aside
    for each."""

    @field_validator("address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value not in (None, "auto") and not re.fullmatch(r"[\w.-]+:\d{1,5}", str(value), re.ASCII):
            raise ValueError("auto, host:port, or nothing")
        return value

    @field_validator("gpus")
    @classmethod
    def _gpus(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value % 1:
            raise ValueError("a part of one GPU, or a whole number")
        return value


class SlurmSection(Section):
    """The Slurm jobs that the workers are, with `workers.kind: slurm`."""

    partition: str | None = Field(default=None, min_length=1, max_length=200)
    """Where they run; None: Slurm's default."""
    hours: float = Field(default=24, gt=0, le=10_000)
    """Time limit of each job. A worker whose job has come to it is followed by another, which goes on from the last
    checkpoint."""
    gpus: int | None = Field(default=None, ge=0, le=64)
    """GPUs of each worker; None: one, or none with workers.device: cpu."""
    cpus: int = Field(default=4, ge=1, le=1024)
    """CPUs of each worker, and as many threads, unless workers.threads says otherwise."""
    memory_gib: int | None = Field(default=None, ge=1, le=10_000)
    """Memory of each worker; None: what Slurm gives."""
    options: dict[str, Argument] = {}
    """Further options of sbatch by their names, such as {account: lab, qos: high}."""
    host: str | None = Field(default=None, pattern=r"^[\w.:-]+$", max_length=200)
    """The address of the machine that runs the study, as the nodes see it; None: its name."""


class WorkersSection(Section):
    """Where trials run. May change between one run of a study and the next."""

    kind: Literal["local", "ray", "slurm"] = "local"
    """local: processes on this machine. ray: the same workers, placed on a Ray cluster (pip install -e '.[ray]').
    slurm: the same, each a job of Slurm's (pip install -e '.[slurm]')."""
    count: int = Field(default=1, ge=1, le=1024)
    """Worker processes; with several, worker i takes GPU i where there are GPUs."""
    ray: RaySection = RaySection()
    """With `kind: ray`, where and how large they are."""
    slurm: SlurmSection = SlurmSection()
    """With `kind: slurm`, what is asked for."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads of each worker; None shares the cores among them."""
    pack: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    """Trials that each worker trains at once: they share every pass through the base. auto: as many as memory holds, at
    least four in turn."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    deterministic: bool = True
    """On an NVIDIA GPU, only operations that give the same numbers each time; false lets it take faster ones."""
    hung_after: float | None = Field(default=None, gt=0, le=86400)
    """Seconds without a sign of life after which a worker is replaced; None: 20 times its own slowest step, at least
    120."""

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,2})?", value, re.ASCII):
            raise ValueError("auto, cpu, cuda, cuda:N or mps")
        return value

    def threads_of_each(self, cores: int) -> int:
        """CPU threads of one worker on a machine with so many cores."""
        placed = {"ray": self.ray.cpus, "slurm": self.slurm.cpus}.get(self.kind)
        return self.threads or (max(1, int(placed)) if placed else max(1, cores // self.count))


class KeepSection(Section):
    """What stays on disk. May change between one run of a study and the next."""

    checkpoints: Literal["best", "all", "none"] = "best"
    """best: of every complete trial the epoch to ship, of the three best ones also those around the onset and the safe
    and the most alike epoch; all; none: only the three best trials' epoch to ship."""
    states: bool = False
    """Of each complete trial that came to its horizon, what training needs to go on exactly from its last checkpoint: a
    study with more epochs then goes on from there. Takes about three times the LoRA's room."""
    samples: bool = True
    """The probe's images of every checkpoint."""


class TrackSection(Section):
    """Losses, readings, scores and settings of the trials in TensorBoard or Weights & Biases, a run for each trial. May
    change between one run of a study and the next."""

    log_with: Literal["tensorboard", "wandb"] | None = None
    """tensorboard (pip install -e '.[tables]') or wandb (pip install wandb); None: neither. Accelerate writes them."""
    logging_dir: str | None = Field(default=None, min_length=1)
    """The folder for the logs; None: logs in the study's own folder."""
    log_tracker_name: str | None = Field(default=None, pattern=r"^[\w.-]{1,100}$")
    """Weights & Biases' project, TensorBoard's folder below logging_dir. None: the study's name."""

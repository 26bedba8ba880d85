"""TrainConfig: everything a LoRA training run can be told, checked before a second of compute is spent.

`load_train_config(path)` reads a YAML file; `parse_train_config(mapping)` checks settings given in code.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from trainer.errors import ConfigError
from trainer.optimizers import OPTIMIZERS

OptimizerName = Literal[
    "AdamW", "AdamW8bit", "Adafactor", "DAdaptAdam", "Prodigy", "Lion", "Lion8bit", "AdamWScheduleFree"
]
SchedulerName = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "adafactor"
]


class TrainConfig(BaseModel):
    """One LoRA training run. Names are kohya's and diffusers' own words."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    base: str = Field(min_length=1)
    """Base model: a diffusers folder, a single .safetensors file, or a hub id."""
    family: Literal["auto", "sd15", "sdxl", "sd3"] = "auto"
    """Model family; auto looks at the base."""
    data: str = Field(min_length=1)
    """Training folder in kohya's layout: <repeats>_<trigger> <class>/ with images and captions."""
    reg_data: str | None = None
    """Regularisation folder: <repeats>_<class>/."""
    resolution: int | tuple[int, int] = 512
    """Side of the square, or [width, height], in pixels; multiples of 8."""
    batch_size: int = Field(1, ge=1)
    """Images per forward and backward pass."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Batches per optimizer step."""
    enable_bucket: bool = False
    """Sort images into aspect-ratio buckets instead of cropping all to `resolution`."""
    bucket_step: int = Field(64, ge=8, multiple_of=8)
    """Bucket sides are multiples of this, in pixels."""
    min_bucket_resolution: int = Field(256, ge=8)
    """Smallest side of a bucket, in pixels."""
    max_bucket_resolution: int = Field(1024, ge=8)
    """Largest side of a bucket, in pixels."""
    flip: bool = False
    """Mirror half of the images at random."""
    shuffle_caption: bool = False
    """Shuffle the comma-separated tags of captions, anew each epoch."""
    keep_tokens: int = Field(0, ge=0)
    """Tags at the front that shuffling leaves alone."""
    caption_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of captions replaced by the empty one."""
    trigger: str | None = None
    """Trigger word; None takes it from the folder's name."""
    class_word: str | None = None
    """Class word; None takes it from the folder's name."""
    clip_skip: int | None = Field(None, ge=1, le=12)
    """Text encoder layer to read, counted from the end; None and 1 are the last."""

    rank: int = Field(16, ge=1, le=1024)
    """Rank of the LoRA (network_dim)."""
    alpha: float | None = Field(None, ge=0)
    """Scale is alpha ÷ rank (network_alpha); None and 0 mean alpha = rank."""
    alpha_ratio: float | None = Field(None, gt=0, le=1)
    """alpha ÷ rank, instead of alpha."""
    targets: Literal["kohya", "attention"] = "kohya"
    """kohya: every linear and 1×1 convolution of the transformer blocks; attention: its projections only."""
    conv_rank: int | None = Field(None, ge=1, le=1024)
    """Rank of adapters on 3×3 convolutions (LoCon); None leaves them alone."""
    conv_alpha: float | None = Field(None, ge=0)
    """Alpha of the convolutions' adapters; None and 0 mean conv_rank."""
    dora: bool = False
    """Weight-decomposed LoRA."""
    rslora: bool = False
    """Rank-stabilised LoRA: scale is alpha ÷ √rank."""
    train_text_encoder: bool = False
    """Train adapters on the text encoders as well."""

    optimizer: OptimizerName = "AdamW"
    """Optimizer."""
    learning_rate: float | None = Field(None, gt=0)
    """Learning rate; None takes the optimizer's usual one × learning_rate_scale."""
    learning_rate_scale: float = Field(1.0, gt=0)
    """Multiplies the optimizer's usual learning rates."""
    text_encoder_lr: float | None = Field(None, ge=0)
    """Learning rate of the text encoders' adapters; None keeps the optimizer's usual ratio to learning_rate."""
    relative_step: bool = False
    """Adafactor sets its own learning rate."""
    d_coef: float = Field(1.0, gt=0)
    """Scales Prodigy's and DAdaptAdam's own estimate of the step size."""
    weight_decay: float | None = Field(None, ge=0)
    """Decoupled weight decay; None takes the optimizer's usual one."""
    optimizer_args: dict[str, Any] = Field(default_factory=dict)
    """Further keywords of the optimizer's class."""
    max_grad_norm: float | None = Field(None, ge=0)
    """Gradients are clipped to this norm; 0 never; None takes the optimizer's usual one."""

    lr_scheduler: SchedulerName = "constant"
    """Course of the learning rate."""
    num_cycles: int | None = Field(None, ge=1)
    """Cycles of cosine_with_restarts."""
    cycle_epochs: int | None = Field(None, ge=1)
    """Length of a cycle of cosine_with_restarts in epochs, instead of num_cycles."""
    warmup_steps: int = Field(0, ge=0)
    """Optimizer steps over which the learning rate rises from 0."""
    epochs: int = Field(10, ge=1)
    """Epochs the schedule is laid out for."""
    save_every_n_epochs: int = Field(1, ge=1)
    """Epochs between checkpoints; the last epoch always gets one."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of initial weights, data order, timesteps and noise."""

    min_snr_gamma: float | None = Field(None, gt=0)
    """min-SNR weighting (Hang et al. 2023); 5 is usual."""
    noise_offset: float = Field(0.0, ge=0, le=1)
    """Adds a constant of this size to each channel of the noise."""
    prior_loss_weight: float = Field(1.0, ge=0)
    """Weight of regularisation images in the loss."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the frozen base; adapters and optimizer stay in fp32."""
    gradient_checkpointing: bool = False
    """Less memory for about 40 % more time."""
    quantize: Literal["nf4", "int8"] | None = None
    """Keep the frozen base quantised (needs a GPU)."""

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name == "optimizer_args" and isinstance(value, Mapping):
            return {name: as_number(number) for name, number in value.items()}
        return value if info.field_name in _TEXT else as_number(value)

    @field_validator("resolution", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        for key, allowed in _conflicts(self):
            raise _Conflict(key, allowed)
        return self

    @property
    def effective_alpha(self) -> float:
        """alpha in the LoRA file: scale is effective_alpha ÷ rank."""
        if self.alpha_ratio is not None:
            return self.alpha_ratio * self.rank
        return float(self.alpha or self.rank)

    @property
    def effective_learning_rate(self) -> float:
        """Peak learning rate of the denoiser's adapters (without meaning under relative_step)."""
        if self.learning_rate is not None:
            return self.learning_rate
        return OPTIMIZERS[self.optimizer].learning_rate * self.learning_rate_scale

    @property
    def effective_text_encoder_lr(self) -> float:
        """Peak learning rate of the text encoders' adapters."""
        if self.text_encoder_lr is not None:
            return self.text_encoder_lr
        usual = OPTIMIZERS[self.optimizer]
        return self.effective_learning_rate * (usual.text_encoder_lr / usual.learning_rate)

    @property
    def effective_weight_decay(self) -> float:
        """Weight decay in force."""
        return OPTIMIZERS[self.optimizer].weight_decay if self.weight_decay is None else self.weight_decay

    @property
    def effective_max_grad_norm(self) -> float:
        """Clipping norm in force; 0 is none."""
        return OPTIMIZERS[self.optimizer].max_grad_norm if self.max_grad_norm is None else self.max_grad_norm

    @property
    def effective_num_cycles(self) -> float:
        """Cycles of cosine_with_restarts over `epochs`; not whole if cycle_epochs does not divide them."""
        if self.cycle_epochs is not None:
            return self.epochs / self.cycle_epochs
        return float(self.num_cycles or 1)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.resolution if isinstance(self.resolution, tuple) else (self.resolution, self.resolution)

    def notices(self) -> tuple[str, ...]:
        """One sentence for each setting that takes no effect."""
        return tuple(_notices(self))


def load_train_config(path: str | Path) -> TrainConfig:
    """Reads a YAML file. Relative `base`, `data` and `reg_data` are resolved against the file's folder; a base that
    does not exist there and looks like org/name is a hub id.

    Raises:
        ConfigError: the file is missing, not YAML, or a setting is wrong; names file, key, value and what is allowed.
    """
    path = Path(path)
    values = read_yaml(path)
    for key in ("base", "data", "reg_data"):
        if isinstance(values.get(key), str):
            values[key] = resolve_source(path, key, values[key])
    return parse_train_config(values, file=path)


def parse_train_config(values: Mapping[str, Any], *, file: str | Path | None = None) -> TrainConfig:
    """Checks settings given as a mapping. Raises ConfigError on the first wrong one."""
    for key in values:
        if key not in TrainConfig.model_fields:
            raise ConfigError(file, str(key), values[key], unknown_key(str(key), TrainConfig.model_fields))
    try:
        return TrainConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, _Conflict):
            given = values.get(cause.key, TrainConfig.model_fields[cause.key].default)
            raise ConfigError(file, cause.key, given, cause.allowed) from None
        key = str(first["loc"][0])
        allowed, value = OPEN_ENDED_TYPES.get(key, first["msg"]), values.get(key)
        if first["type"] == "missing":
            raise ConfigError(file, key, None, f"it is required: {_summary(key)}") from None
        raise ConfigError(file, key, value, _lower(allowed)) from None


def check_pair(optimizer: str, lr_scheduler: str, relative_step: bool) -> str | None:
    """The reason why this optimizer and scheduler cannot work together; None if they can."""
    if relative_step and optimizer != "Adafactor":
        return f"relative_step belongs to Adafactor; {optimizer} needs a learning rate of its own"
    if relative_step and lr_scheduler not in ("adafactor", "constant"):
        return "relative-step Adafactor sets its own rate; use lr_scheduler: adafactor (or relative_step: false)"
    if lr_scheduler == "adafactor" and not relative_step:
        return "lr_scheduler adafactor follows the rate that optimizer Adafactor sets with relative_step: true"
    if optimizer == "AdamWScheduleFree" and lr_scheduler != "constant":
        return "AdamWScheduleFree replaces the schedule; use lr_scheduler: constant (warmup_steps is its own)"
    return None


def as_number(value: Any) -> Any:
    """YAML 1.1 reads 1e-5 as text: such text becomes the number that is meant, in lists too; else no change."""
    if isinstance(value, list):
        return [as_number(item) for item in value]
    if isinstance(value, str) and _EXPONENT.fullmatch(value.strip()):
        return float(value)
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises ConfigError if it is missing, broken, no mapping, or names a key twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, "file", str(path), f"a readable YAML file ({error.__class__.__name__})") from None
    try:
        values = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(path, "file", path.name, f"valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(path, "file", path.name, "a mapping of settings, one `key: value` a line")
    return {str(key): value for key, value in values.items()}


def resolve_source(file: Path, key: str, value: str) -> str:
    """A path relative to `file`'s folder as an absolute one; for key "base" also a hub id, unchanged.

    Raises:
        ConfigError: there is nothing at that path, and it is no hub id.
    """
    path = Path(value).expanduser()
    path = path if path.is_absolute() else file.parent / path
    if path.exists():
        return str(path.resolve())
    if key == "base" and _HUB_ID.fullmatch(value):
        return value
    also = ", or a hub id such as org/name" if key == "base" else ""
    raise ConfigError(file, key, value, f"a path that exists{also} (looked for {path})")


def unknown_key(key: str, known: Any) -> str:
    """What is allowed instead of an unknown key: the nearest known one, or all."""
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return f"unknown key, did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(sorted(known))}"


class _Conflict(ValueError):
    """Settings that do not go together; the message is what is allowed for `key`."""

    def __init__(self, key: str, allowed: str) -> None:
        self.key, self.allowed = key, allowed
        super().__init__(f"{key}: {allowed}")


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _conflicts(config: TrainConfig) -> Any:
    """(key, what is allowed) for each pair of settings that cannot work together."""
    if config.alpha is not None and config.alpha_ratio is not None:
        yield "alpha_ratio", "alpha or alpha_ratio, not both"
    if any(side < 8 or side % 8 for side in config.size):
        yield "resolution", OPEN_ENDED_TYPES["resolution"]
    if config.min_bucket_resolution > config.max_bucket_resolution:
        yield "min_bucket_resolution", f"at most max_bucket_resolution ({config.max_bucket_resolution})"
    if config.enable_bucket and min(config.size) < config.min_bucket_resolution:
        yield "min_bucket_resolution", f"at most the resolution's shorter side ({min(config.size)})"
    if config.enable_bucket and max(config.size) > config.max_bucket_resolution:
        yield "max_bucket_resolution", f"at least the resolution's longer side ({max(config.size)})"
    reason = check_pair(config.optimizer, config.lr_scheduler, config.relative_step)
    if reason is not None:
        yield "lr_scheduler" if config.relative_step == (config.optimizer == "Adafactor") else "relative_step", reason
    if config.learning_rate is not None and config.learning_rate_scale != 1.0:
        yield "learning_rate_scale", "learning_rate is absolute; leave it out to scale the optimizer's usual rate"
    one_rate = config.optimizer in ("Prodigy", "DAdaptAdam") and config.train_text_encoder
    if one_rate and config.text_encoder_lr not in (None, config.effective_learning_rate):
        yield "text_encoder_lr", f"{config.optimizer} has one rate for all; leave text_encoder_lr out"
    no_warmup = config.lr_scheduler in ("constant", "adafactor") and config.optimizer != "AdamWScheduleFree"
    if no_warmup and config.warmup_steps:
        yield "warmup_steps", f"0 under lr_scheduler {config.lr_scheduler} (constant_with_warmup warms up)"
    if config.lr_scheduler == "constant_with_warmup" and not config.warmup_steps:
        yield "warmup_steps", "at least 1 under constant_with_warmup"
    if config.lr_scheduler == "cosine_with_restarts":
        if config.num_cycles is not None and config.cycle_epochs is not None:
            yield "cycle_epochs", "num_cycles or cycle_epochs, not both"
        if config.num_cycles is None and config.cycle_epochs is None:
            yield "num_cycles", "cosine_with_restarts needs num_cycles or cycle_epochs (one cycle is plain cosine)"
    for name in config.optimizer_args:
        if name not in OPTIMIZERS[config.optimizer].args:
            yield "optimizer_args", f"{name}: {unknown_key(name, OPTIMIZERS[config.optimizer].args)}"
    if config.quantize is not None and config.dora:
        yield "dora", "false on a quantised base"


def _notices(config: TrainConfig) -> Any:
    off = "takes no effect"
    if config.alpha == 0:
        yield f"alpha: 0 means rank, so alpha is {config.rank}"
    given = config.model_fields_set
    has_reg = config.reg_data is not None or Path(config.data, "reg").is_dir()
    for key, needs, active in (
        ("text_encoder_lr", "train_text_encoder is false", config.train_text_encoder),
        ("conv_alpha", "conv_rank is not set", config.conv_rank is not None),
        ("d_coef", "the optimizer is neither Prodigy nor DAdaptAdam", config.optimizer in ("Prodigy", "DAdaptAdam")),
        ("num_cycles", "the scheduler is not cosine_with_restarts", config.lr_scheduler == "cosine_with_restarts"),
        ("cycle_epochs", "the scheduler is not cosine_with_restarts", config.lr_scheduler == "cosine_with_restarts"),
        ("keep_tokens", "shuffle_caption is false", config.shuffle_caption),
        ("bucket_step", "enable_bucket is false", config.enable_bucket),
        ("min_bucket_resolution", "enable_bucket is false", config.enable_bucket),
        ("max_bucket_resolution", "enable_bucket is false", config.enable_bucket),
        ("prior_loss_weight", "there are no regularisation images (reg_data, or a folder reg in data)", has_reg),
        ("learning_rate", "relative-step Adafactor sets its own rate", not config.relative_step),
        ("learning_rate_scale", "relative-step Adafactor sets its own rate", not config.relative_step),
        ("text_encoder_lr", "relative-step Adafactor sets its own rate", not config.relative_step),
        ("min_snr_gamma", "sd3 is trained by flow matching", config.family != "sd3"),
    ):
        default = TrainConfig.model_fields[key].default
        if key in given and getattr(config, key) != default and not active:
            yield f"{key}: {getattr(config, key)} {off}: {needs}"
    if config.lr_scheduler == "cosine_with_restarts" and config.effective_num_cycles <= 1:
        yield "cosine_with_restarts with one cycle is cosine"


def _summary(key: str) -> str:
    return _SUMMARIES.get(key, "it has no default")


def _lower(message: str) -> str:
    message = message.removeprefix("Input should be ").removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


OPEN_ENDED_TYPES = {"resolution": "a multiple of 8, or [width, height] in multiples of 8"}
_SUMMARIES = {"base": "the base model's path or hub id", "data": "the training folder"}
_TEXT = ("base", "data", "reg_data", "trigger", "class_word")
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

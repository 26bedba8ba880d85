"""TrainConfig: everything a LoRA training run can be told, checked before a second of compute is spent.

`load_train_config(path)` reads a YAML file; `parse_train_config(mapping)` checks settings given in code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trainer.config.meant_values import as_meant
from trainer.config.pydantic_messages import in_words
from trainer.config.rules import MOST_PIXELS, RESOLUTION, Wanted, cautions, conflicts, notices
from trainer.config.sources import is_one_line, resolve_source
from trainer.config.yaml_file import as_number, read_yaml
from trainer.errors import ConfigError, refuse, unknown
from trainer.optimization.optimizers import OPTIMIZERS

OptimizerName = Literal[
    "AdamW", "AdamW8bit", "Adafactor", "DAdaptAdam", "Prodigy", "Lion", "Lion8bit", "AdamWScheduleFree"
]
SchedulerName = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "adafactor"
]
Side = Annotated[int, Field(ge=8, le=MOST_PIXELS)]


def _word(value: str) -> str:
    if not value.strip() or not is_one_line(value) or len(value) > 200:
        raise ValueError("words in one line, up to 200 characters; leave it out for those of the folder's name")
    return value


Word = Annotated[str, AfterValidator(_word)]
"""A trigger or class word, as captions say it."""
Argument = bool | int | float | str | None | list[int | float] | tuple[int | float, ...]


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
    resolution: Side | tuple[Side, Side] = 512
    """Side of the square, or [width, height], in pixels; multiples of 8."""
    batch_size: int = Field(1, ge=1, le=4096)
    """Images per forward and backward pass."""
    gradient_accumulation_steps: int = Field(1, ge=1, le=10_000)
    """Batches per optimizer step."""
    enable_bucket: bool = False
    """Sort images into aspect-ratio buckets instead of cropping all to `resolution`."""
    bucket_step: int = Field(64, ge=8, le=1024, multiple_of=8)
    """Bucket sides are multiples of this, in pixels."""
    min_bucket_resolution: Side = 256
    """Smallest side of a bucket, in pixels."""
    max_bucket_resolution: Side = 1024
    """Largest side of a bucket, in pixels."""
    flip: bool = False
    """Mirror half of the images at random."""
    shuffle_caption: bool = False
    """Shuffle the comma-separated tags of captions, anew each epoch."""
    keep_tokens: int = Field(0, ge=0, le=1000)
    """Tags at the front that shuffling leaves alone."""
    caption_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of captions replaced by the empty one."""
    trigger: Word | None = None
    """Trigger word; None takes it from the folder's name."""
    class_word: Word | None = None
    """Class word; None takes it from the folder's name."""
    clip_skip: int | None = Field(None, ge=1, le=12)
    """Text encoder layer to read, counted from the end; None and 1 are the last."""

    rank: int = Field(16, ge=1, le=1024)
    """Rank of the LoRA (network_dim)."""
    alpha: float | None = Field(None, ge=0, le=100_000)
    """Scale is alpha ÷ rank (network_alpha); None and 0 mean alpha = rank."""
    alpha_ratio: float | None = Field(None, gt=0, le=1)
    """alpha ÷ rank, instead of alpha."""
    targets: Literal["kohya", "attention"] = "kohya"
    """kohya: every linear and 1×1 convolution of the transformer blocks; attention: its projections only."""
    conv_rank: int | None = Field(None, ge=1, le=1024)
    """Rank of adapters on 3×3 convolutions (LoCon); None leaves them alone."""
    conv_alpha: float | None = Field(None, ge=0, le=100_000)
    """Alpha of the convolutions' adapters; None and 0 mean conv_rank."""
    dora: bool = False
    """Weight-decomposed LoRA."""
    rslora: bool = False
    """Rank-stabilised LoRA: scale is alpha ÷ √rank."""
    train_text_encoder: bool = False
    """Train adapters on the text encoders as well."""

    optimizer: OptimizerName = "AdamW"
    """Optimizer."""
    learning_rate: float | None = Field(None, gt=0, le=1000)
    """Learning rate; None takes the optimizer's usual one × learning_rate_scale."""
    learning_rate_scale: float = Field(1.0, gt=0, le=100_000)
    """Multiplies the optimizer's usual learning rates."""
    text_encoder_lr: float | None = Field(None, ge=0, le=1000)
    """Learning rate of the text encoders' adapters; None keeps the optimizer's usual ratio to learning_rate."""
    relative_step: bool = False
    """Adafactor sets its own learning rate."""
    d_coef: float = Field(1.0, gt=0, le=100_000)
    """Scales Prodigy's and DAdaptAdam's own estimate of the step size."""
    weight_decay: float | None = Field(None, ge=0, le=100_000)
    """Decoupled weight decay; None takes the optimizer's usual one."""
    optimizer_args: dict[str, Argument] = Field(default_factory=dict)
    """Further keywords of the optimizer's class."""
    max_grad_norm: float | None = Field(None, ge=0)
    """Gradients are clipped to this norm; 0 never; None takes the optimizer's usual one."""

    lr_scheduler: SchedulerName = "constant"
    """Course of the learning rate."""
    num_cycles: int | None = Field(None, ge=1, le=100_000)
    """Cycles of cosine_with_restarts; None is 1, which is cosine."""
    cycle_epochs: int | None = Field(None, ge=1, le=100_000)
    """Length of a cycle of cosine_with_restarts in epochs, instead of num_cycles."""
    warmup_steps: int = Field(0, ge=0, le=100_000_000)
    """Optimizer steps over which the learning rate rises from 0."""
    epochs: int = Field(10, ge=1, le=100_000)
    """Epochs that the learning-rate schedule is planned over."""
    steps_per_epoch: int | None = Field(None, ge=1, le=1_000_000)
    """Optimizer steps of an epoch; None: an epoch is one pass over the photos. With fewer, checkpoints may lie within a
    pass; `epochs` counts these."""
    save_every_n_epochs: int = Field(1, ge=1, le=100_000)
    """Epochs between checkpoints; the last epoch always gets one."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of initial weights, data order, timesteps and noise."""

    min_snr_gamma: float | None = Field(None, gt=0, le=100_000)
    """min-SNR weighting (Hang et al. 2023); 5 is usual."""
    debiased_estimation_loss: bool = False
    """Weigh each timestep by 1 ÷ √SNR, where the base predicts velocity by 1 ÷ (SNR + 1) (Yu et al. 2023)."""
    noise_offset: float = Field(0.0, ge=0, le=1)
    """Adds a constant of this size to each channel of the noise."""
    noise_offset_random_strength: bool = False
    """Draw the size of the offset anew for each batch, evenly from 0 to noise_offset."""
    ip_noise_gamma: float = Field(0.0, ge=0, le=1)
    """Input perturbation: noise of this size is added to what the base sees, not to what it learns to say (Ning et al.
    2023); 0.1 is usual, 0 is none."""
    prior_loss_weight: float = Field(1.0, ge=0, le=100_000)
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
        if info.field_name in _TEXT:
            return value
        return meant(str(info.field_name), as_number(value))

    @field_validator("resolution", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if found := tuple(conflicts(self)):
            raise _Conflict(found)
        return self

    @property
    def effective_alpha(self) -> float:
        """alpha in the LoRA file: scale is effective_alpha ÷ rank."""
        if self.alpha_ratio is not None:
            return self.alpha_ratio * self.rank
        return float(self.alpha or self.rank)

    @property
    def effective_conv_alpha(self) -> float | None:
        """Alpha of the adapters on 3×3 convolutions; None where there are none."""
        return None if self.conv_rank is None else float(self.conv_alpha or self.conv_rank)

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
        return tuple(notices(self))

    def cautions(self) -> tuple[str, ...]:
        """One sentence for each setting with a consequence elsewhere that nobody would look for."""
        return tuple(cautions(self))


def load_train_config(path: str | Path) -> TrainConfig:
    """Reads a YAML file. Relative `base`, `data` and `reg_data` are resolved against the file's folder; a base that
    does not exist there and looks like org/name is a hub id. A section `output` is passed over: it belongs to a
    production run (`trainer.production.production_config`).

    Raises:
        ConfigError: the file is missing, not YAML, or a setting is wrong; names file, key, value and what is allowed.
    """
    path = Path(path)
    values = read_yaml(path)
    values.pop("output", None)
    for key in ("base", "data", "reg_data"):
        if isinstance(values.get(key), str):
            values[key] = resolve_source(path, key, values[key])
    return parse_train_config(values, file=path)


def parse_train_config(values: Mapping[str, Any], *, file: str | Path | None = None) -> TrainConfig:
    """Checks settings given as a mapping. Raises ConfigError with all that are wrong."""
    strange = [key for key in values if key not in TrainConfig.model_fields]
    errors = [unknown(file, str(key), TrainConfig.model_fields) for key in strange]
    config = None
    try:
        config = TrainConfig(**{key: value for key, value in values.items() if key not in strange})
    except ValidationError as error:
        errors += _explained(error, values, file)
    refuse(errors)
    assert config is not None
    return config


def _explained(error: ValidationError, values: Mapping[str, Any], file: str | Path | None) -> list[ConfigError]:
    """One error for each setting that is wrong; settings are held against each other once each by itself is right."""
    by_key: dict[str, list[Any]] = {}
    for each in error.errors():
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, _Conflict):
            defaults = TrainConfig.model_fields
            return [
                ConfigError(file, key, values.get(key, defaults[key].default), expected, why)
                for key, expected, why in cause.found
            ]
        by_key.setdefault(str(each["loc"][0]), []).append(each)
    return [
        ConfigError(file, key, None, _summary(key))
        if found[0]["type"] == "missing"
        else ConfigError(file, key, values.get(key), expected_of(key, found))
        for key, found in by_key.items()
    ]


@cache
def strict_type(field: str) -> TypeAdapter[Any]:
    """A field's type with its limits, by which a value alone is checked."""
    about = TrainConfig.model_fields[field]
    kind: Any = Annotated[about.annotation, *about.metadata] if about.metadata else about.annotation
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))


def expected_of(field: str, found: Sequence[Any]) -> str:
    """What is expected of a field of TrainConfig, of pydantic's errors about it."""
    return OPEN_ENDED_TYPES.get(field) or " or ".join(dict.fromkeys(map(in_words, found)))


class _Conflict(ValueError):
    """Settings that do not go together: what is expected of each."""

    def __init__(self, found: tuple[Wanted, ...]) -> None:
        self.found = found
        super().__init__("; ".join(f"{each.key}: {each.expected}" for each in found))


def _summary(key: str) -> str:
    return _SUMMARIES.get(key, "a value, because it has no default")


def meant(field: str, value: Any) -> Any:
    """A value of a field as it is meant: names in any case, other trainers' words."""
    about = TrainConfig.model_fields.get(field)
    return value if about is None else as_meant(field, value, get_args(about.annotation))


OPEN_ENDED_TYPES = {
    "resolution": RESOLUTION,
    "optimizer_args": "names, each with a number, true or false, a word or a list of numbers",
}
"""What is said of fields whose types read badly."""
_SUMMARIES = {"base": "the base model's path or hub id", "data": "the training folder"}
_TEXT = ("base", "data", "reg_data", "trigger", "class_word")

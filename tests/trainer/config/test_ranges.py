"""Both ends of each setting's range are taken, what lies beyond is refused by name; what is left out is usual."""

import math
from typing import Any

import pytest

from trainer.config.config import TrainConfig, parse_train_config, strict_type
from trainer.errors import ConfigError
from trainer.optimization.optimizers import OPTIMIZERS

OWN = {"base": "base", "data": "photos"}


def config(**values: Any) -> TrainConfig:
    return parse_train_config({**OWN, **values})


RANGES: list[tuple[str, list[Any], list[Any], dict[str, Any]]] = [
    # (setting, taken, refused, what it needs beside it)
    ("resolution", [8, 16_384, (8, 16_384)], [0, 4, 12, 16_392, (4, 8), (8, 12)], {}),
    ("batch_size", [1, 4096], [0, 4097, 1.5], {}),
    ("gradient_accumulation_steps", [1, 10_000], [0, 10_001], {}),
    ("bucket_step", [8, 1024], [0, 4, 12, 1032], {}),
    ("min_bucket_resolution", [8, 1024], [7, 1025], {}),
    ("max_bucket_resolution", [8, 16_384], [7, 16_385], {"min_bucket_resolution": 8}),
    ("keep_tokens", [0, 1000], [-1, 1001], {"shuffle_caption": True}),
    ("caption_dropout", [0.0, 0.999], [-0.1, 1.0], {}),
    ("clip_skip", [1, 12], [-1, 13], {}),
    ("rank", [1, 1024], [0, 1025], {}),
    ("alpha", [0.0, 100_000.0], [-0.1, 100_001.0], {}),
    ("alpha_ratio", [1e-9, 1.0], [0.0, 1.01], {}),
    ("conv_rank", [1, 1024], [-1, 1025], {}),
    ("conv_alpha", [0.0, 100_000.0], [-0.1, 100_001.0], {"conv_rank": 4}),
    ("learning_rate", [1e-12, 1000.0], [0.0, 1001.0], {}),
    ("learning_rate_scale", [1e-9, 100_000.0], [0.0, 100_001.0], {}),
    ("text_encoder_lr", [0.0, 1000.0], [-1e-9, 1001.0], {"train_text_encoder": True}),
    ("d_coef", [1e-9, 100_000.0], [0.0, 100_001.0], {"optimizer": "Prodigy"}),
    ("weight_decay", [0.0, 100_000.0], [-0.1, 100_001.0], {}),
    ("max_grad_norm", [0.0, 1e9], [-0.1], {}),
    ("num_cycles", [1, 100_000], [0, 100_001], {"lr_scheduler": "cosine_with_restarts"}),
    ("cycle_epochs", [1, 100_000], [0, 100_001], {"lr_scheduler": "cosine_with_restarts"}),
    ("warmup_steps", [0, 100_000_000], [-1, 100_000_001], {"lr_scheduler": "cosine"}),
    ("epochs", [1, 100_000], [0, 100_001], {}),
    ("steps_per_epoch", [1, 1_000_000], [0, 1_000_001], {}),
    ("save_every_n_epochs", [1, 100_000], [0, 100_001], {}),
    ("seed", [0, 2**63 - 1], [-1, 2**63], {}),
    ("min_snr_gamma", [1e-9, 100_000.0], [-1.0, 100_001.0], {}),
    ("noise_offset", [0.0, 1.0], [-0.1, 1.1], {}),
    ("ip_noise_gamma", [0.0, 1.0], [-0.1, 1.1], {}),
    ("prior_loss_weight", [0.0, 100_000.0], [-0.1, 100_001.0], {}),
    ("trigger", ["a", "a" * 200], ["", "a" * 201], {}),
    ("class_word", ["a", "a" * 200], ["", "a" * 201], {}),
    ("base", ["b"], [""], {}),
    ("data", ["d"], [""], {}),
]


@pytest.mark.parametrize(("name", "taken", "refused", "beside"), RANGES, ids=[row[0] for row in RANGES])
def test_both_ends_are_taken_and_what_lies_beyond_is_refused(
    name: str, taken: list[Any], refused: list[Any], beside: dict[str, Any]
) -> None:
    for value in taken:
        assert getattr(config(**{**beside, name: value}), name) == value
    for value in [*refused, *([float("nan"), float("inf")] if isinstance(taken[0], float) else [])]:
        with pytest.raises(ConfigError) as caught:
            config(**{**beside, name: value})
        assert caught.value.key == name


def test_each_setting_with_a_range_is_held_here() -> None:
    ranged = {name for name, field in TrainConfig.model_fields.items() if field.metadata}
    assert ranged <= {row[0] for row in RANGES} | {"optimizer_args"}


def test_a_value_alone_is_checked_by_its_field() -> None:
    assert strict_type("rank").validate_python(1024) == 1024
    for value in (1025, 0, 1.0, "4", True):
        with pytest.raises(ValueError, match="1 validation error"):
            strict_type("rank").validate_python(value)
    assert strict_type("optimizer").validate_python("Lion") == "Lion"
    with pytest.raises(ValueError, match="finite"):
        strict_type("noise_offset").validate_python(math.nan)


USUAL: dict[str, Any] = {
    "base": "base", "family": "auto", "data": "photos", "reg_data": None, "resolution": 512, "batch_size": 1,
    "gradient_accumulation_steps": 1, "enable_bucket": False, "bucket_step": 64, "min_bucket_resolution": 256,
    "max_bucket_resolution": 1024, "flip": False, "shuffle_caption": False, "keep_tokens": 0, "caption_dropout": 0.0,
    "trigger": None, "class_word": None, "clip_skip": None, "rank": 16, "alpha": None, "alpha_ratio": None,
    "targets": "kohya", "conv_rank": None, "conv_alpha": None, "dora": False, "rslora": False,
    "train_text_encoder": False, "optimizer": "AdamW", "learning_rate": None, "learning_rate_scale": 1.0,
    "text_encoder_lr": None, "relative_step": False, "d_coef": 1.0, "weight_decay": None, "optimizer_args": {},
    "max_grad_norm": None, "lr_scheduler": "constant", "num_cycles": None, "cycle_epochs": None, "warmup_steps": 0,
    "epochs": 10, "steps_per_epoch": None, "save_every_n_epochs": 1, "seed": 0, "min_snr_gamma": None,
    "debiased_estimation_loss": False, "noise_offset": 0.0, "noise_offset_random_strength": False,
    "ip_noise_gamma": 0.0, "prior_loss_weight": 1.0, "precision": "fp32", "gradient_checkpointing": False,
    "quantize": None,
}  # fmt: skip


def test_a_file_of_base_and_photos_is_a_whole_training() -> None:
    assert config().model_dump() == USUAL
    assert config().notices() == config().cautions() == ()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"alpha": 16.0, "conv_alpha": None, "num_cycles": 1.0, "learning_rate": 1e-4, "text_encoder_lr": 5e-5}),
        ({"rank": 8, "alpha": 0.0}, {"alpha": 8.0}),
        ({"rank": 8, "alpha": 3.0}, {"alpha": 3.0}),
        ({"rank": 8, "alpha_ratio": 0.25}, {"alpha": 2.0}),
        ({"conv_rank": 4}, {"conv_alpha": 4.0}),
        ({"conv_rank": 4, "conv_alpha": 0.0}, {"conv_alpha": 4.0}),
        ({"conv_rank": 4, "conv_alpha": 1.5}, {"conv_alpha": 1.5}),
        ({"learning_rate": 3e-3}, {"learning_rate": 3e-3, "text_encoder_lr": 1.5e-3}),
        ({"learning_rate_scale": 3.0}, {"learning_rate": 3e-4, "text_encoder_lr": 1.5e-4}),
        ({"optimizer": "Lion", "learning_rate_scale": 2.0}, {"learning_rate": 4e-5, "text_encoder_lr": 2e-5}),
        ({"learning_rate": 3e-3, "text_encoder_lr": 0.0}, {"text_encoder_lr": 0.0}),
        ({"weight_decay": 0.0, "max_grad_norm": 0.0}, {"weight_decay": 0.0, "max_grad_norm": 0.0}),
        ({"optimizer": "Adafactor"}, {"weight_decay": 0.0, "max_grad_norm": 0.0}),
        ({"optimizer": "Lion8bit"}, {"weight_decay": 0.05, "max_grad_norm": 1.0}),
        ({"lr_scheduler": "cosine_with_restarts", "num_cycles": 3}, {"num_cycles": 3.0}),
        ({"lr_scheduler": "cosine_with_restarts", "cycle_epochs": 4}, {"num_cycles": 2.5}),
    ],
)
def test_what_is_in_force_follows_from_what_was_said(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    made = config(**settings)
    assert {name: getattr(made, f"effective_{name}") for name in expected} == {
        name: pytest.approx(value) for name, value in expected.items()
    }


def test_a_size_is_a_side_or_two() -> None:
    assert (config().size, config(resolution=[640, 512]).size) == ((512, 512), (640, 512))


def test_usual_rates_are_a_kind_s_own() -> None:
    """As docs/training.md has them: self-tuning ones multiply their own step by 1; text encoders have half the rate."""
    for name, kind in OPTIMIZERS.items():
        if name in ("Prodigy", "DAdaptAdam"):
            assert (kind.learning_rate, kind.text_encoder_lr) == (1.0, 1.0)
        else:
            assert kind.text_encoder_lr == kind.learning_rate / 2
        lion = name.startswith("Lion")
        assert kind.weight_decay == (0.05 if lion else 0.0 if name == "Adafactor" else 0.01)
        assert kind.max_grad_norm == (0.0 if name == "Adafactor" else 1.0), "it clips its own updates"
    rates = {name: OPTIMIZERS[name].learning_rate for name in ("AdamW", "Lion", "Adafactor", "AdamWScheduleFree")}
    assert rates == {"AdamW": 1e-4, "Lion": 1e-4 / 5, "Adafactor": 2e-4, "AdamWScheduleFree": 2e-4}
    for name in ("AdamW", "Lion"):
        assert OPTIMIZERS[f"{name}8bit"].learning_rate == OPTIMIZERS[name].learning_rate

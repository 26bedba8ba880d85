"""Rules over a whole config: what takes no effect, what cannot go together, what optimizers' arguments are."""

from pathlib import Path
from typing import Any

import pytest

from trainer.config.config import TrainConfig, parse_train_config
from trainer.config.rules import _argument_form, check_pair, check_rate, follows_horizon
from trainer.errors import ConfigError


def config(**values: Any) -> TrainConfig:
    return parse_train_config({"base": "base", "data": "photos", **values})


ADAFACTOR = {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"}
RESTARTS = {"lr_scheduler": "cosine_with_restarts"}
IDLE: list[tuple[str, Any, Any, dict[str, Any], str, dict[str, Any]]] = [
    # (setting, its default, another value, where it does nothing, what is said, where it acts)
    ("text_encoder_lr", None, 1e-5, {}, "train_text_encoder is false", {"train_text_encoder": True}),
    ("conv_alpha", None, 2.0, {}, "conv_rank is not set", {"conv_rank": 2}),
    ("d_coef", 1.0, 2.0, {}, "the optimizer is neither Prodigy nor DAdaptAdam", {"optimizer": "DAdaptAdam"}),
    ("num_cycles", None, 3, {}, "the scheduler is not cosine_with_restarts", RESTARTS),
    ("cycle_epochs", None, 3, {}, "the scheduler is not cosine_with_restarts", RESTARTS),
    ("keep_tokens", 0, 1, {}, "shuffle_caption is false", {"shuffle_caption": True}),
    ("bucket_step", 64, 128, {}, "enable_bucket is false", {"enable_bucket": True}),
    ("min_bucket_resolution", 256, 128, {}, "enable_bucket is false", {"enable_bucket": True}),
    ("max_bucket_resolution", 1024, 2048, {}, "enable_bucket is false", {"enable_bucket": True}),
    ("prior_loss_weight", 1.0, 0.5, {}, "there are no regularisation images", {"reg_data": "reg"}),
    ("learning_rate", None, 1e-3, ADAFACTOR, "relative-step Adafactor sets its own rate", {"optimizer": "Adafactor"}),
    ("learning_rate_scale", 1.0, 2.0, ADAFACTOR, "relative-step Adafactor", {"optimizer": "Adafactor"}),
    ("text_encoder_lr", None, 1e-5, {**ADAFACTOR, "train_text_encoder": True}, "relative-step Adafactor",
     {"optimizer": "Adafactor", "train_text_encoder": True}),
    ("min_snr_gamma", None, 5.0, {"family": "sd3"}, "sd3 is trained by flow matching", {"family": "sdxl"}),
    ("debiased_estimation_loss", False, True, {"family": "sd3"}, "sd3 is trained by flow matching", {}),
    ("noise_offset_random_strength", False, True, {}, "noise_offset is 0", {"noise_offset": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "usual", "value", "idle", "why", "active"), IDLE, ids=[row[0] for row in IDLE])
def test_a_setting_without_effect_is_told_and_elsewhere_it_is_not(
    name: str, usual: Any, value: Any, idle: dict[str, Any], why: str, active: dict[str, Any]
) -> None:
    (said,) = config(**idle, **{name: value}).notices()
    assert said.startswith(f"{name}: {value} takes no effect: {why}")
    assert config(**active, **{name: value}).notices() == ()
    assert config(**idle, **{name: usual}).notices() == (), "the default asks for nothing"


def test_regularisation_images_may_lie_in_the_training_folder(tmp_path: Path) -> None:
    assert len(config(data=str(tmp_path), prior_loss_weight=0.5).notices()) == 1
    (tmp_path / "reg").mkdir()
    assert config(data=str(tmp_path), prior_loss_weight=0.5).notices() == ()


def test_what_means_another_number_is_told() -> None:
    assert config(rank=8, alpha=0.0).notices() == ("alpha: 0 means rank, so alpha is 8",)
    assert config(**RESTARTS).notices() == (
        "cosine_with_restarts with one cycle is cosine, and num_cycles is 1 where it is left out",
    )
    assert config(**RESTARTS, num_cycles=1).notices() == ("cosine_with_restarts with one cycle is cosine",)
    assert config(**RESTARTS, cycle_epochs=10).notices() == ("cosine_with_restarts with one cycle is cosine",)
    assert config(**RESTARTS, num_cycles=2).notices() == config(**RESTARTS, cycle_epochs=9).notices() == ()


def test_consequences_elsewhere_are_told() -> None:
    assert [said.split(":")[0] for said in config(dora=True).cautions()] == ["dora"]
    both = config(debiased_estimation_loss=True, min_snr_gamma=5.0).cautions()
    assert [said.split(":")[0] for said in both] == ["debiased_estimation_loss"]
    assert config(debiased_estimation_loss=True).cautions() == config(min_snr_gamma=5.0).cautions() == ()


@pytest.mark.parametrize(
    ("settings", "follows"),
    [
        ({}, False),
        ({"lr_scheduler": "constant_with_warmup", "warmup_steps": 3}, False),
        (ADAFACTOR, False),
        ({"lr_scheduler": "linear"}, True),
        ({"lr_scheduler": "cosine"}, True),
        ({"lr_scheduler": "polynomial"}, True),
        ({**RESTARTS, "num_cycles": 3}, True),
        ({**RESTARTS, "cycle_epochs": 3}, False),
        ({**RESTARTS, "cycle_epochs": 3, "warmup_steps": 3}, True),
    ],
)
def test_which_courses_follow_the_horizon(settings: dict[str, Any], follows: bool) -> None:
    assert follows_horizon(config(**settings)) is follows


@pytest.mark.parametrize(
    ("settings", "key", "expected"),
    [
        ({"alpha": 4.0, "alpha_ratio": 0.5}, "alpha_ratio", "alpha or alpha_ratio, not both"),
        ({"min_bucket_resolution": 1025}, "min_bucket_resolution", "at most max_bucket_resolution (1024)"),
        (
            {"learning_rate": 1e-4, "learning_rate_scale": 2.0},
            "learning_rate_scale",
            "learning_rate or learning_rate_scale, not both",
        ),
        (
            {"optimizer": "Prodigy", "train_text_encoder": True, "text_encoder_lr": 0.5},
            "text_encoder_lr",
            "no rate of its own",
        ),
        ({"warmup_steps": 5}, "warmup_steps", "0 under lr_scheduler: constant"),
        ({**ADAFACTOR, "warmup_steps": 5}, "warmup_steps", "0 under lr_scheduler: adafactor"),
        (
            {"lr_scheduler": "constant_with_warmup"},
            "warmup_steps",
            "at least 1 under lr_scheduler: constant_with_warmup",
        ),
        ({**RESTARTS, "num_cycles": 2, "cycle_epochs": 2}, "cycle_epochs", "num_cycles or cycle_epochs, not both"),
        ({"optimizer_args": {"d0": 1.0}}, "optimizer_args", "of AdamW instead of d0"),
        ({"optimizer_args": {"eps": "x"}}, "optimizer_args", "a number, 0 or more as eps"),
        ({"quantize": "nf4", "dora": True}, "dora", "false on a quantised base"),
        ({"relative_step": True}, "relative_step", "false with optimizer: AdamW"),
        (
            {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "cosine"},
            "lr_scheduler",
            "adafactor, or relative_step: false",
        ),
        (
            {"optimizer": "Adafactor", "lr_scheduler": "adafactor"},
            "relative_step",
            "true under lr_scheduler: adafactor",
        ),
        ({"lr_scheduler": "adafactor"}, "lr_scheduler", "another schedule with optimizer: AdamW"),
        (
            {"optimizer": "AdamWScheduleFree", "lr_scheduler": "cosine"},
            "lr_scheduler",
            "constant with optimizer: AdamWScheduleFree",
        ),
    ],
)
def test_settings_that_do_not_go_together_say_which_one_and_what(
    settings: dict[str, Any], key: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**settings)
    assert (caught.value.key, len(caught.value.all)) == (key, 1)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "Prodigy", "train_text_encoder": True, "text_encoder_lr": 1.0},
        {"optimizer": "Prodigy", "learning_rate": 0.5, "train_text_encoder": True, "text_encoder_lr": 0.5},
        {"optimizer": "Adafactor", "relative_step": True},
        {"learning_rate": 1e-4, "learning_rate_scale": 1.0},
        {"min_bucket_resolution": 1024},
        {"optimizer": "AdamWScheduleFree", "warmup_steps": 5},
    ],
)
def test_settings_that_do_go_together_pass(settings: dict[str, Any]) -> None:
    assert config(**settings)
    assert check_pair("AdamW", "cosine", False) is None


PAIR, SMALL, POSITIVE = "two numbers from 0 to below 1", "two numbers, 0 or more", "a number above 0"


@pytest.mark.parametrize(
    ("optimizer", "name", "good", "bad", "form"),
    [
        ("AdamW", "amsgrad", [True, False], [1, 0, "true", None], "true or false"),
        ("Prodigy", "safeguard_warmup", [True], [0.5], "true or false"),
        ("AdamW", "betas", [[0, 0.99], (0.9, 0.999)], [0.9, [0.9], [0.9, 1], [-0.1, 0.9], [0.9, True], "x"], PAIR),
        ("Adafactor", "eps", [[0, 1e-3], (1e-30, 2)], [1e-8, [1e-30], [-1, 1e-3]], SMALL),
        ("AdamW", "eps", [0, 1e-8, 1], [-1e-9, "x", True, None, [1e-8, 1]], "a number, 0 or more"),
        ("Prodigy", "beta3", [None, 0, 0.99], [1, -0.1, True, "x"], "a number from 0 to below 1"),
        ("Adafactor", "beta1", [None, 0.5], [1.0], "a number from 0 to below 1"),
        ("Prodigy", "d0", [1e-9], [0, -1, None, True], POSITIVE),
        ("Prodigy", "growth_rate", [float(2)], [0, float("inf"), float("nan")], POSITIVE),
        ("Adafactor", "clip_threshold", [1], [0], POSITIVE),
        ("AdamW8bit", "min_8bit_size", [0, 4096], [-1], "a number, 0 or more"),
        ("AdamWScheduleFree", "r", [0], [-0.1], "a number, 0 or more"),
        ("Adafactor", "decay_rate", [-0.8, 0, 3], ["x", None, True], "a number"),
    ],
)
def test_arguments_of_optimizers_have_their_forms(
    optimizer: str, name: str, good: list[Any], bad: list[Any], form: str
) -> None:
    for value in good:
        assert _argument_form(optimizer, name, value) is None
    for value in bad:
        found = _argument_form(optimizer, name, value)
        assert found is not None
        assert found.startswith(form)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"learning_rate": 0.0999}, None),
        ({"learning_rate_scale": 1000.0}, "learning_rate_scale"),
        ({"optimizer": "Prodigy", "learning_rate": 0.01}, None),
        ({"optimizer": "Prodigy", "learning_rate": 0.0099}, "learning_rate"),
        ({"optimizer": "Prodigy", "learning_rate": 0.02, "d_coef": 0.4}, "learning_rate"),
        ({"optimizer": "Prodigy", "learning_rate_scale": 0.001}, "learning_rate_scale"),
        ({**ADAFACTOR, "learning_rate": 1.0}, None),
        ({"optimizer": "Adafactor", "learning_rate": 1.0, "optimizer_args": {"scale_parameter": True}}, None),
        (
            {"optimizer": "Adafactor", "learning_rate": 1.0, "optimizer_args": {"scale_parameter": False}},
            "learning_rate",
        ),
    ],
)
def test_a_rate_that_cannot_be_meant(settings: dict[str, Any], key: str | None) -> None:
    found = check_rate(config(**settings))
    assert (None if found is None else found.key) == key

"""Other trainers' words: their values are taken as what they mean, their names are told ours."""

from pathlib import Path

import pytest

from trainer.config.config import TrainConfig, parse_train_config
from trainer.errors import ConfigError
from trainer.other_words import WORDS
from trainer.production.production_config import Output

OWN = {"base": "base", "data": "photos"}


@pytest.mark.parametrize(
    ("key", "written", "ours"),
    [
        ("optimizer", "adamw8bit", "AdamW8bit"),
        ("optimizer", "ADAMW", "AdamW"),
        ("optimizer", "AdaFactor", "Adafactor"),
        ("optimizer", "DAdaptation", "DAdaptAdam"),
        ("lr_scheduler", "Cosine", "cosine"),
        ("precision", "no", "fp32"),
        ("precision", "BF16", "bf16"),
        ("resolution", "512,768", (512, 768)),
        ("resolution", "512x768", (512, 768)),
        ("resolution", "512", 512),
        ("resolution", "(512, 768)", (512, 768)),
        ("optimizer", "AdamW-8bit", "AdamW8bit"),
        ("optimizer", "adamw_schedule_free", "AdamWScheduleFree"),
        ("lr_scheduler", "cosine with restarts", "cosine_with_restarts"),
        ("family", "SDXL", "sdxl"),
        ("min_snr_gamma", 0, None),
        ("conv_rank", 0, None),
    ],
)
def test_values_are_taken_as_what_they_mean(key: str, written: str, ours: object) -> None:
    assert getattr(parse_train_config(OWN | {key: written}), key) == ours


@pytest.mark.parametrize("theirs", ["network_dim", "network_alpha", "max_train_epochs", "optimizer_type", "unet_lr"])
def test_a_name_of_theirs_is_told_ours(theirs: str) -> None:
    with pytest.raises(ConfigError, match=f"expected {WORDS[theirs]}, as {theirs} is called here"):
        parse_train_config(OWN | {theirs: 8})


@pytest.mark.parametrize("spelt", ["--unet_lr", "UNET_LR", "unet-lr", "unetLr"])
def test_a_name_in_any_spelling_is_told_ours_with_what_has_to_be_added(spelt: str) -> None:
    with pytest.raises(ConfigError, match=f"expected learning_rate, as {spelt} is called here .text_encoder_lr"):
        parse_train_config(OWN | {spelt: 1e-4})


@pytest.mark.parametrize(("theirs", "why"), [("xformers", "needs no setting"), ("network_dropout", "nothing like it")])
def test_what_has_no_name_here_is_told_why(theirs: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"expected nothing, because .*{why} here"):
        parse_train_config(OWN | {theirs: True})


def test_every_word_names_a_setting_that_there_is() -> None:
    for theirs, ours in WORDS.items():
        known = Output.model_fields if ours.startswith("output.") else TrainConfig.model_fields
        assert ours.removeprefix("output.") in known, theirs
        assert theirs not in TrainConfig.model_fields, theirs


def test_steps_between_checkpoints_are_told_as_steps_of_an_epoch() -> None:
    with pytest.raises(ConfigError, match="steps_per_epoch: 120 and epochs: 40"):
        parse_train_config(OWN | {"save_every_n_steps": 100})


def test_restarts_without_cycles_work_and_say_what_they_are(tmp_path: Path) -> None:
    config = parse_train_config(OWN | {"lr_scheduler": "cosine_with_restarts"})
    assert config.effective_num_cycles == 1
    assert [said for said in config.notices() if "num_cycles is 1 where it is left out" in said]

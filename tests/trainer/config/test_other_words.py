"""Other trainers' words: their values are taken as what they mean, their names are told ours."""

from pathlib import Path

import pytest

from trainer.config.config import TrainConfig, parse_train_config
from trainer.errors import ConfigError
from trainer.other_words import ADDED, HARMLESS, NOT_HERE, WORDS, as_theirs, our_name, why_none
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


@pytest.mark.parametrize(
    ("written", "theirs"),
    [
        ("--networkDim", "network_dim"),
        ("unet_lr", "unet_lr"),
        ("UNET_LR", "unet_lr"),
        (" lr - warmup ", "lr_warmup"),
        ("-r", "r"),
        ("use8bitAdam", "use8bit_adam"),
        ("max  train__steps", "max_train_steps"),
    ],
)
def test_their_names_count_in_any_spelling(written: str, theirs: str) -> None:
    assert as_theirs(written) == theirs


def test_our_names_for_theirs_are_fields_and_what_differs_is_added() -> None:
    known = {*TrainConfig.model_fields, *Output.model_fields}
    for theirs, ours in WORDS.items():
        said = our_name(theirs, known)
        assert said.startswith(f"{ours}, as {theirs} is called here")
        assert ("(" in said) is (theirs in ADDED)
        assert ADDED.get(theirs, "") in said
        assert our_name(theirs, known - {ours.rpartition(".")[2]}) == ""
    assert ADDED.keys() <= WORDS.keys()
    for one, other in (("repeats", "num_repeats"), ("steps", "max_train_steps"), ("warmup_ratio", "lr_warmup")):
        assert ADDED[one] == ADDED[other]
    assert our_name("nonsense", known) == ""


def test_what_is_not_here_and_what_needs_no_setting_are_told_apart() -> None:
    for name in NOT_HERE:
        assert why_none(f"--{name}") == "nothing, because there is nothing like it here"
    for name in HARMLESS - NOT_HERE.keys():
        assert why_none(name.upper()) == "nothing, because it needs no setting here"
    assert why_none("rank") == ""

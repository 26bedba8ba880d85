"""What names of columns say, name by name."""

import pytest

from metrics.loss_tables.column_names import (
    LOSS_CHANNELS,
    UNSURE,
    VALIDATION,
    is_channel,
    is_loss,
    is_training,
    is_validation,
    listed,
    losses_among,
    rank_of,
    run_and_metric,
    stem_of,
    words_of,
)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("val_loss", "val loss"),
        ("valLoss", "val loss"),
        ("VALLOSS", "val loss"),
        ("myRun - valLoss/epoch_2", "val loss epoch 2"),
        ("Validation - Loss", "validation loss"),
        ("loss1e4", "loss 1 e 4"),
        ("eval/KL-Loss (mean)", "eval kl loss mean"),
        ("", ""),
    ],
)
def test_words_are_cut_at_signs_letters_and_digits(name: str, words: str) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    ("name", "run", "metric"),
    [
        ("late-snow-7 - val/loss", "late-snow-7", "val/loss"),
        ("a - b - loss", "a - b", "loss"),
        ("Validation - Loss", "", "Validation - Loss"),
        ("Train - Loss", "", "Train - Loss"),
        (" TRAINING - Loss", "", " TRAINING - Loss"),
        ("run - epoch", "", "run - epoch"),
        ("val_loss", "", "val_loss"),
    ],
)
def test_a_run_stands_before_a_metric(name: str, run: str, metric: str) -> None:
    assert run_and_metric(name) == (run, metric)


@pytest.mark.parametrize(
    ("name", "loss", "training", "validation"),
    [
        ("val_loss", True, False, True),
        ("train_loss", True, True, False),
        ("loss", True, True, False),
        ("loss/average", True, True, False),
        ("avr_loss_12", True, True, False),
        ("loss/validation_step/train photos", True, False, True),
        ("eval_train_loss", True, True, False),
        ("test/loss", True, False, True),
        ("latest_loss", True, False, False),
        ("my loss", True, False, False),
        ("heldout_loss", True, False, True),
        ("shifted_loss", True, False, True),
        ("context_loss", True, False, True),
        ("loss_std", False, False, False),
        ("val_loss_best", False, False, True),
        ("val_loss_low", False, False, True),
        ("low_val_loss", True, False, True),
        ("val_loss_scale", False, False, True),
        ("lr", False, False, False),
        ("train/epoch", False, True, False),
        ("mse", False, False, False),
    ],
)
def test_losses_of_the_training_and_of_a_validation_are_told_apart(
    name: str, loss: bool, training: bool, validation: bool
) -> None:
    assert (is_loss(name), is_training(name), is_validation(name)) == (loss, training, validation)


def test_the_surest_validation_has_the_lowest_rank() -> None:
    assert [rank_of(f"{word}_loss") for word in VALIDATION] == list(range(len(VALIDATION)))
    assert rank_of("my_loss") == UNSURE == len(VALIDATION)
    assert rank_of("train_val_loss") == UNSURE
    assert rank_of("test_val_loss") == VALIDATION.index("val")
    assert [rank_of(name) - UNSURE for name in LOSS_CHANNELS[1:]] == list(range(1, len(LOSS_CHANNELS)))
    assert LOSS_CHANNELS[0] == "heldout_loss"
    assert rank_of("heldout_loss") == 0
    assert [is_channel(name) for name in ("heldout_loss", "Shifted Loss", "val_loss", "heldout")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["step", "loss/train", "test/val"], ["loss/train", "test/val"]),
        (["val", "val_loss"], ["val_loss"]),
        (["val", "step"], ["val"]),
        (["val", "eval test"], ["val", "eval test"]),
        (["accuracy", ""], []),
        ([3, "loss"], ["loss"]),
    ],
)
def test_what_is_named_as_a_validation_alone_is_one_where_no_loss_is(names: list[object], found: list[str]) -> None:
    assert losses_among(names) == found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("val_loss_1", "val_loss_2", True),
        ("val_loss_1_2", "val_loss_3", True),
        ("val_loss_a", "val_loss_b", True),
        ("val_loss/dog.png", "val_loss/a cat 3.jpg", True),
        ("val_a_loss", "val_b_loss", True),
        ("val_loss_l1", "val_loss_l1_smooth", False),
        ("val_loss", "val_loss_1", False),
        ("val/kl_loss", "val/rec_loss", False),
    ],
)
def test_items_of_one_loss_have_one_stem(one: str, other: str, same: bool) -> None:
    assert (stem_of(one) == stem_of(other)) is same


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (list("abcd"), "a, b, c, d"),
        (list("abcde"), "a, b, c, d and 1 more"),
        ([1, 2.5], "1, 2.5"),
    ],
)
def test_four_of_many_names_are_listed(names: list[object], text: str) -> None:
    assert listed(names) == text

"""Other people's tables: which columns are read, what is refused, and whose losses they are."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest

from metrics.loss_tables.table_onset import describe
from metrics.onset.onset import find_onset
from tests.metrics.loss_tables.written_tables import EPOCHS, LOSSES, OTHER, assert_reads, one_run, read, refusal
from tests.metrics.planted_onsets import plant


@pytest.mark.parametrize(
    ("wanted", "beside"),
    [
        ("validation/loss", ["validation/loss_std"]),
        ("eval/loss", ["eval/accuracy_loss"]),
        ("eval_kl_loss", ["eval_kl_loss_stderr", "eval_kl_loss_min", "eval_kl_loss_max", "best_eval_kl_loss"]),
        ("val_mse_loss", ["val_mse_loss_low", "val_mse_loss_high"]),
        ("loss_val", ["retrieval_loss", "latest_loss"]),
        ("loss/val/pooled", ["loss/val/dogs", "loss/val/cats", "train_loss"]),
        ("loss/validation_step/total_average", ["loss/validation_step/train photos", "loss/train_step"]),
        ("loss/validation_step/train photos", ["loss/train_step", "smooth_loss/train_step"]),
        ("valLoss", ["trainLoss", "latestLoss"]),
        ("VALLOSS", ["LOSS"]),
        ("Validation - Loss", ["Train - Loss"]),
        ("val_loss", ["test_loss"]),
        ("val_loss_epoch", ["val_loss_step"]),
        ("eval_test_loss", ["eval_train_loss"]),
        ("unseen_loss", ["train_loss"]),
        ("held_out_loss", ["loss"]),
        ("lora test 3 - eval/loss", ["lora test 3 - loss", "lora test 3 - eval/loss__MIN"]),
    ],
)
def test_the_validation_loss_is_read_and_nothing_beside_it(tmp_path, wanted, beside):
    for names in ([*beside, wanted], [wanted, *beside]):
        columns = {name: LOSSES if name == wanted else OTHER for name in names}
        trajectory = read(tmp_path, {"epoch": EPOCHS} | columns)
        assert_reads(trajectory, LOSSES)
        assert trajectory.items("heldout_loss") is None
        assert trajectory.source.split(", taken")[0] == f"column {wanted}"


@pytest.mark.parametrize("name", ["Value", "loss/img1.png"])
def test_a_loss_that_only_may_be_of_a_validation_is_marked(tmp_path, name):
    assert "taken for a validation loss" in read(tmp_path, {"epoch": EPOCHS, name: LOSSES}).source


@pytest.mark.parametrize(
    "name", ["retrieval_loss", "latest_loss", "lora test 3 - loss", "constraint_loss", "my loss", "contest_loss"]
)
def test_a_loss_that_is_not_named_as_a_validations_is_refused(tmp_path, name):
    said = refusal(tmp_path, {"epoch": EPOCHS, name: LOSSES})
    assert "a validation loss is needed (if it is of photos that are not trained on, name it val_loss)" in said
    by_photo = pd.concat([one_run(image=f"{number}.png") for number in range(3)]).rename(columns={"val_loss": name})
    assert read(tmp_path, by_photo).items("heldout_loss").shape == (8, 3)  # no trainer logs the photos it trains on
    split = pd.DataFrame({"epoch": EPOCHS, "split": "val", name: LOSSES})
    assert_reads(read(tmp_path, split), LOSSES)
    tags = pd.DataFrame({"step": EPOCHS, "tag": name, "split": "val", "value": LOSSES})
    assert_reads(read(tmp_path, tags), LOSSES)


@pytest.mark.parametrize(
    "names",
    [
        ["val_loss_0", "val_loss_10"],
        ["loss/img1.png", "loss/img2.png", "train_loss"],
        ["val_loss/dog in snow.png", "val_loss/cat.jpg"],
        ["val_a_loss", "val_b_loss"],
        ["val_loss_t0.25", "val_loss_t1", "test_loss_t1"],
    ],
)
def test_columns_that_differ_by_an_item_are_one_loss(tmp_path, names):
    levels = {name: LOSSES * (1 + row) for row, name in enumerate(names)}
    trajectory = read(tmp_path, {"epoch": EPOCHS} | levels)
    items = trajectory.items("heldout_loss")
    assert items is None if names[0].endswith("_t0.25") else items.shape == (len(EPOCHS), 2)  # timesteps are no photos
    assert trajectory.source.startswith(f"columns {names[0]}, {names[1]}")


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["runA - val_loss", "runB - val_loss"], "columns runA - val_loss, runB - val_loss are of several runs; keep"),
        (["val/kl_loss", "val/rec_loss"], "columns val/kl_loss, val/rec_loss are not named like items of one loss"),
        (["val_loss_l1", "val_loss_l1_smooth"], "not named like items of one loss"),
        (["val_best_loss", "val_loss_std"], "no numeric loss column"),
    ],
)
def test_columns_of_several_runs_or_losses_are_refused(tmp_path, names, complaint):
    assert complaint in refusal(tmp_path, {"epoch": EPOCHS} | dict.fromkeys(names, LOSSES))


def test_a_validation_loss_that_is_no_number_is_not_replaced_by_another_loss(tmp_path):
    columns = {"epoch": EPOCHS, "loss": OTHER, "val_loss": ["-", *map(str, LOSSES[1:])]}
    assert "column val_loss is not all numbers: '-'" in refusal(tmp_path, columns)


@pytest.mark.parametrize("kept", [["effort"], []])
def test_columns_cut_from_our_own_table_are_read_as_they_were(tmp_path, kept):
    whole = plant("valley", 2).trajectory
    whole.save(tmp_path)
    names = [f"{name}{side}" for name in ("heldout_loss", "shifted_loss") for side in ("", "_low", "_high")]
    table = pd.read_csv(tmp_path / "trajectory.csv")[["epoch", *kept, *names]]
    for rows in (table, table[table.epoch > 0]):  # with and without the base
        cut = read(tmp_path, rows)
        for name in ("heldout_loss", "shifted_loss"):
            np.testing.assert_array_equal(cut.values(name), whole.values(name)[-len(rows) :])
        if kept:
            np.testing.assert_array_equal(cut.effort, whole.effort[-len(rows) :])
        assert re.fullmatch(r"column heldout_loss; .*ratios.*: heldout_loss, shifted_loss", cut.source)
    shifted = read(tmp_path, table[["epoch", *names[3:]]])
    assert shifted.channels == ("shifted_loss",)
    np.testing.assert_array_equal(shifted.values("shifted_loss"), whole.values("shifted_loss"))


def test_all_loss_channels_are_ratios_or_none_is(tmp_path):
    epochs, rising = np.arange(8), np.arange(8) / 100
    ratios = {"epoch": epochs, "heldout_loss": np.log(LOSSES / LOSSES[0]), "shifted_loss": rising}
    trajectory = read(tmp_path, ratios)
    assert_reads(trajectory, LOSSES)
    np.testing.assert_allclose(trajectory.values("shifted_loss")[:, 0], rising)  # positive, yet not logged again
    raw = {"epoch": epochs, "heldout_loss": LOSSES, "shifted_loss": OTHER}
    for bounds in ({}, {"heldout_loss_low": LOSSES - 0.01, "heldout_loss_high": LOSSES + 0.01}):
        trajectory = read(tmp_path, raw | bounds)  # no ratio of the base to itself is 0.1
        assert_reads(trajectory, LOSSES)
        assert_reads(trajectory, OTHER, "shifted_loss")
    assert "shifted_loss has values at or below 0" in refusal(tmp_path, raw | {"shifted_loss": rising})
    assert "ln ratios to the base need its row" in refusal(tmp_path, ratios | {"epoch": epochs + 1})


@pytest.mark.parametrize(
    ("columns", "photos"),
    [
        (["image_name"], 3),
        (["image_path", "timestep"], 3),
        (["timestep"], None),
        (["seed", "noise"], None),
        (["batch"], None),
        ([], None),
    ],
)
def test_only_photos_count_as_photos(tmp_path, columns, photos):
    grid = list(product(range(3), repeat=len(columns)))
    rows = [(epoch, *row, loss * (1 + sum(row))) for epoch, loss in zip(EPOCHS, LOSSES, strict=True) for row in grid]
    trajectory = read(tmp_path, pd.DataFrame(rows, columns=["epoch", *columns, "val_loss"]))
    assert_reads(trajectory, LOSSES)
    items = trajectory.items("heldout_loss")
    assert (None if items is None else items.shape[1]) == photos
    assert ("is not known" in describe(trajectory, find_onset(trajectory))) == (photos is None)


def test_the_fewer_photos_are_known_the_wider_is_the_interval(tmp_path):
    epochs = np.arange(0, 122, 2)
    losses = 0.12 * np.exp(-0.3 * epochs / (epochs + 6) + 0.1 * (epochs / 60) ** 2)
    widths = {}
    for photos in (None, 1, 3, 6):
        rows = [
            (epoch, *([] if photos is None else [image]), loss * (1 + image))
            for epoch, loss in zip(epochs, losses, strict=True)
            for image in range(photos or 1)
        ]
        names = ["epoch", *([] if photos is None else ["image"]), "val_loss"]
        memory = find_onset(read(tmp_path, pd.DataFrame(rows, columns=names))).memory
        widths[photos] = np.log2((memory.high or np.inf) / memory.low)
    assert widths[6] < widths[3] == pytest.approx(widths[None], abs=0.01)
    assert widths[3] < widths[1]


@pytest.mark.parametrize(
    "names",
    [
        ["val_loss_rank8", "val_loss_rank16"],
        ["run1_val_loss", "run2_val_loss"],
        ["trial_1/val_loss", "trial_2/val_loss"],
        ["lora_v1 val loss", "lora_v2 val loss"],
        ["val_loss_lr1e-4", "val_loss_lr5e-5"],
        ["val_loss_fold1", "val_loss_fold2"],
    ],
)
def test_columns_that_differ_by_a_run_are_no_photos(tmp_path, names):
    said = refusal(tmp_path, {"epoch": EPOCHS} | dict.fromkeys(names, LOSSES))
    assert f"columns {names[0]}, {names[1]} are of several runs; keep one" in said


@pytest.mark.parametrize(
    "names", [["val_loss_100", "val_loss_900"], ["val/loss_quantile_0.10", "val/loss_quantile_0.20"]]
)
def test_columns_that_differ_by_a_noise_level_are_one_loss_of_unknown_photos(tmp_path, names):
    trajectory = read(tmp_path, {"epoch": EPOCHS} | dict.fromkeys(names, LOSSES))
    assert_reads(trajectory, LOSSES)
    assert trajectory.items("heldout_loss") is None


def test_a_numbered_validation_goes_before_its_quantiles(tmp_path):
    quantiles = {f"eval0/loss_quantile_0.{tenth}0": OTHER for tenth in range(1, 4)}
    trajectory = read(tmp_path, {"step": EPOCHS, "eval0/loss": LOSSES} | quantiles)
    assert_reads(trajectory, LOSSES)
    assert trajectory.source == "column eval0/loss"


@pytest.mark.parametrize("column", ["file", "path", "file_path"])
def test_files_are_photos_only_where_they_are_images(tmp_path, column):
    rows = pd.concat([one_run(**{column: f"photos/{number}.PNG"}) for number in range(3)])
    assert read(tmp_path, rows).items("heldout_loss").shape[1] == 3
    runs = pd.concat([one_run(**{column: f"lora-{number}.safetensors"}) for number in range(3)])
    assert f"rows of one epoch differ in column {column} (lora-0.safetensors" in refusal(tmp_path, runs)


@pytest.mark.parametrize("word", ["mean", "Average", "all"])
def test_the_mean_of_all_photos_is_no_photo(tmp_path, word):
    rows = [one_run(image=f"{number}.png") for number in range(3)] + [one_run(image=word)]
    assert read(tmp_path, pd.concat(rows)).items("heldout_loss").shape[1] == 3


@pytest.mark.parametrize(
    ("column", "unit"), [("epoch", "epoch"), ("epochs", "epoch"), ("step", "step"), ("iter", "step")]
)
def test_checkpoints_have_their_unit_epochs_and_effort(tmp_path, column, unit):
    trajectory = read(tmp_path, {column: 10 * EPOCHS, "val_loss": LOSSES, "lr": 0.5})
    assert trajectory.unit == unit
    assert trajectory.epochs.tolist() == (10 * EPOCHS).tolist()
    assert trajectory.effort.tolist() == (5.0 * (EPOCHS - 1)).tolist()


def test_a_time_that_is_no_whole_number_is_shown(tmp_path):
    said = refusal(tmp_path, {"note": "a", "epoch": EPOCHS + 0.5, "val_loss": LOSSES})
    assert said.endswith("column epoch has 1.5")
    assert "it has note, val_loss" in refusal(tmp_path, {"note": "a", "val_loss": LOSSES})
    assert "column step has 'x'" in refusal(tmp_path, {"step": ["x", *EPOCHS[1:]], "val_loss": LOSSES})


def test_a_checkpoint_with_half_of_its_photos_is_kept_and_one_with_fewer_is_not(tmp_path):
    many = {f"val_loss_{number}": LOSSES * (1 + number) for number in range(4)}
    for gaps, kept in ((2, 8), (3, 7)):
        columns = {name: values.copy() for name, values in many.items()}
        for name in list(columns)[:gaps]:
            columns[name][3] = np.nan
        trajectory = read(tmp_path, {"epoch": EPOCHS, **columns})
        assert len(trajectory) == kept
        left = LOSSES if kept == 8 else np.delete(LOSSES, 3)
        assert_reads(trajectory, left)


def test_a_column_of_items_with_one_value_tells_nothing_apart(tmp_path):
    rows = pd.concat([one_run(image=f"{number}.png", seed=7) for number in range(3)])
    assert read(tmp_path, rows).items("heldout_loss").shape == (8, 3)
    one = read(tmp_path, one_run(image="a.png", seed=7))
    assert one.items("heldout_loss").shape == (8, 1)

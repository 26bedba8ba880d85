"""Other people's tables: which rows and columns are read, what is refused, and whose losses they are."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest

from metrics.errors import MetricsError
from metrics.loss_tables.any_table import from_table
from metrics.loss_tables.table_onset import describe
from metrics.onset.onset import find_onset
from metrics.trajectory.trajectory import Trajectory
from tests.metrics.planted_onsets import plant

EPOCHS = np.arange(1, 9)
LOSSES = 0.12 - 0.02 * EPOCHS / (EPOCHS + 3)
OTHER = 0.5 - 0.03 * EPOCHS  # what must not be read


def read(folder, columns) -> Trajectory:
    pd.DataFrame(columns).to_csv(folder / "t.csv", index=False)
    return from_table(folder / "t.csv")


def refusal(folder, columns) -> str:
    with pytest.raises(MetricsError) as refused:
        read(folder, columns)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def assert_reads(trajectory, losses, channel="heldout_loss"):
    np.testing.assert_allclose(trajectory.values(channel)[:, 0], np.log(losses / losses[0]), atol=1e-12)


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


@pytest.mark.parametrize(("tag", "value"), [("tag", "value"), ("Metric", "Value"), ("variable", "values")])
@pytest.mark.parametrize("images", [1, 3])
def test_a_table_with_one_row_for_each_number_is_read_by_their_names(tmp_path, tag, value, images):
    rows = [
        (epoch, image, name, number * (1 + image), time)
        for time, (epoch, loss, other) in enumerate(zip(EPOCHS, LOSSES, OTHER, strict=True))
        for name, number in (("loss/train", other), ("loss/val", loss), ("lr", 1.0))
        for image in range(images)
    ]
    trajectory = read(tmp_path, pd.DataFrame(rows, columns=["step", "image", tag, value, "wall_time"]))
    assert_reads(trajectory, LOSSES)
    assert trajectory.source == "column loss/val"
    assert images == 1 or trajectory.items("heldout_loss").shape == (len(EPOCHS), images)
    rows = [row for row in rows if row[2] == "lr"] + [(0, 0, "grad", 1.0, 0)]
    complaint = refusal(tmp_path, pd.DataFrame(rows, columns=["step", "image", tag, value, "wall_time"]))
    assert f"column {tag} has lr, grad: none is a loss" in complaint


@pytest.mark.parametrize("column", ["split", "phase", "set", "subset", "stage", "mode"])
@pytest.mark.parametrize("word", ["val", "Validation", "eval", "test", "heldout"])
def test_of_rows_of_training_and_validation_the_validation_is_read(tmp_path, column, word):
    words = np.tile(["train", word], len(EPOCHS))
    losses = np.stack([OTHER, LOSSES], axis=1).ravel()
    trajectory = read(tmp_path, {"epoch": np.repeat(EPOCHS, 2), column: words, "loss": losses})
    assert_reads(trajectory, LOSSES)
    assert trajectory.source == f"column loss where {column} is {word}"


def test_a_validation_goes_before_a_test_and_keeps_its_images(tmp_path):
    rows = [
        (epoch, split, image, loss * (1 + image) * factor)
        for epoch, loss, other in zip(EPOCHS, LOSSES, OTHER, strict=True)
        for split, factor in (("test", other), ("val", 1.0), ("train_val", other))
        for image in range(3)
    ]
    trajectory = read(tmp_path, pd.DataFrame(rows, columns=["epoch", "split", "image", "loss"]))
    assert trajectory.items("heldout_loss").shape == (len(EPOCHS), 3)
    assert_reads(trajectory, LOSSES)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train"], "column phase has train, none of it plainly a validation"),
        (["train", "other"], "column phase has train, other, none of it plainly a validation"),
        (["val_a", "val_b"], "column phase has several validations (val_a, val_b); keep the rows of one"),
    ],
)
def test_rows_that_are_not_plainly_of_one_validation_are_refused(tmp_path, words, complaint):
    columns = {"epoch": EPOCHS, "phase": np.resize(words, len(EPOCHS)), "val_loss": LOSSES}
    assert complaint in refusal(tmp_path, columns)
    assert_reads(read(tmp_path, columns | {"phase": np.nan}), LOSSES)  # an empty column says nothing


def test_several_validations_in_an_epoch_are_checkpoints_of_their_own(tmp_path):
    steps = 50 * EPOCHS
    trajectory = read(tmp_path, {"epoch": np.repeat([1, 2], 4), "step": steps, "val_loss": LOSSES})
    assert (trajectory.unit, trajectory.epochs.tolist()) == ("step", steps.tolist())
    assert_reads(trajectory, LOSSES)
    images = np.tile([0, 1], len(EPOCHS))
    columns = {"epoch": np.repeat([1, 2], 8), "step": np.repeat(steps, 2), "image": images}
    trajectory = read(tmp_path, columns | {"val_loss": np.repeat(LOSSES, 2) * (1 + images)})
    assert (trajectory.unit, trajectory.items("heldout_loss").shape) == ("step", (8, 2))


def test_epochs_are_read_where_steps_tell_no_more(tmp_path):
    one = read(tmp_path, {"step": 50 * EPOCHS, "epoch": EPOCHS, "val_loss": LOSSES})
    training_between = {"step": np.arange(16), "epoch": np.repeat(EPOCHS, 2), "loss": 0.1}
    losses = np.stack([np.full(8, np.nan), LOSSES], axis=1).ravel()
    other = read(tmp_path, training_between | {"eval_loss": losses})
    images = {"step": np.arange(16), "epoch": np.repeat(EPOCHS, 2), "image": np.tile([0, 1], 8)}
    third = read(tmp_path, images | {"val_loss": np.repeat(LOSSES, 2)})
    anew = {"step": np.tile([0, 50, 100], 8), "epoch": np.repeat(EPOCHS, 3), "val_loss": np.repeat(LOSSES, 3)}
    for trajectory in (one, other, third, read(tmp_path, anew)):
        assert (trajectory.unit, trajectory.epochs.tolist()) == ("epoch", EPOCHS.tolist())
        assert_reads(trajectory, LOSSES)


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


def one_run(**beside) -> pd.DataFrame:
    return pd.DataFrame({"epoch": EPOCHS, "val_loss": LOSSES} | beside)


@pytest.mark.parametrize("column", ["rank", "config", "name", "fold", "learning rate"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_of_other_configurations_are_not_averaged(tmp_path, column, shuffled):
    runs = [one_run(**{column: value, "time": value + EPOCHS}) for value in (8, 16, 32)]
    runs[1] = runs[1][:5]  # one of them was stopped
    rows = pd.concat(runs).sample(frac=1, random_state=0) if shuffled else pd.concat(runs)
    said = f"column {column} names several runs (" if column in ("rank", "config") else f"differ in column {column} ("
    assert said in refusal(tmp_path, rows)
    losses = rows.melt(id_vars=["epoch", column, "time"], var_name="tag").replace("val_loss", "loss/val")
    other = losses.assign(tag="loss/train")
    long = pd.concat([losses, other])
    if column != "name":
        assert said in refusal(tmp_path, long)
    assert_reads(read(tmp_path, rows[rows[column] == 8]), LOSSES)
    assert_reads(read(tmp_path, rows.rename(columns={column: "image"})), LOSSES)


@pytest.mark.parametrize("beside", [{}, {"lr": 1e-4}, {"wall_time": EPOCHS * 7.5}])
def test_what_a_resumed_run_measured_again_is_not_averaged(tmp_path, beside):
    first, again = one_run(**beside)[:6], one_run(**beside)[3:]
    complaint = refusal(tmp_path, pd.concat([first, again]))
    assert "row 8 goes back to epoch 4" in complaint
    assert "row 7 goes back to epoch 6" in refusal(tmp_path, pd.concat([first, again])[::-1])
    twice = pd.concat([one_run(image=image)[:6] for image in (0, 1)] + [one_run(image=image)[3:] for image in (0, 1)])
    assert "row 14 goes back to epoch 4" in refusal(tmp_path, twice)
    tags = pd.concat([first, again]).melt(id_vars=["epoch"], value_vars=["val_loss", *beside], var_name="tag")
    if beside:
        assert "row 8 goes back to epoch 4" in refusal(tmp_path, tags)


def test_batches_of_a_validation_are_averaged_and_said_to_be(tmp_path):
    rows = pd.DataFrame({"epoch": np.repeat(EPOCHS, 3), "val_loss": np.repeat(LOSSES, 3) * np.tile([0.5, 1, 1.5], 8)})
    trajectory = read(tmp_path, rows)
    assert_reads(trajectory, LOSSES)
    assert re.fullmatch(r"column val_loss, .*\bmean\b.*", trajectory.source)


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


@pytest.mark.parametrize("tag", ["train_loss", "loss/train", "accuracy"])
def test_one_named_number_that_is_no_validation_is_refused(tmp_path, tag):
    said = refusal(tmp_path, {"step": EPOCHS, "tag": tag, "value": LOSSES})
    assert ("a validation loss is needed" if "loss" in tag else "none is a loss") in said
    assert read(tmp_path, {"step": EPOCHS, "tag": "eval/loss", "value": LOSSES}).source == "column eval/loss"
    assert_reads(read(tmp_path, {"step": EPOCHS, "name": "my-lora", "value": LOSSES}), LOSSES)


def test_a_training_loss_that_was_logged_again_does_not_spoil_a_whole_validation(tmp_path):
    train = one_run(tag="loss/train").rename(columns={"val_loss": "value"})
    val = one_run(tag="loss/val").rename(columns={"val_loss": "value"})
    assert_reads(read(tmp_path, pd.concat([train[:6], train[3:], val])), LOSSES)


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


def test_a_grid_of_runs_is_told_by_its_first_column_and_batches_of_two_sizes_are_none(tmp_path):
    runs = [one_run(lora_dim=dim, speed=speed) for dim in (8, 16) for speed in (1, 2)]
    assert "rows of one epoch differ in column lora_dim (8, 16)" in refusal(tmp_path, pd.concat(runs))
    stopped = [one_run(lora_dim=dim)[: 8 if dim == 2 else 2] for dim in (2, 4, 8, 16, 32)]  # as halving leaves them
    assert "rows of one epoch differ in column lora_dim (2, 4, 8, 16" in refusal(tmp_path, pd.concat(stopped))
    batches = pd.DataFrame(
        {"epoch": np.repeat(EPOCHS, 3), "val_loss": np.repeat(LOSSES, 3), "n": np.tile([4, 4, 1], 8)}
    )
    assert_reads(read(tmp_path, batches), LOSSES)
    mixed = pd.concat([one_run(run_id="a")[::2], one_run(run_id="b")[1::2]])  # each epoch once
    assert "column run_id names several runs (a, b)" in refusal(tmp_path, mixed)


def test_a_resumed_run_shows_when_it_is_sorted_and_when_its_steps_count_on(tmp_path):
    rows = pd.concat([one_run()[:6], one_run()[3:]])
    rows["val_loss"] *= 1 + 0.01 * np.arange(len(rows))
    assert "epoch 4 has 2 rows, epoch 1 has 1" in refusal(tmp_path, rows.sort_values("epoch", kind="stable"))
    assert "at _step 60 epoch goes back from 6 to 4" in refusal(tmp_path, rows.assign(_step=10 * np.arange(len(rows))))
    last_twice = pd.concat([one_run(), one_run()[-1:]])  # the same number at the end once more
    assert_reads(read(tmp_path, last_twice), LOSSES)


def test_runs_named_train_and_validation_are_splits(tmp_path):
    rows = pd.concat([one_run(Run="validation"), one_run(Run="train").assign(val_loss=OTHER)])
    trajectory = read(tmp_path, rows.rename(columns={"val_loss": "loss"}))
    assert_reads(trajectory, LOSSES)
    assert trajectory.source == "column loss where Run is validation"

"""Other people's tables: which rows are a validation, and that those of several runs are never averaged."""

import re

import numpy as np
import pandas as pd
import pytest

from tests.metrics.loss_tables.written_tables import EPOCHS, LOSSES, OTHER, assert_reads, one_run, read, refusal


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


def test_rows_without_a_photo_s_name_are_those_of_one_photo(tmp_path):
    rows = pd.concat([one_run(image="a"), one_run(image=None)[:6], one_run(image=None)[3:]])
    assert "row 16 goes back to epoch 4" in refusal(tmp_path, rows)


@pytest.mark.parametrize(("checkpoints", "again", "told"), [(3, 2, True), (4, 2, True), (8, 4, True), (8, 3, False)])
def test_a_series_comes_again_at_half_of_the_checkpoints(tmp_path, checkpoints, again, told):
    """Two rows at each: 8 and 16 come so often, and all else once."""
    values = [*([8, 16] * again), *range(100, 100 + 2 * (checkpoints - again))]
    rows = pd.DataFrame(
        {"epoch": np.repeat(EPOCHS[:checkpoints], 2), "val_loss": np.repeat(LOSSES[:checkpoints], 2), "dim": values}
    )
    if told:
        assert "differ in column dim (8, 16" in refusal(tmp_path, rows)
    else:
        assert_reads(read(tmp_path, rows), LOSSES[:checkpoints])


def test_rows_that_run_backwards_are_read_like_others(tmp_path):
    rows = pd.DataFrame({"epoch": np.repeat(EPOCHS, 2), "val_loss": np.repeat(LOSSES, 2) * np.tile([0.9, 1.1], 8)})
    assert_reads(read(tmp_path, rows[::-1]), LOSSES)


def test_a_column_that_says_nothing_leaves_the_word_to_the_next(tmp_path):
    both = pd.concat([one_run(split=np.nan, phase="val"), one_run(split=np.nan, phase="train").assign(val_loss=OTHER)])
    trajectory = read(tmp_path, both)
    assert_reads(trajectory, LOSSES)
    assert trajectory.source == "column val_loss where phase is val"


def test_of_named_numbers_a_column_with_gaps_leaves_no_row_out(tmp_path):
    rows = pd.DataFrame({"step": EPOCHS, "tag": "eval/loss", "value": LOSSES, "image": ["a", *[None] * 7]})
    assert_reads(read(tmp_path, rows), LOSSES)
    timed = rows.assign(image=1).rename(columns={"image": "epoch"}).assign(epoch=[1, *[None] * 7])
    assert_reads(read(tmp_path, timed), LOSSES)


@pytest.mark.parametrize("other", ["eval_loss", "validation/loss", "test_loss", "my_loss", "loss/train"])
def test_of_several_named_losses_the_surest_is_read(tmp_path, other):
    for tags in (("val_loss", other), (other, "val_loss")):
        values = {"val_loss": LOSSES, other: LOSSES[::-1]}
        rows = pd.concat([pd.DataFrame({"step": EPOCHS, "tag": tag, "value": values[tag]}) for tag in tags])
        trajectory = read(tmp_path, rows)
        assert trajectory.source == "column val_loss"
        assert_reads(trajectory, LOSSES)


@pytest.mark.parametrize(("count", "said"), [(1, "1 checkpoint with a loss"), (2, "2 checkpoints with a loss")])
def test_three_checkpoints_are_read_and_not_fewer(tmp_path, count, said):
    few = {"epoch": EPOCHS, "val_loss": np.where(np.arange(8) < count, LOSSES, np.nan)}
    assert refusal(tmp_path, few).endswith(f"{said}; the onset needs at least 3")
    assert len(read(tmp_path, {**few, "val_loss": np.where(np.arange(8) < 3, LOSSES, np.nan)})) == 3


def test_rows_of_a_loss_that_is_not_read_say_nothing_of_the_one_that_is(tmp_path):
    def logged(*tags):
        parts = [pd.DataFrame({"step": EPOCHS, "tag": tag, "value": LOSSES * (1 + row / 9)}) for row, tag in tags]
        return pd.concat(parts)

    twice = logged((0, "val_loss"), (1, "val_loss"), (0, "my_loss"))
    assert "row 10 goes back to step 1" in refusal(tmp_path, twice)
    assert read(tmp_path, twice.sort_values("step")).source == "column val_loss, the mean of the rows of one step"
    other = logged((0, "val_loss"), (0, "my_loss"), (1, "my_loss"))
    for rows in (other, other.sort_values("step")):
        trajectory = read(tmp_path, rows)
        assert trajectory.source == "column val_loss"
        assert_reads(trajectory, LOSSES)

"""Trajectories: kept and read back, and other people's tables."""

import numpy as np
import pandas as pd
import pytest

from metrics.errors import MetricsError
from metrics.loss_tables.any_table import from_table
from metrics.loss_tables.table_onset import describe
from metrics.onset.onset import find_onset
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory
from tests.metrics.planted_onsets import plant


def test_save_and_load_give_the_same_trajectory(tmp_path):
    trajectory = plant("valley", 1).trajectory
    trajectory.save(tmp_path)
    loaded = Trajectory.load(tmp_path)
    assert loaded.epochs.tolist() == trajectory.epochs.tolist()
    assert loaded.channels == trajectory.channels
    for channel in trajectory.channels:
        np.testing.assert_array_equal(loaded.values(channel), trajectory.values(channel))
        np.testing.assert_allclose(loaded.items(channel), trajectory.items(channel), rtol=1e-6, atol=1e-7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.npz", "trajectory.csv"]
    again, first = find_onset(loaded), find_onset(trajectory)
    assert (again.status, again.best, again.learned) == (first.status, first.best, first.learned)
    assert again.epoch == pytest.approx(first.epoch, rel=1e-4)


def test_a_channel_that_a_checkpoint_lacks_stays_missing(tmp_path):
    readings = (
        Readings(0, 0.0, {"heldout_loss": Reading(0, 0, 0)}, {"heldout_loss": np.zeros((3, 2, 4))}),
        Readings(5, 0.1, {"copying": Reading(0.4, 0.3, 0.5)}, {"copying": np.array([0.3, 0.5])}, 0.5),
    )
    Trajectory(readings).save(tmp_path)
    loaded = Trajectory.load(tmp_path)
    assert set(loaded.readings[0].channels) == {"heldout_loss"}
    assert set(loaded.readings[1].channels) == {"copying"}
    assert loaded.cube("heldout_loss").shape == (2, 3, 2, 4)
    assert np.isnan(loaded.cube("heldout_loss")[1]).all()
    assert np.isnan(loaded.scores[0])
    assert loaded.scores[1] == 0.5


def test_a_table_is_the_one_that_pandas_would_write(tmp_path):
    """To the last digit, whatever the size of a number, also where one is missing or a name wants quotes."""
    luck = np.random.default_rng(0)
    values = luck.normal(size=(400, 3)) * 10.0 ** luck.integers(-30, 30, (400, 3))
    values[:6] = [[1e-5, 1e-4, 1e15], [1e16, 1e17, 0.1 + 0.2], [0.0, -0.0, 3.0], [5e-324, 1e22, 1e23], *values[4:6]]
    trained = [
        Readings(2 * row, low, {"fidelity" if row % 3 else 'my "own", ö': Reading(value, low, high)})
        for row, (value, low, high) in enumerate(values.tolist(), start=1)
    ]
    readings = (Readings(0, 0.0, {"copying": Reading(1, 2, 3)}), *trained)
    Trajectory(readings, "step").save(tmp_path)
    columns = {"step": [r.epoch for r in readings], "effort": [r.effort for r in readings]}
    for name in ("fidelity", "copying", 'my "own", ö'):
        for side, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            found = [getattr(r.channels[name], side) if name in r.channels else np.nan for r in readings]
            columns[name + suffix] = np.array(found, float)
    table = pd.DataFrame({**columns, "score": np.nan})
    assert (tmp_path / "trajectory.csv").read_bytes() == table.to_csv(index=False, lineterminator="\n").encode()


def test_an_npz_newer_than_its_csv_is_no_trouble(tmp_path):
    """The npz is written first; when the machine dies between the two, the CSV decides what exists."""
    trajectory = plant("valley", 1).trajectory
    Trajectory(trajectory.readings[:10]).save(tmp_path / "old")
    trajectory.save(tmp_path / "new")
    (tmp_path / "new" / "items.npz").replace(tmp_path / "old" / "items.npz")
    loaded = Trajectory.load(tmp_path / "old")
    assert len(loaded) == 10
    assert np.isfinite(loaded.items("heldout_loss")).all()


@pytest.mark.parametrize("left", [0, 9, 3000])
def test_a_damaged_npz_is_told_by_name(tmp_path, left):
    plant("valley", 1).trajectory.save(tmp_path)
    file = tmp_path / "items.npz"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(MetricsError, match=r"items\.npz: damaged, or not written by Onset"):
        Trajectory.load(tmp_path)


def test_of_many_checkpoints_equally_many_in_a_row_become_their_mean_at_the_middle_one():
    readings = [
        Readings(epoch, float(epoch), {"copying": Reading(epoch, epoch - 1, epoch + 2)},
                 {"copying": np.array([epoch, 2.0 * epoch])}, 0.1 * epoch if epoch != 7 else np.nan)
        for epoch in range(11)
    ]  # fmt: skip
    whole = Trajectory(tuple(readings))
    assert whole.grouped(11) is whole
    few = whole.grouped(4)
    assert few.epochs.tolist() == [0, 2, 6, 9]
    means = [0, 2.5, 6.5, 9.5]  # of the base, of 1 to 4, 5 to 8, 9 and 10
    assert few.values("copying").tolist() == [[mean, mean - 1, mean + 2] for mean in means]
    assert few.items("copying").tolist() == [[mean, 2 * mean] for mean in means]
    assert few.scores == pytest.approx([0, 0.25, 0.1 * (5 + 6 + 8) / 3, 0.95])
    assert (few.checkpoints, whole.checkpoints) == (11, 0)
    assert Trajectory(tuple(readings[1:])).grouped(5).epochs.tolist() == [1, 3, 5, 7, 9]


def test_epochs_have_to_increase():
    first = Readings(5, 0.1, {})
    with pytest.raises(MetricsError, match="epoch 5 follows 5"):
        Trajectory((first,)).append(first)
    with pytest.raises(MetricsError, match=r"no trajectory\.csv"):
        Trajectory.load("nowhere")


def test_items_of_changing_number_are_refused():
    readings = (Readings(1, 0, {}, {"copying": np.zeros(3)}), Readings(2, 0, {}, {"copying": np.zeros(4)}))
    with pytest.raises(MetricsError, match="copying has items of different shapes"):
        Trajectory(readings).items("copying")


def valley(epochs: np.ndarray) -> np.ndarray:
    return 0.12 - 0.02 * epochs / (epochs + 5) + 0.01 * (epochs / 60) ** 2


def test_sd_scripts_log_of_validation_losses(tmp_path):
    """Columns of a wandb export of sd-scripts: train losses, validation averages and divergences, gaps, bands."""
    steps = np.arange(0, 1300, 50)
    table = pd.DataFrame({"Step": steps, "loss/average": 0.1, "loss/validation/step_current": 0.1 + steps % 3})
    table["loss/validation/epoch_average"] = np.where(steps % 100 == 0, valley(steps / 10), np.nan)
    table["loss/validation/epoch_average__MIN"] = table["loss/validation/epoch_average"]
    table["loss/validation/epoch_divergence"] = 0.01
    table.to_csv(tmp_path / "wandb.csv", index=False)
    trajectory = from_table(tmp_path / "wandb.csv")
    assert trajectory.unit == "step"
    assert trajectory.epochs.tolist() == list(range(0, 1300, 100))
    losses = valley(trajectory.epochs / 10)
    np.testing.assert_allclose(trajectory.values("heldout_loss")[:, 0], np.log(losses / losses[0]), atol=1e-6)


def test_tensorboards_own_export(tmp_path):
    steps = np.arange(0, 100, 10)
    pd.DataFrame({"Wall time": 1e9 + steps, "Step": steps, "Value": valley(steps)}).to_csv(
        tmp_path / "tb.csv", index=False
    )
    trajectory = from_table(tmp_path / "tb.csv")
    assert (trajectory.unit, trajectory.epochs.tolist()) == ("step", steps.tolist())
    losses = valley(steps)
    np.testing.assert_allclose(trajectory.values("heldout_loss")[:, 0], np.log(losses / losses[0]), atol=1e-9)


def test_long_and_wide_tables_keep_their_images_and_agree(tmp_path):
    generator = np.random.default_rng(0)
    epochs = np.arange(0, 66, 3)
    losses = valley(epochs)[:, None] * np.exp(0.2 * generator.normal(size=5))
    wide = pd.DataFrame(losses, columns=[f"val_loss/photo{index}.png" for index in range(5)])
    wide.insert(0, "epoch", epochs)
    wide["train_loss"] = 0.05
    wide.to_csv(tmp_path / "wide.tsv", index=False, sep="\t")
    long = wide.melt(id_vars=["epoch", "train_loss"], var_name="image", value_name="val_loss").sample(
        frac=1, random_state=0
    )
    long.to_csv(tmp_path / "long.csv", index=False)
    one, other = from_table(tmp_path / "wide.tsv"), from_table(tmp_path / "long.csv")
    assert one.unit == other.unit == "epoch"
    assert one.items("heldout_loss").shape == (22, 5)
    np.testing.assert_allclose(one.items("heldout_loss"), other.items("heldout_loss"), atol=1e-9)
    assert find_onset(one).memory.status == "found"


def test_a_spreadsheet_with_decimal_commas(tmp_path):
    (tmp_path / "t.csv").write_text("Epoch;Validation Loss\n1;0,5\n2;0,25\n3;0,3\n")
    np.testing.assert_allclose(from_table(tmp_path / "t.csv").values("heldout_loss")[:, 0], np.log([1, 0.5, 0.6]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_any_usual_encoding_and_separator_is_read(tmp_path, encoding, separator):
    lines = ["Epoch# Größe val_loss", "1 a 0.5", "2 é 0.25", "3 a 0.3"]
    (tmp_path / "t.csv").write_bytes("\n".join(lines).replace(" ", separator).encode(encoding))
    np.testing.assert_allclose(from_table(tmp_path / "t.csv").values("heldout_loss")[:, 0], np.log([1, 0.5, 0.6]))


def test_a_spreadsheet_with_points_between_thousands_and_dates(tmp_path):
    rows = ["01.11.2026;500;0,5", "02.11.2026;1.000;0,25", "03.11.2026;1.500;0,3"]
    (tmp_path / "t.csv").write_text("\n".join(["Datum;Step;Val Loss", *rows]))
    trajectory = from_table(tmp_path / "t.csv")
    assert trajectory.epochs.tolist() == [500, 1000, 1500]
    np.testing.assert_allclose(trajectory.values("heldout_loss")[:, 0], np.log([1, 0.5, 0.6]))


def test_a_learning_rate_column_becomes_effort(tmp_path):
    epochs = np.arange(1, 6)
    pd.DataFrame({"epoch": epochs, "val_loss": valley(epochs), "lr": 1e-4 * epochs}).to_csv(
        tmp_path / "t.csv", index=False
    )
    np.testing.assert_allclose(from_table(tmp_path / "t.csv").effort, [0, 2e-4, 5e-4, 9e-4, 14e-4])


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"epoch": [1, 2, 3], "accuracy": [1, 2, 3]}, "no numeric loss column"),
        ({"time": ["a", "b", "c"], "val_loss": [1, 2, 3]}, "no column of whole epochs or steps"),
        ({"epoch": [1, 2], "val_loss": [1, 2]}, "2 checkpoints with a loss"),
        ({"epoch": [1, 2, 3], "val_loss": [1, 0, 2]}, "at or below 0"),
        ({"epoch": [1, 2, 3], "val_loss": [1, np.inf, 2]}, "infinite"),
        ({"epoch": [1, 1, 1], "val_loss": [1, 2, 2]}, "1 checkpoint with a loss"),
        ({"epoch": [1, 2, 3], "val_loss": ["0.1", "-", "0.2"]}, "not all numbers: '-'"),
        ({"step": [1, 2, 3], "loss/average": [3, 2, 1], "loss/current": [3, 2, 1]}, "a validation loss is needed"),
        ({"step": [1, 2, 3], "train_loss": [3, 2, 1]}, "a validation loss is needed"),
        ({"epoch": [1, 2, 3], "effort": 1.0, "score": ["a", "b", "c"], "prompt": 1.0}, "row 2: score is 'a'"),
        ({"epoch": [1, None, 3], "effort": 1.0, "score": 0.5, "prompt": 1.0}, "row 3: epoch is nothing"),
        ({"epoch": [1, 2, 3, 1], "val_loss": [1, 2, 2, 1], "run": ["a", "a", "a", "b"]}, "several runs"),
        ({"epoch": ["epoch-1", "epoch-2", "epoch-3"], "val_loss": [1, 2, 3]}, "column epoch has 'epoch-1'"),
        ({"step": ["500", "1,000", "1,500"], "val_loss": [1, 2, 3]}, "column step has '1,000'"),
        ({"epoch": [0.5, 1.5, 2.5], "val_loss": [1, 2, 3]}, "column epoch has 0.5"),
        ({"epoch": [-1, 0, 1], "val_loss": [1, 2, 3]}, "column epoch has -1"),
    ],
)
def test_unusable_tables_are_refused_in_one_line(tmp_path, table, complaint):
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(MetricsError, match=complaint) as refused:
        from_table(tmp_path / "t.csv")
    assert "\n" not in str(refused.value)


def test_the_column_that_was_read_is_named(tmp_path):
    epochs = np.arange(0, 30, 3)
    for name, words in (("val_loss", "column val_loss"), ("Value", "column Value, taken for a validation loss")):
        pd.DataFrame({"epoch": epochs, name: valley(epochs)}).to_csv(tmp_path / "t.csv", index=False)
        trajectory = from_table(tmp_path / "t.csv")
        assert trajectory.source.startswith(words)
        assert f"heldout_loss: {words}" in describe(trajectory, find_onset(trajectory))


def test_losses_in_held_out_contexts_count_from_their_first_checkpoint(tmp_path):
    path, losses = tmp_path / "t.csv", np.array([0.1, 0.08, 0.07, 0.09])
    rows = "\n".join(f"{epoch},0.2,{loss}" for epoch, loss in enumerate(losses))
    path.write_text(f"epoch,val_loss,context_loss\n{rows}\n")
    trajectory = from_table(path)
    np.testing.assert_allclose(trajectory.values("context_loss")[:, 0], np.log(losses / losses[0]), atol=1e-6)
    path.write_text(path.read_text().replace("val_loss", "note"))
    assert from_table(path).channels == ("heldout_loss",)  # one column says one thing


def test_an_image_that_a_checkpoint_lacks_is_no_change(tmp_path):
    epochs = np.arange(0, 41)
    for seed in range(5):
        generator = np.random.default_rng(seed)
        levels, absent = np.exp(0.5 * generator.normal(size=4)), generator.integers(1, 41, 4)
        rows = [
            (epoch, f"{image}.png", level * np.exp(-0.02 * epoch / (epoch + 8)))
            for epoch in epochs
            for image, level in enumerate(levels)
            if absent[image] != epoch
        ]
        pd.DataFrame(rows, columns=["epoch", "image", "val_loss"]).to_csv(tmp_path / "t.csv", index=False)
        trajectory = from_table(tmp_path / "t.csv")
        truth = np.log(np.exp(-0.02 * epochs / (epochs + 8)))
        np.testing.assert_allclose(trajectory.items("heldout_loss"), np.tile(truth[:, None], 4), atol=1e-6)
        assert find_onset(trajectory).status == "beyond"


def test_checkpoints_with_items_of_their_own_are_compared_by_their_means(tmp_path):
    epochs = np.arange(0, 30, 3)
    seeds = np.arange(4 * len(epochs)).reshape(len(epochs), 4)  # drawn anew each time
    rows = [(epoch, seed, loss) for epoch, own, loss in zip(epochs, seeds, valley(epochs), strict=True) for seed in own]
    pd.DataFrame(rows, columns=["epoch", "seed", "val_loss"]).to_csv(tmp_path / "t.csv", index=False)
    trajectory = from_table(tmp_path / "t.csv")
    losses = valley(epochs)
    np.testing.assert_allclose(trajectory.values("heldout_loss")[:, 0], np.log(losses / losses[0]))


@pytest.mark.parametrize("seed", range(8))
def test_a_flat_table_that_rises_late_does_not_suffer_from_the_start(tmp_path, seed):
    epochs = np.arange(1, 41)
    noise = 0.0005 * np.random.default_rng(seed).normal(size=len(epochs))
    losses = 0.1 * np.exp(0.01 * np.maximum(epochs - 15, 0) + noise)
    pd.DataFrame({"epoch": epochs, "val_loss": losses}).to_csv(tmp_path / "t.csv", index=False)
    onset = find_onset(from_table(tmp_path / "t.csv"))
    assert onset.status == "found"
    assert 8 < onset.memory.epoch < 22


def test_a_table_without_the_base_may_begin_after_all_is_learned(tmp_path):
    epochs = np.arange(1, 41)
    pd.DataFrame({"epoch": epochs, "val_loss": 0.1 + 0.002 * epochs}).to_csv(tmp_path / "t.csv", index=False)
    onset = find_onset(from_table(tmp_path / "t.csv"))
    assert onset.status == "at_start"
    assert onset.best == 1


def test_a_trials_folder_is_its_trajectory(tmp_path):
    plant("valley", 1).trajectory.save(tmp_path / "trial")
    folder, file = (from_table(tmp_path / "trial" / name) for name in ("", "trajectory.csv"))
    np.testing.assert_array_equal(folder.cube("heldout_loss"), file.cube("heldout_loss"))
    with pytest.raises(MetricsError, match=r"no trajectory\.csv here"):
        from_table(tmp_path)


def test_no_table_at_all(tmp_path):
    with pytest.raises(MetricsError, match="no such file"):
        from_table(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(MetricsError, match="not a table"):
        from_table(tmp_path / "empty.csv")

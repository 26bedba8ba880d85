"""Trainers that log a validation without calling it a loss."""

import numpy as np
import pandas as pd
import pytest

from metrics.loss_tables.any_table import from_table


@pytest.mark.parametrize("name", ["test/val", "val", "eval"])
@pytest.mark.parametrize("long", [True, False])
def test_a_validation_that_is_not_called_a_loss_is_taken_beside_a_loss_of_the_training(tmp_path, name, long):
    steps, losses = np.arange(100, 1000, 100), 0.2 + 0.01 * np.abs(np.arange(9) - 4)
    training = 0.2 - 0.01 * np.arange(9)
    table = pd.DataFrame({"step": steps, name: losses, "loss/train": training})
    if long:
        table = table.melt("step", var_name="tag", value_name="value")
    table.to_csv(tmp_path / "t.csv", index=False)
    trajectory = from_table(tmp_path / "t.csv")
    np.testing.assert_allclose(trajectory.values("heldout_loss")[:, 0], np.log(losses / losses[0]), atol=1e-9)
    assert name in trajectory.source

"""Tables of losses that the tests write, and what is read from them or said against them."""

import numpy as np
import pandas as pd
import pytest

from metrics.errors import MetricsError
from metrics.loss_tables.any_table import from_table
from metrics.trajectory.trajectory import Trajectory

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


def one_run(**beside) -> pd.DataFrame:
    return pd.DataFrame({"epoch": EPOCHS, "val_loss": LOSSES} | beside)

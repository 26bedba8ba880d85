"""Messages between coordinator and workers: what one means that says little, and readings kept exactly."""

from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pytest

from metrics.trajectory.readings import Reading, Readings
from search.record.events import (
    Checkpointed,
    Doing,
    DrawAgain,
    DrawnAgain,
    Failed,
    Lost,
    Prepared,
    TrialSpec,
    load_readings,
    save_readings,
)
from tests.search.any_config import CONFIG


def test_a_message_that_says_no_more_asks_for_no_more() -> None:
    spec = TrialSpec(3, Path("trials/0003"), CONFIG)
    assert (spec.processed, spec.params, spec.place) == (0, {}, 0)
    look = DrawAgain(3, 8)
    assert (look.strengths, look.retrained, look.place, look.twins, look.parts, look.twin) == (
        False,
        False,
        0,
        0,
        0,
        None,
    )
    assert DrawnAgain(3, 8).twin is None
    assert (Prepared(1.0).notices, Prepared(1.0).places) == ((), 1)
    assert (Doing("loading").number, Doing("loading").epoch) == (None, 0)
    failed = Failed(3, 8, "NaN", again=False)
    assert (failed.machine, failed.twin) == (False, None)
    assert Lost("it was killed").replaced


@pytest.mark.parametrize("loss", [0.25, nan, inf])
def test_a_checkpoint_comes_back_as_it_was_measured(tmp_path: Path, loss: float) -> None:
    items = {"fidelity": np.array([[0.1, 0.2], [1 / 3, nan]])}
    readings = Readings(8, 0.125, {"fidelity": Reading(0.15, 0.1, 0.2)}, items, 2 / 3)
    event = Checkpointed(3, 8, readings, {"train": 1.5}, {"rss_gib": 2.0}, loss)
    event.save(tmp_path)
    found = Checkpointed.load(tmp_path, 3, 8)
    assert (found.number, found.epoch, found.timings, found.memory) == (3, 8, event.timings, event.memory)
    assert found.loss == loss or (isnan(found.loss) and loss != 0.25), "of what is no number nothing is kept"
    assert (found.readings.epoch, found.readings.effort, found.readings.score) == (8, 0.125, 2 / 3)
    assert found.readings.channels == readings.channels
    assert np.array_equal(found.readings.items["fidelity"], items["fidelity"], equal_nan=True)
    assert found.readings.items["fidelity"].dtype == np.float64
    for epoch in (0, 12, 2):
        save_readings(Checkpointed.file(tmp_path, epoch), readings)
    assert Checkpointed.epochs(tmp_path) == [0, 2, 8, 12]
    assert load_readings(Checkpointed.file(tmp_path, 0))[1] == {}


def test_what_may_run_code_is_neither_kept_nor_read(tmp_path: Path) -> None:
    objects = Readings(0, 0.0, {}, {"fidelity": np.array([object()])})
    with pytest.raises(ValueError, match="allow_pickle"):
        save_readings(tmp_path / "0000.npz", objects)
    np.savez(tmp_path / "0001.npz", head=np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        load_readings(tmp_path / "0001.npz")

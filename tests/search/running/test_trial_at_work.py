"""What of a trial's folder a worker goes on from, and how it gives up its seats."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from search.record.events import Checkpointed, TrialSpec
from search.running.trial_at_work import TrialAtWork, check_there, rewind
from tests.search.any_config import CONFIG
from trainer.checkpoint import checkpoint_path, checkpoints
from trainer.errors import TrainerError


@pytest.mark.parametrize(
    ("step", "processed", "saved", "measured", "kept"),
    [
        (2, 0, [2, 4, 6], [2, 4, 6], [2, 4, 6]),
        (2, 0, [2, 4, 6], [2, 4], [2, 4, 6]),  # the last one is measured now
        (2, 0, [2, 4, 6], [2], [2, 4]),  # 4 is measured anew, and 6 after it
        (2, 0, [2, 4, 6], [], [2]),
        (2, 0, [2, 4, 6], [2, 6], [2, 4]),
        (2, 4, [4, 6, 8], [], [4, 6]),  # what was decided on counts as measured
        (2, 4, [2, 4, 6, 8], [6], [2, 4, 6, 8]),
        (2, 2, [2, 4, 6], [], [2, 4]),
        (1, 0, [1, 2, 3], [1], [1, 2]),
        (3, 0, [3, 6, 7], [3], [3, 6]),  # the horizon comes between
        (2, 5, [4, 6, 8], [], [4, 6]),
    ],
)
def test_checkpoints_behind_one_that_was_not_measured_are_dropped(
    tmp_path: Path, step: int, processed: int, saved: list[int], measured: list[int], kept: list[int]
) -> None:
    for epoch in saved:
        checkpoint_path(tmp_path / "checkpoints", epoch).mkdir(parents=True)
    for epoch in measured:
        file = Checkpointed.file(tmp_path, epoch)
        file.parent.mkdir(exist_ok=True)
        file.touch()
    config = CONFIG.model_copy(update={"save_every_n_epochs": step, "epochs": 9})
    rewind(TrialSpec(0, tmp_path, config, processed))
    assert [int(path.name) for path in checkpoints(tmp_path / "checkpoints")] == kept


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    check_there(tmp_path)
    with pytest.raises(TrainerError, match=r"trials is gone"):
        check_there(tmp_path / "trials")
    (tmp_path / "file").touch()
    with pytest.raises(TrainerError, match="file is gone"):
        check_there(tmp_path / "file")


def test_it_begins_where_it_was_decided_and_leaves_the_packs_that_it_still_is_in(tmp_path: Path) -> None:
    trial = TrialAtWork(TrialSpec(3, tmp_path, CONFIG, 4))
    assert (trial.number, trial.told, trial.decided, trial.seats, trial.apart) == (3, 4, 4, [], False)
    assert (trial.looked, trial.trained) == (-1, 0.0)

    def pack(*runs: str) -> SimpleNamespace:
        found = SimpleNamespace(runs=list(runs))
        found.leave = found.runs.remove
        return found

    own, twins = pack("one", "other"), pack("another")
    trial.seats = [(own, "one"), (twins, "twin")]
    assert (trial.run, trial.twin) == ("one", "twin")
    trial.leave()
    assert (own.runs, twins.runs, trial.seats) == (["other"], ["another"], [])
    trial.seats = [(own, "other")]
    assert trial.twin is None

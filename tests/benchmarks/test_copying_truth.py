"""True copying of planted runs, and the kept readings."""

import numpy as np
import pytest

from benchmarks.copying import of_checkpoints
from benchmarks.copying_truth import CHANCE, CopyingRun, copying_runs, true_copying

EPOCHS = np.array([0, 2, 4, 8, 16, 32])
PHOTO = np.arange(16)


def copied(shares: tuple[float, ...]) -> np.ndarray:
    """The first images are copies, more of them at every later checkpoint."""
    return np.stack([np.arange(16) < round(16 * share) for share in shares])


def test_a_run_copies_from_where_a_third_of_its_images_do_beyond_the_bases_luck():
    truth = true_copying(EPOCHS, copied((0, 0, 0, 0, 0.75, 1)), PHOTO)
    assert truth.kind == "copies"
    assert 8 < 2**truth.log_epoch < 16
    assert truth.low <= truth.log_epoch <= truth.high
    assert truth.shares[0] == pytest.approx(CHANCE)
    lucky = true_copying(EPOCHS, copied((0.5, 0.5, 0.5, 0.5, 0.5, 0.5)), PHOTO)
    assert lucky.kind == "never"


def test_some_copies_leave_it_undecided():
    assert true_copying(EPOCHS, copied((0, 0, 0, 0.2, 0.25, 0.3)), PHOTO).kind == "undecided"


def test_what_is_seen_is_counted_against_what_is_true():
    shares = (0.0, 0.0, 0.0, 0.5, 0.8, 0.9)
    gained = np.outer(shares, np.ones(6))

    def run(name: str, of_trained: np.ndarray, true: np.ndarray) -> CopyingRun:
        return CopyingRun("chair-16-0", name, EPOCHS, true, PHOTO, of_trained, np.zeros((6, 4)), np.ones(6), EPOCHS[:3])

    row = of_checkpoints([run("a", gained, copied(shares)), run("b", 0 * gained, copied((0.0,) * 6))], 6, 4)
    assert (row["copying"], row["copying, seen"]) == (3, 1.0)
    assert (row["not"], row["not, seen"]) == (7, 0.0)
    assert (row["copies, seen"], row["never, seen"]) == (1.0, 0.0)


def test_the_kept_readings_are_of_the_drawn_packs():
    runs = list(copying_runs())
    assert (len(runs), len({run.pack for run in runs}), sum(run.chooses for run in runs)) == (92, 14, 32)
    assert all(run.own_photo.shape == (len(run.epochs), 6) for run in runs)

"""Whether training photos come back in drawings: seen, later, unseen or not measured, and told in one sentence."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.loss_tables.table_onset import as_record
from metrics.onset.copied import copying_at, copying_curve
from metrics.onset.onset import find_onset
from metrics.onset.plot_behaviour import plot_behaviour
from metrics.onset.sentences import copying_sentence
from metrics.onset.turns import Copying
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

EPOCHS = (0, 2, 4, 8, 16, 32)
NEVER = (0.0,) * 6
RISES = (0.0, 0.0, 0.05, 0.2, 0.35, 0.4)


LEARNED = (0.0, 0.1, 0.3, 0.4, 0.4, 0.4)


def run(copied, *, captions=(6, 4), spread=0.05, seed=0, items=True) -> Trajectory:
    """Captions of both kinds gain what is learned of them; those of trained photos what is copied, too."""
    generator = np.random.default_rng(seed)
    own = [generator.normal(0, spread, count) for count in captions]
    readings = []
    for row, epoch in enumerate(EPOCHS):
        each = [
            LEARNED[row] + gained + min(row, 1) * part for gained, part in zip((copied[row], 0.0), own, strict=True)
        ]
        value = float(each[0].mean() - each[1].mean())
        kept = dict(zip(("own_photo", "own_photo_held_out"), each, strict=True)) if items else {}
        readings.append(Readings(epoch, float(epoch), {"own_photo": Reading(value, value - 0.05, value + 0.05)}, kept))
    return Trajectory(tuple(readings))


def test_what_only_trained_captions_gain_is_seen_where_it_is_there():
    found = copying_at(run(RISES), 32)
    assert (found.status, found.epoch) == ("seen", 32)
    assert found.low < 0.4 < found.high + 0.1
    assert copying_at(run(RISES), 2).status == "later"
    assert copying_at(run(RISES), 2).epoch == 32


def test_what_both_kinds_gain_is_learning():
    assert [copying_at(run(NEVER, seed=seed), 32).status for seed in range(12)].count("unseen") >= 11


def test_a_lora_that_breaks_copies_no_more():
    breaks = (0.0, 0.3, 0.4, 0.3, -0.3, -0.4)
    assert copying_at(run(breaks), 8).status == "seen"
    assert copying_at(run(breaks), 32).status == "unseen"


def test_captions_that_disagree_widely_show_nothing():
    assert copying_at(run(tuple(level / 3 for level in RISES), spread=0.5, seed=1), 32).status != "seen"


def test_a_table_without_items_believes_its_intervals():
    assert copying_at(run(RISES, items=False), 32).status == "seen"
    assert copying_at(run(NEVER, items=False), 32).status == "unseen"


def test_without_the_reading_nothing_is_known():
    bare = Trajectory(tuple(replace(each, channels={}, items={}) for each in run(RISES).readings))
    assert copying_at(bare, 32) == Copying("unmeasured")
    assert copying_at(Trajectory(run(RISES).readings[:2]), 2) == Copying("unmeasured")


def with_loss(trajectory: Trajectory) -> Trajectory:
    """A loss that falls and rises again beside it."""
    losses = (0.0, -0.3, -0.4, -0.35, -0.2, 0.1)
    return Trajectory(
        tuple(
            replace(
                each,
                channels={**each.channels, "heldout_loss": Reading(loss, loss, loss)},
                items={**each.items, "heldout_loss": np.full(6, loss)},
            )
            for each, loss in zip(trajectory.readings, losses, strict=True)
        )
    )


def test_it_moves_neither_onset_nor_epoch_and_is_told(tmp_path):
    copies, bare = with_loss(run(RISES)), with_loss(run(RISES))
    bare = Trajectory(tuple(replace(r, channels={"heldout_loss": r.channels["heldout_loss"]}) for r in bare.readings))
    onset, without = find_onset(copies), find_onset(bare)
    assert replace(onset, copying=without.copying, sentence="") == replace(without, sentence="")
    assert onset.copying.status in ("seen", "later")
    assert copying_sentence(onset.copying) in onset.sentence
    assert "come back" not in without.sentence
    assert as_record(copies, onset)["copying"]["nearer"] == onset.copying.nearer
    drawn = plot_behaviour(tmp_path / "behaviour.svg", copies, onset)
    assert "own photos" in drawn.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Copying("seen", 32, 0.27, 0.11, 0.44), "drawings at epoch 32: images of their captions come 24 % nearer"),
        (Copying("later", 40, 0.27, 0.11, 0.44), "later, at epoch 40"),
        (Copying("unseen", 32, 0.02, -0.1, 0.1), "No sign"),
    ],
)
def test_each_observation_has_a_sentence(seen, told):
    assert told in copying_sentence(seen)
    assert copying_sentence(Copying("unmeasured")) == ""
    assert "10–36 %" in copying_sentence(Copying("seen", 32, 0.27, 0.11, 0.44))


@pytest.mark.parametrize("count", [2, 3])
def test_three_checkpoints_are_enough(count):
    whole = run(RISES)
    part = Trajectory(whole.readings[-count:])
    assert (copying_at(part, 32).status == "unmeasured") is (count == 2)


def test_without_single_captions_the_readings_intervals_are_believed():
    """Half-widths of 0.0823 are standard deviations of 0.05: all checkpoints move together."""
    readings = [
        Readings(epoch, float(epoch), {"own_photo": Reading(level, level - 0.08225, level + 0.08225)})
        for epoch, level in zip(EPOCHS, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), strict=True)
    ]
    curve = copying_curve(Trajectory(tuple(readings)))
    assert curve is not None
    assert curve.nearer[0] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    moved = curve.nearer[1:] - curve.nearer[0]
    assert np.ptp(moved, axis=1).max() < 1e-9
    assert moved[:, 0].std() == pytest.approx(0.05, rel=0.2)
    assert abs(moved.mean()) < 0.02

"""Which checkpoint ships: the safe one, the most alike, or one between."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from metrics.onset.curves import Kind, OnsetCurves
from metrics.onset.onset import find_onset
from metrics.onset.replicates import Curves
from metrics.onset.sentences import choice_sentences
from metrics.onset.shipping import (
    PAST_ONSET,
    _alike,
    _between,
    _gained,
    _knows_more_than_the_base,
    _last_as_good,
    _made_up,
    _past,
    _safe,
    _smoothed,
    _spikes,
)
from metrics.onset.turns import Choice, Onset, Turn
from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

EPOCHS = np.arange(0, 82, 2)


def made(
    context_rises: float,
    memory_rises: float,
    *,
    held_out: bool = True,
    gain: float = 12.0,
    contexts: str = "context_loss",
) -> Trajectory:
    """Photos in held-out contexts and held-out photos, whose losses fall and then rise from an epoch of each on.
    `gain`: epochs in which held-out photos make half of their dip. contexts: what the loss in new contexts is of."""
    generator = np.random.default_rng(3)

    def each(half: float, rises: float) -> np.ndarray:
        course = -0.4 * EPOCHS / (half + EPOCHS) + 0.02 * np.maximum(EPOCHS - rises, 0)
        photos = course[:, None] * np.exp(0.15 * generator.normal(size=6))
        return photos + 0.002 * generator.normal(size=photos.shape) * (EPOCHS > 0)[:, None]

    channels = {contexts: each(3.0, context_rises)}
    if held_out:
        channels["heldout_loss"] = each(gain, memory_rises)
    readings = []
    for row, epoch in enumerate(EPOCHS.tolist()):
        items = {name: values[row] for name, values in channels.items()}
        means = {name: Reading(*np.repeat(values.mean(), 3).tolist()) for name, values in items.items()}
        readings.append(Readings(epoch, float(epoch), means, items))
    return Trajectory(tuple(readings))


@cache
def shipped(ship: str, context: float = 20, memory: float = 50, **settings) -> Onset:
    return find_onset(made(context, memory, **settings), ship=ship)


def test_safe_lies_before_the_onset_in_new_contexts_and_alike_just_before_memory() -> None:
    onset = shipped("safe")
    assert onset.context.epoch < onset.memory.epoch
    assert onset.best == onset.safe.epoch < onset.context.epoch
    assert onset.alike.epoch == max(epoch for epoch in EPOCHS if epoch < onset.memory.epoch)
    assert shipped("likeness").best == onset.alike.epoch


def test_balanced_gives_up_little_safety_for_likeness_that_is_still_to_be_had() -> None:
    onset = shipped("balanced")
    assert onset.ship == "balanced"
    assert onset.safe.epoch < onset.best <= PAST_ONSET * onset.context.epoch
    assert onset.best < onset.alike.epoch
    soon = shipped("balanced", gain=0.5)  # nearly all is gained before the safe epoch
    assert soon.best == soon.safe.epoch


@pytest.mark.parametrize("ship", ["safe", "balanced", "likeness"])
def test_whatever_ships_the_others_are_told(ship: str) -> None:
    onset = shipped(ship)
    assert (onset.safe, onset.alike) == (shipped("safe").safe, shipped("safe").alike)
    assert onset.best in (onset.safe.epoch, onset.alike.epoch) or ship == "balanced"
    said = " ".join(choice_sentences(onset, EPOCHS[-1]))
    assert f"Safe: epoch {onset.safe.epoch}" in said
    assert f"Most alike: epoch {onset.alike.epoch}" in said
    assert said in onset.sentence


@pytest.mark.parametrize("ship", ["safe", "balanced", "likeness"])
def test_without_held_out_photos_the_safe_one_ships(ship: str) -> None:
    onset = shipped(ship, held_out=False)
    assert onset.alike is None
    assert (onset.best, onset.ship) == (onset.safe.epoch, "safe")
    assert "Most alike" not in onset.sentence


def test_where_moved_subjects_alone_are_measured_a_little_past_their_onset_ships() -> None:
    onset = shipped("balanced", held_out=False, contexts="shifted_loss")
    assert (onset.ship, onset.alike) == ("balanced", None)
    assert onset.safe.epoch < onset.context.epoch < onset.best
    assert onset.best == max(epoch for epoch in EPOCHS if epoch <= PAST_ONSET * onset.context.epoch)
    assert shipped("safe", held_out=False, contexts="shifted_loss").best == onset.safe.epoch
    never = shipped("balanced", context=500, held_out=False, contexts="shifted_loss")
    assert (never.context.epoch, never.best) == (None, never.safe.epoch)


def test_intervals_hold_their_epochs_and_are_open_where_memory_is_not_reached() -> None:
    onset = shipped("safe")
    assert onset.safe.low <= onset.safe.epoch <= onset.safe.high
    assert onset.alike.low <= onset.alike.epoch <= onset.alike.high
    never = shipped("likeness", memory=500)
    assert never.memory.status == "beyond"
    assert (never.best, never.alike.high) == (EPOCHS[-1], None)
    assert f"Most alike: epoch {EPOCHS[-1]}, the last checkpoint. The photos are not memorised" in never.sentence
    assert "It is the last checkpoint before the photos are memorised" in onset.sentence


def test_what_knows_the_subject_less_well_than_the_base_is_not_most_alike() -> None:
    """Held-out photos scatter too much to place a memory onset, and end far above the base."""
    generator = np.random.default_rng(0)
    heldout, contexts = [0, -0.02, -0.15, 0.05, -0.13, 0.18, 0.45], [0, -0.2, -0.25, -0.24, -0.2, -0.1, 0.1]
    readings = []
    for row, (photo, context) in enumerate(zip(heldout, contexts, strict=True)):
        photos, others = (spread * (row > 0) * generator.normal(size=6) for spread in (0.5, 0.02))
        items = {"heldout_loss": photo + photos - photos.mean(), "context_loss": context + others}
        means = {name: Reading(*np.repeat(values.mean(), 3).tolist()) for name, values in items.items()}
        readings.append(Readings(3 * row, 3.0 * row, means, items))
    onset = find_onset(Trajectory(tuple(readings)), ship="likeness")
    assert (onset.memory.status, onset.memory.epoch) == ("beyond", None)
    assert onset.safe.epoch < onset.alike.epoch == onset.alike.high == onset.best < 15
    assert f"Most alike: epoch {onset.best}. Later ones know photos of the subject less well" in onset.sentence


def test_of_checkpoints_without_held_out_losses_nothing_is_said() -> None:
    whole = made(20, 500).readings
    unread = [replace(r, channels={"context_loss": r.channels["context_loss"]}, items={}) for r in whole[-2:]]
    onset = find_onset(Trajectory((*whole[:-2], *unread)), ship="likeness")
    assert onset.memory.status == "beyond"
    assert (onset.best, onset.alike.high) == (EPOCHS[-3], None)
    told = (
        f"Most alike: epoch {EPOCHS[-3]}, the last checkpoint with a loss on held-out photos. The photos are not memor"
    )
    assert told in onset.sentence
    assert "Later ones" not in onset.sentence


def test_an_open_interval_is_no_run_without_memory() -> None:
    found = shipped("safe")
    still_open = replace(found, alike=Choice(found.alike.epoch, found.alike.epoch, None))
    assert "It is the last checkpoint before the photos are memorised" in " ".join(
        choice_sentences(still_open, EPOCHS[-1])
    )


def test_what_memorises_before_it_forgets_contexts_ships_before_that() -> None:
    onset = shipped("likeness", context=60, memory=24)
    assert onset.best == onset.alike.epoch < onset.memory.epoch
    assert onset.safe.epoch <= onset.alike.epoch


def test_nothing_to_choose_from_a_run_that_learned_nothing() -> None:
    still = made(500, 500)
    flat = Trajectory(
        tuple(Readings(r.epoch, r.effort, {n: Reading(0.0, 0.0, 0.0) for n in r.channels}, {}) for r in still.readings)
    )
    onset = find_onset(flat, ship="likeness")
    assert (onset.status, onset.safe, onset.alike) == ("never_learned", None, None)


SIX = np.array([0, 2, 4, 8, 16, 32])


def read(mean: Any, *, spikes: Any = None, replicates: Any = None, channels: tuple[str, ...] = ("a",)) -> OnsetCurves:
    mean = np.asarray(mean, float)
    rows = mean[None] if replicates is None else np.asarray(replicates, float)
    off = np.zeros(len(mean)) if spikes is None else np.asarray(spikes, float)
    curves = Curves(np.arange(len(mean)), SIX[: len(mean)], mean, rows, 0.0, off)
    return OnsetCurves(channels, curves, curves, 0.5)


@pytest.mark.parametrize(("onset", "epoch"), [(None, 0), (1.0, 0), (1.5, 2), (5.7, 4), (5.72, 8), (99.0, 32)])
def test_no_further_than_1_4_times_the_onset(onset: float | None, epoch: int) -> None:
    assert _past(SIX, onset) == epoch


@pytest.mark.parametrize(
    ("channels", "alone"),
    [(("shifted_loss",), True), (("shifted_loss", "fidelity"), True), (("shifted_loss", "heldout_loss"), False),
     (("fidelity",), False), (("context_loss",), False)],
)  # fmt: skip
def test_moved_subjects_alone_are_told(channels: tuple[str, ...], alone: bool) -> None:
    assert _made_up({"context": read([0, 0], channels=channels)}) is alone
    assert _made_up({"memory": read([0, 0], channels=channels)}) is False


@pytest.mark.parametrize(("equal", "row"), [(0.0, 1), (0.05, 2), (0.2, 3)])
def test_of_those_as_good_the_last_is_taken(equal: float, row: int) -> None:
    quality = np.array([[9, 1.0, 0.96, 0.81, 0.1], [9, -1.0, -1.01, -2, -3]])  # a share of what lies below 0 is none
    allowed = np.array([False, True, True, True, False])
    found = _last_as_good(quality, allowed, equal)
    assert found.tolist() == [row, 1]


@pytest.mark.parametrize(
    ("mean", "spikes", "onset", "epoch"),
    [
        ([0, -0.8, -0.95, -1.0, 0.5], None, None, 4),
        ([0, -0.89, -0.89, -1.0, 0.5], None, None, 8),
        ([0, -0.8, -0.95, -1.0, 0.5], [0, 0, 0.1, 0, 0], None, 8),  # it was laid there between its neighbours
        ([0, -0.8, -0.95, -1.0, 0.5], [0, 0, -0.1, 0, 0], None, 4),
        ([0.5, -0.3, -0.45, -0.5, 0.5], None, None, 4),
        ([0, -0.1, -0.2, -1.0, 0.5], None, 3.0, 4),
        ([0, -0.1, -0.2, -1.0, 0.5], None, 20.0, 8),
        ([0, -0.1, -0.2, -1.0, 0.5], None, 1.0, 0),
    ],
)
def test_nine_tenths_of_what_held_out_photos_gain(
    mean: list[float], spikes: list[float] | None, onset: float | None, epoch: int
) -> None:
    assert _gained(read(mean, spikes=spikes), SIX[:5], onset) == epoch


@pytest.mark.parametrize(("mean", "epoch"), [([0, -1, 0.1, -1, 1], 8), ([0, 1, 1, 1, 1], 0), ([1, 2, 0.5, 1, 1], 4)])
def test_the_last_that_knows_more_than_the_base(mean: list[float], epoch: int) -> None:
    assert _knows_more_than_the_base(read(mean)) == epoch


KNOWS = read([0, -1, -1, 0.1, 0.2])  # up to epoch 4


@pytest.mark.parametrize(
    ("memory", "losses", "safe", "alike"),
    [
        (Turn("unmeasured"), KNOWS, 2, None),
        (Turn("found", 10.0, 5.0, 20.0), KNOWS, 2, Choice(8, 4, 16)),
        (Turn("found", 10.0, 5.0, None), KNOWS, 2, Choice(8, 4, None)),
        (Turn("found", 10.0, 5.0, 20.0), KNOWS, 16, Choice(16, 16, 16)),  # never before the safe one
        (Turn("at_start", 2.0, 0.0, 4.0), KNOWS, 2, Choice(2, 2, 2)),
        (Turn("beyond"), KNOWS, 2, Choice(4, 4, 4)),
        (Turn("beyond"), read([0, -1, -1, -1, -1, -1]), 2, Choice(32, 32, None)),
        (Turn("beyond"), read([0, 1, 1, 1, 1]), 2, Choice(2, 2, 2)),
        (Turn("beyond"), None, 2, Choice(32, 32, None)),
    ],
)
def test_the_most_alike_lies_before_photos_are_memorised(
    memory: Turn, losses: OnsetCurves | None, safe: int, alike: Choice | None
) -> None:
    assert _alike(SIX, memory, losses, safe) == alike


def test_only_what_lies_above_its_neighbours_is_a_spike_against_a_checkpoint() -> None:
    curves = read([0, 1, 2], spikes=[0, 0.3, -0.2]).curves._replace(rows=np.array([0, 2, 4]))
    whole = Trajectory(tuple(Readings(int(epoch), 0.0, {}) for epoch in SIX))
    assert _spikes(whole, OnsetCurves(("a",), curves, curves, 0.5)).tolist() == [0, 0, 0.3, 0, 0, 0]


def test_of_many_checkpoints_quality_is_a_mean_of_three_and_what_is_not_known_is_never_best() -> None:
    values = np.array([0.0, 3, np.nan, 9, *range(10, 19)])
    found = _smoothed(values, np.arange(13))
    assert found.tolist() == pytest.approx([1.5, 1.5, -np.inf, 9.5, (9 + 10 + 11) / 3, *range(11, 18), 17.5])
    few = _smoothed(values[:12], np.arange(12))
    assert few.tolist() == [0, 3, -np.inf, *values[3:12].tolist()]
    assert _smoothed(np.full(13, np.nan), np.arange(13)).tolist() == [0] * 13
    assert _smoothed(np.stack([values, values]), np.arange(13)).tolist() == [found.tolist()] * 2


@pytest.mark.parametrize(
    ("learned", "context", "by_loss", "epoch", "why"),
    [
        (4, Turn("found", 20.0, 7.0, 40.0), True, 16, ""),  # 0.96 of the best, at 8
        (4, Turn("found", 20.0, 9.0, 40.0), False, 8, ""),  # images: the best, before it may begin
        (4, Turn("found", 20.0, 7.0, 40.0), False, 4, ""),
        (4, Turn("beyond"), True, 16, ""),
        (16, Turn("found", 9.0, 7.0, 40.0), True, 8, "the last checkpoint before the onset"),
        (16, Turn("at_start", 2.0, 0.0, 4.0), True, 16, "the first checkpoint that shows the subject"),
        (None, Turn("beyond"), True, 8, "no checkpoint is better than the base"),
        (None, Turn("beyond"), False, 8, "nothing was learned"),
    ],
)
def test_the_safe_one_is_learned_good_and_before_the_onset(
    learned: int | None, context: Turn, by_loss: bool, epoch: int, why: str
) -> None:
    onset = Onset("found", context, Turn("unmeasured"), learned, best=0)
    found = _safe(SIX, np.array([5, 0.2, 0.5, 1.0, 0.96, 0.3]), onset, by_loss=by_loss)
    assert found[0] == epoch
    assert why in found[1]
    assert bool(found[1]) is bool(why)


def test_the_safe_one_lies_where_the_same_rule_puts_it_in_nine_of_ten_replicates() -> None:
    onset = Onset("found", Turn("found", 20.0, 7.0, 40.0), Turn("unmeasured"), learned=2, best=0)
    best = np.repeat([2, 4, 8, 16], [4, 36, 56, 4])  # of a hundred
    replicates = np.where(best[:, None] == SIX, -1.0, 0.0)
    losses: dict[Kind, OnsetCurves] = {"context": read([0, 0, -0.5, -1, 0, 0], replicates=replicates)}
    whole = Trajectory(tuple(Readings(int(epoch), 0.0, {}) for epoch in SIX))
    assert _between(whole, onset, losses, 8) == (4, 8)
    assert _between(whole, onset, losses, 16) == (4, 16)
    assert _between(whole, onset, losses, 2) == (2, 8)
    assert _between(whole, onset, {}, 8) == (8, 8)
    assert _between(whole, replace(onset, learned=16, context=Turn("found", 9.0)), losses, 8) == (8, 8)

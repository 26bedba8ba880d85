"""Which checkpoint ships: the safe one, the most alike, or one between."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from metrics.onset.onset import find_onset
from metrics.onset.sentences import choice_sentences
from metrics.onset.shipping import PAST_ONSET
from metrics.onset.turns import Choice, Onset
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

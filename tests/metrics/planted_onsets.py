"""Trajectories whose onsets are known because they were planted: the exam every detector sits.

Every photo has its own curves (how deep they dip, when and how fast they rise). The loss in new contexts is planted
as the weighted sum of the held-out loss (what has been learned of the subject) and the moved-subject loss (what has
been forgotten of contexts). The truth is the mean over a thousand photos; a trajectory shows a handful of them held out
and twenty moved, with the jitter that checkpoints have.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from metrics.trajectory.readings import Reading, Readings
from metrics.trajectory.trajectory import Trajectory

TOLERANCE, SHARE = 0.002, 0.15
MOVED = 20  # photos whose subjects are moved
CONTEXT = {"shifted_loss": 1.0, "heldout_loss": 0.4}  # what a new context costs here


@dataclass(frozen=True)
class World:
    """How large things are. Shares of the dip, except `dip` itself (ln units)."""

    dip: tuple[float, float]
    jitter: tuple[float, float]  # of a checkpoint, shared by all images, as a share of the dip
    own_jitter: tuple[float, float]  # of one image at one checkpoint, likewise
    spread: float  # log standard deviation of dips and rises between images
    num_images: tuple[int, int]


# Public fine-tuning logs: dips of 0.3-1.9 %, jitter 0.04-0.2 %.
PHOTOS = World(dip=(0.006, 0.019), jitter=(0.03, 0.12), own_jitter=(0.05, 0.2), spread=0.4, num_images=(4, 8))
# The demo world: dips of tens of per cent, four to eight held-out images that disagree.
DEMO = World(dip=(0.15, 0.6), jitter=(0.01, 0.04), own_jitter=(0.02, 0.08), spread=0.4, num_images=(4, 8))


@dataclass(frozen=True)
class Planted:
    trajectory: Trajectory
    memory: float  # true onset epoch, inf when beyond the horizon
    context: float
    kind: str


def true_onset(epochs: np.ndarray, curve: np.ndarray) -> float:
    """Where a smooth curve has risen by max(0.2 %, 15 % of its depth) above its minimum; inf when it never does."""
    bottom = int(curve.argmin())
    level = curve[bottom] + max(TOLERANCE, SHARE * (curve[0] - curve[bottom]))
    over = np.nonzero(curve[bottom:] > level)[0]
    return float(epochs[bottom + over[0]]) if over.size else float("inf")


def _population(epochs, generator, count, *, dip, rise, speed, rise_at, power, spread, relapse=None):
    """[T, count] curves: learning with a long tail, then a rise; `relapse` (epoch) turns the rise down again."""
    dips = dip * np.exp(spread * generator.normal(size=count) - spread**2 / 2)
    speeds = speed * np.exp(0.3 * generator.normal(size=count))
    rises = rise * np.exp(spread * generator.normal(size=count) - spread**2 / 2)
    ratio = epochs[:, None] / speeds
    curve = -dips * ratio / (1 + ratio)
    if np.isfinite(rise_at):
        climb = 0.3 * (epochs / rise_at) ** power
        if relapse is not None:
            late = np.maximum(0, epochs - relapse) / relapse
            climb = climb * np.exp(-3 * late) - 0.6 * (1 - np.exp(-3 * late))
        curve = curve + rises * climb[:, None]
    return curve


@cache  # the same trajectory for all who ask; nobody changes it
def plant(kind: str, seed: int, world: World = DEMO, *, checkpoints: int = 40, horizon: int = 120) -> Planted:
    """One trajectory of a kind.

    Kinds: `valley` (both onsets inside), `late` (memory inside, shortly before the end), `falling` (none),
    `plateau` (falls, then flat for ever), `unlearned` (nothing happens), `rising` (worse from the first checkpoint),
    `relapse` (double descent: up, then further down than before).
    """
    generator = np.random.default_rng([seed, 17])
    epochs = np.unique(np.round(np.linspace(0, horizon, checkpoints + 1)).astype(int))
    fine = np.concatenate([[0], np.geomspace(1, horizon, 300)])
    number = int(generator.integers(world.num_images[0], world.num_images[1] + 1))
    dip = np.exp(generator.uniform(*np.log(world.dip)))
    jitter = dip * np.exp(generator.uniform(*np.log(world.jitter)))
    own = dip * np.exp(generator.uniform(*np.log(world.own_jitter)))
    speed = horizon * np.exp(generator.uniform(np.log(0.02), np.log(0.08)))
    power = generator.uniform(0.8, 2.0)
    rise_context = horizon * np.exp(generator.uniform(np.log(0.2), np.log(0.9)))
    rise_memory = rise_context * np.exp(generator.uniform(np.log(1.2), np.log(3.0)))
    relapse = None
    if kind == "late":
        rise_context, rise_memory, power = horizon * 0.9, horizon * 1.5, 2.0
    elif kind in ("falling", "plateau", "unlearned"):
        rise_context = rise_memory = np.inf
        speed = {"falling": horizon * 0.7, "plateau": speed, "unlearned": np.inf}[kind]
    elif kind == "rising":
        speed, rise_context, rise_memory, power = np.inf, horizon * 0.2, horizon * 0.2, 1.0
    elif kind == "relapse":
        relapse = horizon * 0.35
        rise_context = rise_memory = horizon * 0.3
        power = 1.5
    noise = generator.normal(size=len(epochs)) * jitter
    shape = {"speed": speed, "power": power, "spread": world.spread, "relapse": relapse}
    held = shape | {"dip": dip, "rise": dip, "rise_at": rise_memory}
    moved = shape | {"dip": 0.2 * dip, "rise": dip, "rise_at": rise_context}
    same_photos = int(generator.integers(1 << 30))

    def population(epochs: np.ndarray, count: int, count_moved: int) -> dict[str, np.ndarray]:
        photos = [np.random.default_rng([same_photos, count]) for _ in range(2)]
        return {
            "heldout_loss": _population(epochs, photos[0], count, **held),
            "shifted_loss": _population(epochs, photos[1], count_moved, **moved),
        }

    everyone = {name: curves.mean(axis=1) for name, curves in population(fine, 1000, 1000).items()}
    context = sum(weight * everyone[name] for name, weight in CONTEXT.items())
    truth = {"memory": true_onset(fine, everyone["heldout_loss"]), "context": true_onset(fine, context)}
    channels = population(epochs, number, MOVED)
    for name in channels:
        channels[name] = channels[name] + noise[:, None] + own * generator.normal(size=channels[name].shape)
        channels[name][0] = 0.0
    learned = 0.0 if np.isinf(speed) else dip
    fidelity = learned / dip * (epochs / (0.5 * min(speed, 1e9) + epochs)) if learned else np.zeros(len(epochs))
    prompts = 24
    fidelity = fidelity[:, None] + 0.25 * generator.normal(size=prompts) * (epochs[:, None] > 0)
    fidelity = fidelity + 0.1 * generator.normal(size=fidelity.shape) * (epochs[:, None] > 0)
    fidelity[:, :] -= fidelity[1:].mean(axis=0) - fidelity[1:].mean() if not learned else 0.0
    readings = []
    for row, epoch in enumerate(epochs):
        items = {name: cube[row] for name, cube in channels.items()} | {"fidelity": fidelity[row]}
        read = {name: _reading(values) for name, values in items.items()}
        readings.append(Readings(int(epoch), float(epoch), read, items))
    return Planted(Trajectory(tuple(readings)), truth["memory"], truth["context"], kind)


def _reading(values: np.ndarray) -> Reading:
    middle, half = float(values.mean()), float(1.645 * values.std(ddof=1) / np.sqrt(values.size))
    return Reading(middle, middle - half, middle + half)


def with_contexts(trajectory: Trajectory, *, moved: bool = True, later: float = 1.0) -> Trajectory:
    """The same run with three photos in contexts of their own, whose curves are the sums of a held-out photo's and of
    moved subjects', `later` times later."""
    photos = trajectory.items("heldout_loss")[:, :3] + trajectory.items("shifted_loss").mean(axis=1)[:, None]
    epochs = trajectory.epochs.astype(float)
    readings = []
    for row, reading in enumerate(trajectory.readings):
        own = np.array([np.interp(epochs[row] / later, epochs, curve) for curve in photos.T])
        items = reading.items | {"context_loss": own}
        channels = reading.channels | {"context_loss": Reading(own.mean(), own.min(), own.max())}
        if not moved:
            channels.pop("shifted_loss")
        readings.append(replace(reading, items=items, channels=channels))
    return Trajectory(tuple(readings))

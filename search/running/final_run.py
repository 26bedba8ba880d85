"""The final run's twin, and the average of its best checkpoints, as the worker makes them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from metrics.onset.onset import find_onset
from metrics.onset.turns import Onset, Ship
from metrics.trajectory.trajectory import Trajectory
from search.probe.probe import Probe, write_probe_samples
from search.record.events import Checkpointed, TrialSpec, load_readings
from search.record.final_run import AVERAGE, TWIN, Average
from search.verdict.disk_cleanup import delete
from search.verdict.plateau import jitter, plateau
from trainer.checkpoint import LORA_FILE, checkpoint_path, checkpoints, state_damage
from trainer.delivery.averaging import averaged
from trainer.lora.kohya_file import load_lora, read_metadata, save_lora

_LEAST, _FEW = 2, 3


def align(trial: Path) -> None:
    """Take final run and twin back to the newest epoch from which both can go on: a kill may fall between their
    checkpoints."""
    places = (trial, trial / TWIN)
    whole = [{int(p.name) for p in checkpoints(at / "checkpoints") if state_damage(p) is None} for at in places]
    common = max(whole[0] & whole[1], default=0)
    for place in places:
        for path in checkpoints(place / "checkpoints"):
            if int(path.name) > common:
                delete(path)


def make_average(
    spec: TrialSpec, probe: Probe, ship: Ship, *, keep_samples: bool, say: Callable[[str], None] = lambda what: None
) -> None:
    """Average the checkpoints around the best one, and judge the average as they were: by its images, and by the losses
    of its twin's average. Makes nothing where there are not two of them, or what is there already is whole."""
    if Average.load(spec.folder) is not None:
        return
    trajectory = _trajectory(spec)
    onset, noise = find_onset(trajectory, ship=ship), jitter([trajectory])
    around = plateau(trajectory, onset.best, noise)
    if around is None or onset.best is None or onset.status == "never_learned":
        return
    epochs = _to_average([int(epoch) for epoch in trajectory.epochs if epoch > 0], around, onset)
    if len(epochs) < _LEAST or spec.config.dora:
        return
    say("averaging checkpoints")
    family = probe.base.family.name
    files = [
        [checkpoint_path(at / "checkpoints", e) / LORA_FILE for e in epochs] for at in (spec.folder, spec.folder / TWIN)
    ]
    (lora, lost), (twin, _) = (averaged([load_lora(path, family=family) for path in paths]) for paths in files)
    readings, images, _ = probe.read(lora, epoch=onset.best, effort=0.0, twin=twin, say=say)
    best = next(r.score for r in trajectory.readings if r.epoch == onset.best)
    found = Average(tuple(epochs), readings.score, best, noise, lost)
    metadata = read_metadata(checkpoint_path(spec.folder / "checkpoints", onset.best) / LORA_FILE)
    (spec.folder / AVERAGE).mkdir(exist_ok=True)
    save_lora(Average.lora(spec.folder), lora, metadata)
    if keep_samples:
        write_probe_samples(Average.samples(spec.folder), probe, images)
    if np.isfinite(readings.score):
        found.save(spec.folder)


def _to_average(epochs: Sequence[int], around: tuple[int, int], onset: Onset) -> list[int]:
    """The checkpoints that score as well as the best, with those next to them where they are few; none before the
    subject is learned, none behind an onset but the best itself."""
    places = [place for place, epoch in enumerate(epochs) if around[0] <= epoch <= around[1]]
    if len(places) < _FEW:
        places = list(range(max(0, places[0] - 1), min(len(epochs), places[-1] + 2)))
    assert onset.best is not None
    turns = [turn.epoch for turn in (onset.context, onset.memory) if turn.epoch is not None]
    last = max(onset.best, min(turns, default=epochs[-1]))
    return [epochs[place] for place in places if (onset.learned or 0) <= epochs[place] <= last]


def _trajectory(spec: TrialSpec) -> Trajectory:
    base, _ = load_readings(Checkpointed.file(spec.folder, 0))
    epochs = [epoch for epoch in Checkpointed.epochs(spec.folder) if 0 < epoch <= spec.config.epochs]
    return Trajectory((base, *(Checkpointed.load(spec.folder, spec.number, epoch).readings for epoch in epochs)))

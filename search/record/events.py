"""What the coordinator and a worker say to each other."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from metrics.trajectory.readings import Reading, Readings
from search.record.json_files import write_bytes
from trainer.config.config import TrainConfig


@dataclass(frozen=True)
class TrialSpec:
    """To a worker: train this trial, from its newest checkpoint if it has one.

    Attributes:
        number: Optuna's.
        folder: `trials/0007`.
        config: what to train.
        processed: the last epoch the coordinator has decided on; events go on after it.
        params: what was searched for it; weights of a finished LoRA's blocks, where these are tried.
        place: which of the trials of its worker it is, from 0. It is the same for as long as the trial runs.
    """

    number: int
    folder: Path
    config: TrainConfig
    processed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    place: int = 0


@dataclass(frozen=True)
class GoOn:
    """To a worker: the trial has been decided on up to this epoch and goes on."""

    number: int
    epoch: int


@dataclass(frozen=True)
class StopTrial:
    """To a worker: the trial ended at this epoch; what was trained beyond it is thrown away."""

    number: int
    epoch: int


@dataclass(frozen=True)
class DrawAgain:
    """To a worker: draw this checkpoint with fresh seeds and prompts; without a number the base, which comes first.

    `strengths`: not to score it, but to show it at other strengths, and the checkpoints beside it; with `parts` only
    the columns at `place` of so many, for the picture to come. `retrained`: train the trial a second time up to there,
    under another seed, and draw that; `place`: of its seat then. `twins`: not to draw it, but to train the one at
    `place` of so many twins of the trial with as many passes over its photos, and to read its losses on those that it
    leaves out.
    """

    number: int | None
    epoch: int
    strengths: bool = False
    retrained: bool = False
    place: int = 0
    twins: int = 0
    parts: int = 0

    @property
    def twin(self) -> int | None:
        """Which of the twins; None where none is asked for."""
        return self.place if self.twins else None


@dataclass(frozen=True)
class DrawnAgain:
    """From a worker: it is drawn, scored and kept (`search.record.finalists.FreshLook`). `twin`: that one is
    trained, and its losses are kept (`search.record.twins.TwinLosses`)."""

    number: int | None
    epoch: int
    twin: int | None = None


@dataclass(frozen=True)
class Quit:
    """To a worker: end."""


@dataclass(frozen=True)
class Prepared:
    """From a worker: base, encoder and probe are ready. `places`: trials that it takes at once."""

    seconds: float
    notices: tuple[str, ...] = ()
    places: int = 1


@dataclass(frozen=True)
class Unprepared:
    """From a worker: it cannot begin. `wrong_input`: the user has to change something."""

    error: str
    wrong_input: bool


@dataclass(frozen=True)
class Alive:
    """From a worker: it is at work, or waits for an answer; `search.running.workers` replaces one that says nothing."""


@dataclass(frozen=True)
class Doing:
    """From a worker, for the live table only: what it is at. `number` is None outside trials."""

    what: str
    number: int | None = None
    epoch: float = 0


@dataclass(frozen=True)
class Note:
    """From a worker: what the user should know of a trial."""

    number: int
    notice: str


@dataclass(frozen=True)
class Checkpointed:
    """From a worker: a checkpoint has been trained, saved, drawn and scored.

    Attributes:
        timings: seconds since the checkpoint before: "train", "save", "sample", "score".
        memory: "rss_gib", "gpu_gib".
        loss: mean training loss of the epoch; NaN where nothing was trained.
    """

    number: int
    epoch: int
    readings: Readings
    timings: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    loss: float = float("nan")

    @staticmethod
    def file(folder: Path, epoch: int) -> Path:
        """Where a trial keeps this event until it has ended, so that a restart repeats nothing."""
        return folder / "readings" / f"{epoch:04d}.npz"

    @staticmethod
    def epochs(folder: Path) -> list[int]:
        """Epochs of a trial whose readings are kept, rising; 0 is the base."""
        return sorted(int(p.stem) for p in (folder / "readings").glob("[0-9]*.npz"))

    @property
    def _about(self) -> dict[str, object]:
        return {"timings": self.timings, "memory": self.memory} | ({"loss": self.loss} if isfinite(self.loss) else {})

    def save(self, folder: Path) -> None:
        """Write the event whole or not at all."""
        save_readings(self.file(folder, self.epoch), self.readings, self._about)

    @classmethod
    def load(cls, folder: Path, number: int, epoch: int) -> "Checkpointed":
        readings, about = load_readings(cls.file(folder, epoch))
        return cls(number, epoch, readings, about["timings"], about["memory"], about.get("loss", float("nan")))


@dataclass(frozen=True)
class Failed:
    """From a worker: the trial could not reach this checkpoint, or be drawn again there (`number` None: the base).

    `again`: trying once more may help. `machine`: no trial could (the disk is full, say). `twin`: which of its twins it
    was, None for the trial itself.
    """

    number: int | None
    epoch: int
    error: str
    again: bool
    machine: bool = False
    twin: int | None = None


@dataclass(frozen=True)
class Lost:
    """From `search.running.workers`: the process in this slot is gone. `replaced`: another one has been started."""

    reason: str
    replaced: bool = True


def save_readings(path: Path, readings: Readings, about: Mapping[str, object] | None = None) -> None:
    """Keep one checkpoint's readings exactly (float64), with anything JSON beside them."""
    head = {
        "epoch": readings.epoch,
        "effort": readings.effort,
        "score": readings.score,
        "channels": {name: [r.value, r.low, r.high] for name, r in readings.channels.items()},
        "about": about or {},
    }
    out = io.BytesIO()
    arrays = {f"item:{name}": np.asarray(values) for name, values in readings.items.items()}
    np.savez(out, allow_pickle=False, head=np.array(json.dumps(head)), **arrays)
    write_bytes(path, out.getvalue())


def load_readings(path: Path) -> tuple[Readings, dict]:
    """What `save_readings` wrote: (readings, about)."""
    with np.load(path, allow_pickle=False) as arrays:
        head = json.loads(str(arrays["head"]))
        items = {name.removeprefix("item:"): arrays[name] for name in arrays.files if name.startswith("item:")}
    channels = {name: Reading(*values) for name, values in head["channels"].items()}
    return Readings(head["epoch"], head["effort"], channels, items, head["score"]), head["about"]

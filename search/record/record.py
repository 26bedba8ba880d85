"""The files that a study leaves behind: one folder for the study, one for each trial, written whole or not at all."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metrics.onset.turns import Onset
from search.errors import DamagedError, VersionError, problem
from search.record.added_prompts import AddedPrompts
from search.record.final_run import Average, FinalRun
from search.record.finished_run import FinishedRun
from search.record.json_files import checked, read_json, write_bytes, write_fields
from search.record.probe_description import PROBE_FILE, ProbeDescription
from search.record.taken_run import TakenRun
from search.record.twins import Twins
from trainer.config.recorded import RecordedConfig
from trainer.inference.sample_files import SheetNote, sheet_png

if TYPE_CHECKING:
    import numpy as np

    from metrics.trajectory.trajectory import Trajectory

VERSION = 1
"""Of `record.json`; a file that names none is of the first."""
_LOG = logging.getLogger(__name__)
STATES = ("running", "complete", "pruned", "failed")


@dataclass(frozen=True)
class TrialRecord:
    """What is known of one trial; `record.json` in its folder, written for failures too.

    Attributes:
        number: Optuna's trial number.
        state: one of `STATES`.
        config: what was trained; from disk as it was then, whatever is allowed by now.
        params: the searched values only, by TrainConfig field.
        epochs: the horizon: what the learning-rate schedule was laid out for.
        epochs_trained: how far the run went.
        epoch_shipped: the epoch to ship (`Onset.best`), None for failures.
        stopped: why training ended: "horizon", "onset", "pruned", "failed" or "" while it runs.
        onset: where its overfitting begins; None while it runs, and for failures.
        score: score in [0, 1] at `epoch_shipped`; of any scale under an objective.
        objective: the function of the user's own that makes the score, as module:function; "" where we make it.
        own_score: the score as we make it at `epoch_shipped`, where there is an objective.
        value: what Optuna was told (`score` of a complete trial, the last report of a pruned one).
        startup: drawn before the sampler had enough finished trials to learn from.
        versions: package name to version.
        seeds: "train" and "probe", two separate streams.
        dataset: digest of the photos trained on (held-out photos are not among them).
        timings: seconds spent: "train", "sample", "score", "save".
        memory: "rss_gib" of the worker, "gpu_gib" at its peak where there is one.
        error: the last error's text, or None.
        slot, began: where it ran, and that slot's clock then (`search.running.coordinator`); None when nobody noted it.
        final: where it is the run that ships; None where it is not.
        finished_run: what was looked at instead of trained; None where it was trained.
        taken: what it has of another trial that is the same run, instead of training it; None where it has not.
        lost: what of its files was damaged and could not be rebuilt, for people; "" when all is there.
        twins: what its twins say, in a file of their own; then `onset`, `epoch_shipped` and the scores there are by
            them. None without any.
    """

    number: int
    state: str
    config: RecordedConfig
    params: Mapping[str, Any]
    epochs: int
    epochs_trained: int = 0
    epoch_shipped: int | None = None
    stopped: str = ""
    onset: Onset | None = None
    score: float | None = None
    value: float | None = None
    startup: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    dataset: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    slot: int | None = None
    began: int | None = None
    finished_run: FinishedRun | None = None
    final: FinalRun | None = None
    taken: TakenRun | None = None
    lost: str = ""
    objective: str = ""
    own_score: float | None = None
    twins: Twins | None = None

    def with_twins(self, twins: Twins | None) -> "TrialRecord":
        """With what its twins say of it, as far as it was trained as they were."""
        if twins is None or self.state != "complete" or twins.trained != self.epochs_trained:
            return self
        if twins.onset is None:
            return replace(self, twins=twins)
        found = replace(self, twins=twins, onset=twins.onset, epoch_shipped=twins.onset.best)
        return replace(found, score=twins.score, own_score=twins.own_score) if twins.moved else found

    def with_taken(self, folder: Path) -> "TrialRecord":
        """With what the trial's folder says that it has taken."""
        return replace(self, taken=TakenRun.load(folder))

    @property
    def saved_epochs(self) -> int:
        """Epochs that it did not train, since the same run was there."""
        return 0 if self.taken is None else self.taken.saved_epochs(self.epochs_trained)

    @property
    def saved_seconds(self) -> float:
        """Seconds that this saved."""
        return (
            0.0
            if self.taken is None
            else self.taken.saved_seconds(self.epochs_trained, self.config.save_every_n_epochs)
        )

    def with_average(self, folder: Path) -> "TrialRecord":
        """With the average that the trial's folder holds."""
        return self if self.final is None else replace(self, final=replace(self.final, average=Average.load(folder)))

    def save(self, folder: Path) -> None:
        """Write `record.json` into the trial's folder."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "twins"}
        plain |= {"config": self.config.model_dump(mode="json")}
        plain |= {"onset": None if self.onset is None else asdict(self.onset)}
        for name, part in (("finished_run", self.finished_run), ("final", self.final), ("taken", self.taken)):
            plain[name] = None if part is None else asdict(part)
        write_fields(folder / "record.json", {"version": VERSION, **plain})

    @property
    def has_epochs(self) -> bool:
        """Whether it has checkpoints in turn; a finished LoRA under other block weights is looked at once."""
        return self.finished_run is None or not self.finished_run.is_one_file

    @classmethod
    def load(cls, folder: Path, *, searched: bool = False) -> "TrialRecord":
        """Read `record.json` of a trial's folder; names that this version does not know are left out.

        Args:
            searched: as the search left it, without what its twins say.

        Raises:
            DamagedError: it is not there, or not a record.
            VersionError: a later version of Onset wrote it, in another form.
        """
        path = folder / "record.json"
        try:
            values = read_json(path)
            _check_version(path, values)
            record = checked(cls, values)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: {_damage(error)}: python -m search.run rebuilds it") from error
        if record.state not in STATES or record.number != int(folder.name):
            raise DamagedError(f"{path}: not the record of this trial: python -m search.run rebuilds it")
        return record if searched else record.with_twins(Twins.load(folder))


@dataclass(frozen=True)
class StudyFolder:
    """`runs/<study>`: where each file of a study lies. Reading it needs neither Optuna nor torch."""

    path: Path

    @property
    def study_file(self) -> Path:
        """The study file as it was run."""
        return self.path / "study.yaml"

    @property
    def database(self) -> Path:
        return self.path / "study.db"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def best_folder(self) -> Path:
        return self.path / "best"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def workers_log(self) -> Path:
        """What libraries print while workers work, and tracebacks."""
        return self.path / "workers.log"

    @property
    def verdict_file(self) -> Path:
        return self.path / "verdict.json"

    def trial(self, number: int) -> Path:
        """Folder of one trial: `trials/0007`."""
        return self.path / "trials" / f"{number:04d}"

    def numbers(self) -> list[int]:
        """Numbers of the trials that have a record, rising."""
        return [number for number in self.folders() if (self.trial(number) / "record.json").is_file()]

    def folders(self) -> list[int]:
        """Numbers of the trials that have a folder, rising."""
        names = (path.name for path in self.path.glob("trials/[0-9]*"))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    @property
    def has_checkpoints(self) -> bool:
        """Whether any trial has reached a checkpoint, as far as its files tell."""
        trials = self.path / "trials"
        if any(int(path.stem) for path in trials.glob("[0-9]*/readings/[0-9]*.npz") if path.stem.isdigit()):
            return True
        return any(trials.glob("[0-9]*/checkpoints/[0-9]*")) or any(trials.glob("[0-9]*/trajectory.csv"))

    def records(self, *, searched: bool = False) -> Iterator[TrialRecord]:
        """Every trial's record, by number; damaged ones are left out (`search.recovery.study_folder` rebuilds them).
        `searched`: see `TrialRecord.load`."""
        for number in self.numbers():
            with contextlib.suppress(DamagedError):
                yield TrialRecord.load(self.trial(number), searched=searched)

    def trajectory(self, number: int) -> "Trajectory":
        """The trial's readings over its checkpoints (pandas is imported here)."""
        from metrics.trajectory.trajectory import Trajectory

        return Trajectory.load(self.trial(number))

    def checkpoint(self, number: int, epoch: int) -> Path:
        """Folder of one checkpoint, with `lora.safetensors` in kohya's format; absent when it was not kept."""
        return self.trial(number) / "checkpoints" / f"{epoch:04d}"

    def samples_file(self, number: int, epoch: int) -> Path:
        """The probe's images of one checkpoint: one PNG, prompts down, seeds across, no gaps. Epoch 0 is the base's."""
        return self.trial(number) / "samples" / f"{epoch:04d}.png"

    def sampled_epochs(self, number: int) -> list[int]:
        """Epochs of the trial for which the probe's images were kept, rising; 0 (the base) among them."""
        return sorted(int(p.stem) for p in (self.trial(number) / "samples").glob("[0-9]*.png"))

    def samples(self, number: int, epoch: int) -> "np.ndarray":
        """The probe's images of one checkpoint, uint8 [prompts, seeds, H, W, 3], in the order of `probe()`; white for
        prompts that were added later."""
        import numpy as np
        from PIL import Image

        about = self.probe()
        sheet = np.asarray(Image.open(self.samples_file(number, epoch)).convert("RGB"))
        rows, columns = len(about.prompts), len(about.seeds)
        added = len(AddedPrompts.load(self).prompts)
        height = about.size[1] if added and about.size is not None else sheet.shape[0] // rows
        drawn, width = sheet.shape[0] // height, sheet.shape[1] // columns
        images = sheet.reshape(drawn, height, columns, width, 3).swapaxes(1, 2)[:rows]
        missing = np.full((rows - len(images), *images.shape[1:]), 255, np.uint8)
        return np.concatenate([images, missing]) if len(missing) else images

    def readable_samples(self, number: int, epochs: Iterable[int]) -> "dict[int, np.ndarray]":
        """`samples` of these epochs, without those whose picture is damaged."""
        found = {}
        for epoch in epochs:
            try:
                found[epoch] = self.samples(number, epoch)
            except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: Pillow's word for a broken PNG
                _LOG.warning("%s is damaged: left out (%s)", self.samples_file(number, epoch), error)
        return found

    def probe(self) -> ProbeDescription:
        """What every checkpoint is looked at with, prompts that were added after the start among it.

        Raises:
            OSError, ValueError: it is not there, or damaged.
        """
        kept = self.path / PROBE_FILE  # the cache may be deleted at any time
        about = ProbeDescription.load(kept if kept.is_file() else self.cache / "probe" / PROBE_FILE)
        return about.with_added(AddedPrompts.load(self).prompts)


def _check_version(path: Path, values: Any) -> None:
    version = values.get("version", 1) if isinstance(values, dict) else None
    if not isinstance(version, int) or version < 1:
        raise ValueError("a record is a mapping, of a version from 1 on")
    if version > VERSION:
        why = "a later version of Onset wrote this study: go on with that one, or a later one"
        raise VersionError([problem(path, "version", version, f"at most {VERSION}", why)])


def _damage(error: Exception) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else "damaged"


def write_config(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write `config.yaml` into a trial's folder: what it is trained with."""
    import yaml

    write_bytes(folder / "config.yaml", yaml.safe_dump(dict(fields), sort_keys=False).encode())


def write_samples(
    path: Path, images: "np.ndarray", columns: int, *, prompts: Sequence[str] = (), seeds: Sequence[int] = ()
) -> None:
    """Write the probe's images, uint8 [N, H, W, 3] with the seeds of a prompt side by side, as one PNG that says what
    is on it.

    Args:
        path: its name is the epoch; any other is the base's.
        prompts, seeds: of each image.
    """
    epoch = int(path.stem) if path.stem.isdecimal() else 0
    note = SheetNote(epoch, len(images) // columns, columns, tuple(prompts), tuple(seeds))
    write_bytes(path, sheet_png(images, note))

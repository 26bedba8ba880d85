"""The section `checkpoints` of a study file: the LoRA files of a run that any trainer has finished.

Such a study trains nothing. It has one trial, whose checkpoints are the files.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from search.errors import StudyError, problem
from search.record.finished_run import FinishedRun, Unit
from search.study.input_digests import PhotoMark
from search.study.settings import ScoreSection, Section
from search.study.split import in_contexts
from trainer.config.config import OptimizerName, SchedulerName
from trainer.errors import ModelError
from trainer.lora.run_files import RunFile, run_files, settings_of, why_not_one_run

_END = 1 << 16  # bytes of a file's beginning and end that its digest is made of
_LEAST = 2
_RESTARTS = "cosine_with_restarts"
_SCHEDULE = ("lr_scheduler", "num_cycles", "cycle_epochs")
"""TrainConfig fields that say where the learning rate restarted: losses rise there for a while."""
_OF_A_LOOK = ("family", "precision", "quantize", "trigger", "class_word", "resolution", "clip_skip", *_SCHEDULE)
"""Those, and the fields that say how images are drawn and losses are measured."""
_HELD = "nothing, because checkpoints.held_out names the photos held out"


class CheckpointsSection(Section):
    """A run that is finished: nothing is trained, its files are looked at."""

    folder: str = Field(min_length=1)
    """Folder with the LoRA files of one run, of kohya's trainers, OneTrainer, ai-toolkit, diffusers or PEFT."""
    held_out: list[str] | Literal["none"]
    """File names of the photos in `data` that the run was not trained on, or none."""
    last: int | None = Field(default=None, ge=1, le=100_000)
    """Epoch of the final file, which has no number in its name. Needed where its metadata does not say it."""
    steps_per_epoch: int | None = Field(default=None, ge=1, le=100_000)
    """Optimizer steps of an epoch (photos × repeats ÷ batch size), where the files count steps and their metadata does
    not say it. Without it the verdict counts steps, too."""


@dataclass(frozen=True)
class RunToLookAt:
    """Attributes:
    run: as the trial's record keeps it.
    held_out: photos as `PhotoMark.file` has them.
    digests: file name to digest; what may not change between two sittings.
    train: the TrainConfig fields that the files tell.
    notices: what the user should know.
    """

    run: FinishedRun
    held_out: tuple[str, ...]
    digests: Mapping[str, str]
    train: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def meaning(self) -> dict[str, Any]:
        """What may not change while the study goes on."""
        return {"held_out": sorted(self.held_out), "unit": self.run.unit, "files": dict(self.digests)}


def misplaced(path: Path, values: Mapping[str, Any]) -> list[str]:
    """What a study file says beside `checkpoints` that only holds for trainings, one line each."""
    found = [key for key in ("search", "budget", "stop") if values.get(key) is not None]
    inner = {key: values[key] for key in ("train", "score") if isinstance(values.get(key), dict)}
    found += [f"train.{key}" for key in inner.get("train", ()) if key not in _OF_A_LOOK]
    found += ["score.holdout"] if "holdout" in inner.get("score", ()) else []
    expected = "nothing, because a finished run is not trained (checkpoints)"
    return [problem(path, key, _at(values, key), _HELD if key == "score.holdout" else expected) for key in found]


def _at(values: Mapping[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return values[section][name] if name else values[section]


def run_to_look_at(
    path: Path,
    section: CheckpointsSection,
    score: ScoreSection,
    photos: Sequence[PhotoMark],
    train: Mapping[str, Any],
) -> RunToLookAt:
    """Which file is which checkpoint, and which photos were held out; reads no weights.

    Args:
        path: the study file. train: what it says under `train`.
        photos: those in `data`, regularisation images among them.

    Raises:
        StudyError: one line for each thing that is wrong with the files or with what is said of them.
    """
    held_out = _held_out(path, section, score, photos)
    folder = (path.parent / section.folder).resolve()
    try:
        files = run_files(folder)
    except ModelError as error:
        raise StudyError([f"{path}: checkpoints.folder: {error}"]) from None
    if (mixed := why_not_one_run(files)) is not None:
        raise StudyError([_wrong(path, section, "the LoRA files of one run", mixed)])
    unit, counted = _counted(path, section, files)
    if len(counted) < _LEAST:
        raise StudyError([_wrong(path, section, "at least two checkpoints of one run", f"one ({files[0].name})")])
    told, words = _settings(files, list(counted))
    run = FinishedRun({n: str(file.path) for n, file in counted.items()}, unit, words, len(held_out))
    digests = {file.name: _digest(file.path) for file in counted.values()}
    restarts = settings_of(files).get("ss_lr_scheduler") == _RESTARTS and "lr_scheduler" not in train
    return RunToLookAt(run, held_out, digests, told, _notices(section, unit, restarts=restarts))


def _wrong(path: Path, section: CheckpointsSection, expected: str, got: str) -> str:
    return f"{path}: checkpoints.folder: {section.folder}: expected {expected}, got {got}"


def _held_out(
    path: Path, section: CheckpointsSection, score: ScoreSection, photos: Sequence[PhotoMark]
) -> tuple[str, ...]:
    named = [] if section.held_out == "none" else section.held_out
    own = [photo for photo in photos if not photo.reg]
    found, problems = list[str](), list[str]()
    for i, name in enumerate(named):
        same = [photo.file for photo in own if name in (photo.file, Path(photo.file).name, Path(photo.file).stem)]
        if not same:
            problems.append(problem(path, f"checkpoints.held_out[{i}]", name, "the name of a photo in data"))
        found += same
    held = tuple(dict.fromkeys(found))
    for row in in_contexts([photo.caption for photo in own], score.holdout_contexts):
        if own[row].file not in held:
            expected = f"words that no trained photo has; {own[row].file} has them, and held_out does not name it"
            problems.append(problem(path, "score.holdout_contexts", ", ".join(score.holdout_contexts), expected))
            break
    if not problems and len(own) - len(held) < _LEAST:
        problems.append(problem(path, "checkpoints.held_out", f"{len(held)} photos", "two photos that were trained on"))
    if problems:
        raise StudyError(problems)
    return held


def _counted(path: Path, section: CheckpointsSection, files: Sequence[RunFile]) -> tuple[Unit, dict[int, RunFile]]:
    """Files by their epoch, or by their step where not every file's epoch is known."""
    unknown = [file.name for file in files if file.number is not None]
    if unknown:
        expected = "names or metadata that say epoch or step (my-000010, my-step00000500, epoch-10/my)"
        raise StudyError(
            [_wrong(path, section, expected, f"{unknown[0]}: whether it counts epochs or steps is unknown")]
        )
    known = [file for file in files if not file.is_final]
    each = section.steps_per_epoch or next((n for file in files if (n := file.steps_per_epoch)), None)

    def epoch(file: RunFile) -> int | None:
        if file.epoch is not None or file.step is None or each is None:
            return file.epoch
        return file.step // each if file.step % each == 0 else None

    numbers: list[int | None] = [epoch(file) for file in known]
    unit: Unit = "epoch"
    if any(number is None for number in numbers):
        unit, numbers = "step", [file.step for file in known]
        if lacking := [file.name for file in known if file.step is None]:
            raise StudyError([_wrong(path, section, "files that all say their epoch, or all their step", lacking[0])])
    counted: dict[int, RunFile] = {}
    for number, file in [*zip(numbers, known, strict=True), *_final(path, section, files, unit)]:
        assert number is not None
        if (other := counted.get(number)) is not None and _digest(other.path) != _digest(file.path):
            got = f"{other.name} and {file.name}, both of {unit} {number}"
            raise StudyError([_wrong(path, section, "the LoRA files of one run", got)])
        counted.setdefault(number, file)
    return unit, dict(sorted(counted.items()))


def _final(
    path: Path, section: CheckpointsSection, files: Sequence[RunFile], unit: Unit
) -> list[tuple[int | None, RunFile]]:
    final = [file for file in files if file.is_final]
    if len(final) > 1:
        got = f"{final[0].name} and {final[1].name}, which both have none"
        raise StudyError([_wrong(path, section, "one file without a number in its name", got)])
    if not final:
        return []
    if section.last is None:
        expected = f"the {unit} of {final[0].name}, whose name and metadata do not say it"
        raise StudyError([problem(path, "checkpoints.last", None, expected)])
    return [(section.last, final[0])]


def _settings(files: Sequence[RunFile], counts: Sequence[int]) -> tuple[dict[str, Any], str]:
    """The TrainConfig fields that the files tell, and the same in words."""
    told = settings_of(files)
    halves = {key: shape for key, shape in files[0].modules.items() if ".lora_down." in key or ".lora_A." in key}
    halves = halves or {key: shape for key, shape in files[0].modules.items() if ".down." in key}
    linear = [shape[0] for shape in halves.values() if len(shape) == 2 or shape[2:] == (1, 1)]
    ranks = linear or [shape[0] for shape in halves.values()]
    rank = max(set(ranks), key=ranks.count)
    gaps = [b - a for a, b in zip([0, *counts], counts, strict=False)]
    train: dict[str, Any] = {"rank": min(rank, 1024), "epochs": counts[-1], "save_every_n_epochs": min(gaps)}
    words = [f"rank {rank}"]
    if (alpha := _number(told.get("ss_network_alpha"))) is not None and 0 < alpha <= 100_000:
        train["alpha"] = alpha
        words.append(f"alpha {alpha:.3g}")
    rate = _number(told.get("ss_unet_lr")) or _number(told.get("ss_learning_rate"))
    optimizer = told.get("ss_optimizer", "").rpartition(".")[2].partition("(")[0]
    scheduler = told.get("ss_lr_scheduler", "")
    for value, known in ((optimizer, OptimizerName), (scheduler, SchedulerName)):
        if value in known.__args__:  # type: ignore[attr-defined]  # of a Literal
            words.append(value)
    if rate:
        words.append(f"learning rate {rate:.2g}")
    return train, ", ".join(words)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _notices(section: CheckpointsSection, unit: Unit, *, restarts: bool) -> tuple[str, ...]:
    said = []
    if restarts:
        said.append(
            f"the files say {_RESTARTS} and not how often: give train.lr_scheduler, and num_cycles or cycle_epochs; "
            "else a restart may be taken for overfitting"
        )
    if unit == "step":
        said.append("the files count steps, so the verdict does; checkpoints.steps_per_epoch would make epochs of them")
    if section.held_out == "none":
        said.append(
            "no photo was held out of this run: the verdict rests on images and moved subjects, and memorised photos "
            "show only as copies"
        )
    return tuple(said)


def _digest(path: Path) -> str:
    """Of a file's size, beginning and end: weights that change, change these."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        found.update(file.read(_END))
        file.seek(max(0, size - _END))
        found.update(file.read())
    return found.hexdigest()

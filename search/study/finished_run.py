"""The section `checkpoints` of a study file: the LoRA files of a run that any trainer has finished.

Such a study trains nothing. It has one trial, whose checkpoints are the files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import Field, field_validator

from search.errors import StudyError, problem
from search.record.finished_run import FinishedRun, Unit, short_name
from search.study.input_digests import PhotoMark
from search.study.kind import NEVER_STOPPED, ONE_TRIAL, Draft, Kind, KindSection
from search.study.settings import ScoreSection
from search.study.split import in_contexts
from search.study.study_file import StudyFile
from trainer.config.config import OptimizerName, SchedulerName
from trainer.errors import ModelError, nearest
from trainer.lora.architectures import families_of_file
from trainer.lora.key_styles import kohya_key
from trainer.lora.run_files import RunFile, run_files, settings_of, weights_digest, why_not_one_run

_MOST = 100_000
_LEAST = 2
_FOLDER = "checkpoints.folder"
_RESTARTS = "cosine_with_restarts"
_SCHEDULE = ("lr_scheduler", "num_cycles", "cycle_epochs")
"""TrainConfig fields that say where the learning rate restarted: losses rise there for a while."""
_OF_A_LOOK = ("family", "precision", "quantize", "trigger", "class_word", "resolution", "clip_skip", *_SCHEDULE)
"""Those, and the fields that say how images are drawn and losses are measured."""


class CheckpointsSection(KindSection):
    """A run that is finished: nothing is trained, its files are looked at."""

    key: ClassVar[str] = "checkpoints"
    about: ClassVar[str] = "A finished run to look at instead of training ([how](finished-run.md))."

    folder: str = Field(min_length=1)
    """Folder with the LoRA files of one run, of kohya's trainers, OneTrainer, ai-toolkit, diffusers or PEFT."""
    held_out: list[str] = Field(max_length=100_000)
    """Names of the photos in `data` that the run was not trained on, as a list, or none."""
    last: int | None = Field(default=None, ge=1, le=100_000)
    """Epoch of the final file, which has no number in its name. Needed where its metadata does not say it."""
    steps_per_epoch: int | None = Field(default=None, ge=1, le=100_000)
    """Optimizer steps of an epoch (photos × repeats ÷ batch size), where the files count steps and their metadata does
    not say it. Without it the verdict counts steps, too."""

    @field_validator("held_out", mode="before")
    @classmethod
    def _or_none(cls, value: Any) -> Any:
        return or_none(value)

    @classmethod
    def misplaced(cls, file: StudyFile, others: Sequence[str]) -> list[str]:
        """Another kind of study, a budget, or what only holds for trainings."""
        return beside_a_look(file, cls.key, others, ("budget",))

    def planned(self, draft: Draft) -> Draft:
        """One trial, whose checkpoints are the files."""
        return as_a_look(replace(draft, budget=ONE_TRIAL))

    def with_photos(self, draft: Draft, photos: Sequence[PhotoMark]) -> Draft:
        """The files, and what they tell of their training."""
        files = checkpoint_files(draft.file, self, draft.score, photos, draft.train)
        notices = (*draft.notices, *files.notices)
        return replace(draft, train={**files.train, **draft.train}, kind=files, notices=notices)


def or_none(value: Any) -> Any:
    """Names of photos as a section has them: a list, or `none`."""
    if value == "none":
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("the names of photos, as a list, or none")
    return value


@dataclass(frozen=True)
class CheckpointFiles(Kind):
    """The files of a finished run.

    Attributes:
        run: as the trial's record keeps it.
        held_out: photos as `PhotoMark.file` has them.
        digests: count to name and digest of its file; what may not change between two sittings.
        train: the TrainConfig fields that the files tell.
        notices: what the user should know.
    """

    run: FinishedRun
    held_out: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def finished_run(self) -> FinishedRun:
        """The run."""
        return self.run

    @property
    def meaning(self) -> dict[str, Any]:
        """The files, what they count, and the photos held out."""
        said = {"held_out": sorted(self.held_out), "unit": self.run.unit, "files": dict(self.digests)}
        return {CheckpointsSection.key: said}


def as_a_look(draft: Draft) -> Draft:
    """A study that trains nothing: nothing ends it early, and its photos held out are those of the finished run."""
    score = draft.score.model_copy(update={"holdout": 0})
    return replace(draft, score=score, stop=NEVER_STOPPED, assumed={"epochs": 100_000})


def beside_a_look(file: StudyFile, section: str, others: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """What a study file says beside `section` that only holds for trainings, one line each.

    Args:
        others: sections that would make it a study of another kind. more: sections that have no place, either.
    """
    values = file.values
    wrong = [problem(file, other, None, "nothing", f"{section} is given, too") for other in others]
    found = [key for key in ("search", "stop", *more) if values.get(key) is not None]
    inner = {key: values[key] for key in ("train", "score") if isinstance(values.get(key), dict)}
    found += [f"train.{key}" for key in inner.get("train", ()) if key not in _OF_A_LOOK]
    found += ["score.holdout"] if "holdout" in inner.get("score", ()) else []
    # what other studies share, which this one extends, may say more than it needs
    found = [key for key in found if key == "search" or file.file_of(key) == file.path]
    expected = f"nothing, because a finished run is not trained ({section})"
    held = f"nothing, because {section}.held_out names the photos held out"
    return wrong + [problem(file, key, _at(values, key), held if key == "score.holdout" else expected) for key in found]


def _at(values: Mapping[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return values[section][name] if name else values[section]


def checkpoint_files(
    source: StudyFile,
    section: CheckpointsSection,
    score: ScoreSection,
    photos: Sequence[PhotoMark],
    train: Mapping[str, Any],
) -> CheckpointFiles:
    """Which file is which checkpoint, and which photos were held out; reads no weights.

    Args:
        source: the study file. train: what it says under `train`.
        photos: those in `data`, regularisation images among them.

    Raises:
        StudyError: one line for each thing that is wrong with the files or with what is said of them.
    """
    held_out = held_out_photos(source, "checkpoints.held_out", section.held_out, score, photos)
    folder = (source.file_of(_FOLDER).parent / Path(section.folder).expanduser()).resolve()
    try:
        held = run_files(folder)
    except ModelError as error:
        raise StudyError([f"{source.file_of(_FOLDER)}: {_FOLDER}: {error}"]) from None
    files = held.files
    if (mixed := why_not_one_run(files)) is not None:
        raise StudyError([_wrong(source, section, "the LoRA files of one run", mixed)])
    unit, counted = _counted(source, section, files)
    if max(counted, default=0) > _MOST:
        raise StudyError([_wrong(source, section, f"at most {_MOST} {unit}s", str(max(counted)))])
    if len(counted) < _LEAST:
        raise StudyError([_wrong(source, section, "at least two checkpoints of one run", f"one ({files[0].name})")])
    said = settings_of(files)
    told, words = _settings(said, files[0].modules, list(counted))
    run = FinishedRun({n: str(file.path) for n, file in counted.items()}, unit, words, len(held_out))
    digests = {str(count): f"{file.name} {weights_digest(file.path)}" for count, file in counted.items()}
    restarts = said.get("ss_lr_scheduler") == _RESTARTS and "lr_scheduler" not in train
    notices = _notices(section, unit, held.skipped, restarts=restarts)
    return CheckpointFiles(run, held_out, digests, told, notices)


def check_for_family(source: StudyFile, run: FinishedRun, base: str, family: str) -> None:
    """Whether the files can be for a base of this family, as far as their keys tell.

    Args:
        base: as the study file has it.

    Raises:
        StudyError: one of them surely is not.
    """
    for file in filter(None, run.files.values()):  # "" where an earlier study of a flow has yet to make it
        possible = families_of_file(file)
        if family not in possible:
            expected = f"a base of the family of {short_name(file)} ({' or '.join(sorted(possible))})"
            raise StudyError([problem(source, "base", base, expected, f"this one is {family}")])


def _wrong(source: StudyFile, section: CheckpointsSection, expected: str, got: str) -> str:
    return f"{source.file_of(_FOLDER)}: {_FOLDER}: {section.folder}: expected {expected}, got {got}"


def held_out_photos(
    source: StudyFile, key: str, names: Sequence[str], score: ScoreSection, photos: Sequence[PhotoMark]
) -> tuple[str, ...]:
    """The photos that `names` under `key` mean, as `PhotoMark.file` has them.

    Raises:
        StudyError: one line for each that is not there, or for contexts of photos that were trained on.
    """
    own = [photo for photo in photos if not photo.reg]
    found, problems = list[str](), list[str]()
    for i, name in enumerate(names):
        same = _named(name, [photo.file for photo in own])
        if len(same) != 1:
            near = nearest(name, [Path(photo.file).name for photo in own])
            expected = (
                f"the name of one photo in data{near if not same else f' (it is that of {same[0]} and {same[1]})'}"
            )
            problems.append(problem(source, f"{key}[{i}]", name, expected))
        found += same
    held = tuple(dict.fromkeys(found))
    for row in in_contexts([photo.caption for photo in own], score.holdout_contexts):
        if own[row].file not in held:
            expected = f"words that no trained photo has; {own[row].file} has them, and held_out does not name it"
            problems.append(problem(source, "score.holdout_contexts", ", ".join(score.holdout_contexts), expected))
            break
    if not problems and len(own) - len(held) < _LEAST:
        problems.append(problem(source, key, f"{len(held)} photos", "two photos that were trained on"))
    if problems:
        raise StudyError(problems)
    return held


def _named(name: str, files: Sequence[str]) -> list[str]:
    """The photos that a name means: a path in `data` or behind it, else a file's name, else one without its ending."""
    by_path = [file for file in files if name == file or name.endswith(f"/{file}")]
    by_name = [file for file in files if Path(file).name == name]
    return by_path or by_name or [file for file in files if Path(file).stem == name]


def _counted(
    source: StudyFile, section: CheckpointsSection, files: Sequence[RunFile]
) -> tuple[Unit, dict[int, RunFile]]:
    """Files by their epoch, or by their step where not every file's epoch is known."""
    unknown = [file.name for file in files if file.number is not None]
    if unknown:
        expected = "names or metadata that say epoch or step (my-000010, my-step00000500, epoch-10/my)"
        raise StudyError(
            [_wrong(source, section, expected, f"{unknown[0]}: whether it counts epochs or steps is unknown")]
        )
    known = [file for file in files if not file.is_final]
    told = {n for file in files if (n := file.steps_per_epoch) is not None}
    each = section.steps_per_epoch or (told.pop() if len(told) == 1 else None)

    def epoch(file: RunFile) -> int | None:
        if file.epoch is not None or file.step is None or each is None:
            return file.epoch
        return file.step // each if file.step % each == 0 else None

    numbers: list[int | None] = [epoch(file) for file in known]
    unit: Unit = "epoch"
    if section.steps_per_epoch is not None and None in numbers:
        odd = known[numbers.index(None)]
        expected = f"a number of steps that divides those of {odd.name} ({odd.step})"
        raise StudyError([problem(source, "checkpoints.steps_per_epoch", section.steps_per_epoch, expected)])
    if any(number is None for number in numbers):
        unit, numbers = "step", [file.step for file in known]
        if lacking := [file.name for file in known if file.step is None]:
            raise StudyError([_wrong(source, section, "files that all say their epoch, or all their step", lacking[0])])
    counted: dict[int, RunFile] = {}
    for number, file in zip(numbers, known, strict=True):
        assert number is not None
        _count(source, section, counted, unit, number, file)
    final = _final(source, section, files, unit, counted)
    if final is not None:
        _count(source, section, counted, unit, *final)
    return unit, dict(sorted(counted.items()))


def _count(
    source: StudyFile, section: CheckpointsSection, counted: dict[int, RunFile], unit: Unit, number: int, file: RunFile
) -> None:
    """Put a file in its place; one with the weights of a file there is that file once more."""
    other = counted.get(number)
    if other is not None and weights_digest(other.path) != weights_digest(file.path):
        got = f"{other.name} and {file.name}, both of {unit} {number}"
        raise StudyError([_wrong(source, section, "the LoRA files of one run", got)])
    counted.setdefault(number, file)


def _final(
    source: StudyFile, section: CheckpointsSection, files: Sequence[RunFile], unit: Unit, counted: Mapping[int, RunFile]
) -> tuple[int, RunFile] | None:
    """The file without a number, and where the run ended; None where there is none, or it is a numbered one again."""
    final = [file for file in files if file.is_final]
    if len(final) > 1:
        got = f"{final[0].name} and {final[1].name}, which both have none"
        raise StudyError([_wrong(source, section, "one file without a number in its name", got)])
    latest = max(counted, default=0)
    again = final and latest and weights_digest(counted[latest].path) == weights_digest(final[0].path)
    if not final or again:
        if section.last not in (None, latest):
            raise StudyError([problem(source, "checkpoints.last", section.last, f"nothing: the files say {latest}")])
        return None
    if section.last is None or section.last <= latest:
        expected = f"the {unit} of {final[0].name}, whose name and metadata do not say it"
        more = f", after {latest}" if latest else ""
        raise StudyError([problem(source, "checkpoints.last", section.last, expected + more)])
    return section.last, final[0]


def _settings(
    told: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], counts: Sequence[int]
) -> tuple[dict[str, Any], str]:
    """The TrainConfig fields that the files' metadata and `shapes` tell, and the same in words."""
    halves = [shape for key, shape in shapes.items() if shape and (kohya_key(key) or "").endswith(".lora_down.weight")]
    linear = [shape[0] for shape in halves if len(shape) == 2 or shape[2:] == (1, 1)]
    ranks = linear or [shape[0] for shape in halves]
    rank = max(set(ranks), key=ranks.count)
    gaps = [b - a for a, b in zip([0, *counts], counts, strict=False)]
    train: dict[str, Any] = {"rank": min(rank, 1024), "epochs": counts[-1], "save_every_n_epochs": min(gaps)}
    words = [f"rank {rank}"]
    if (alpha := _number(told.get("ss_network_alpha"))) is not None and 0 < alpha <= 100_000:
        train["alpha"] = alpha
        words.append(f"alpha {alpha:.3g}")
    rate = _number(told.get("ss_unet_lr")) or _number(told.get("ss_learning_rate"))
    optimizer = told.get("ss_optimizer", "").partition("(")[0].rpartition(".")[2]
    scheduler = told.get("ss_lr_scheduler", "")
    for value, known in ((optimizer, OptimizerName), (scheduler, SchedulerName)):
        if value in get_args(known):
            words.append(value)
    if rate:
        words.append(f"learning rate {rate:.2g}")
    return train, ", ".join(words)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _notices(section: CheckpointsSection, unit: Unit, skipped: Sequence[str], *, restarts: bool) -> tuple[str, ...]:
    said = []
    if skipped:
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        said.append(f"no LoRA, so left out of the run: {', '.join(skipped[:3])}{more}")
    if restarts:
        said.append(
            f"the files say {_RESTARTS} and not how often: give train.lr_scheduler, and num_cycles or cycle_epochs; "
            "else a restart may be taken for overfitting"
        )
    if unit == "step":
        said.append("the files count steps, so the verdict does; checkpoints.steps_per_epoch would make epochs of them")
    if not section.held_out:
        said.append(
            "no photo was held out of this run: the verdict rests on images and moved subjects, and memorised photos "
            "show only as copies"
        )
    return tuple(said)

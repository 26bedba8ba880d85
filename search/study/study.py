"""A study file, read strictly: every mistake is named before torch is loaded.

A searchable name is a field of `trainer.config.config.TrainConfig`; there is no second list.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from search.errors import StudyError, problem, unknown_problem
from search.record.added_prompts import NONE_ADDED, AddedPrompts
from search.record.final_run import FinalRun
from search.record.finished_run import FinishedRun
from search.record.handed_on import HandedOn
from search.study.checks import beside, check_sampler, check_score, is_folder, scan
from search.study.data_check import DataCheckSection, beside_data_check
from search.study.delivery import TRIALS, Delivery, DeliverySection, delivery_of
from search.study.final_run import FinalSection, final_run
from search.study.finished_run import CheckpointFiles, CheckpointsSection, checkpoint_files, misplaced
from search.study.input_digests import PhotoMark
from search.study.settings import BudgetSection, KeepSection, SamplerSection, ScoreSection, StopSection, WorkersSection
from search.study.space import Space, parse_space
from search.study.space_values import size
from search.study.study_file import EXTENDS, StudyFile, read_study_file
from search.study.taken import FROM, taken
from trainer.config.config import TrainConfig, parse_train_config
from trainer.config.pydantic_messages import in_words
from trainer.config.sources import resolve_source, why_no_file_name
from trainer.errors import ConfigError, nearest

SECTIONS: dict[str, type[BaseModel]] = {
    "score": ScoreSection,
    "budget": BudgetSection,
    "sampler": SamplerSection,
    "stop": StopSection,
    "workers": WorkersSection,
    "keep": KeepSection,
    "data_check": DataCheckSection,
}
LOOKS: dict[str, type[BaseModel]] = {"checkpoints": CheckpointsSection, "delivery": DeliverySection}
"""Sections of studies that train nothing."""
_PATHS = ("base", "data", "reg_data")
KEYS = ("study", EXTENDS, FROM, *_PATHS, "seed", "train", "search", "checkpoints", "final", "delivery", *SECTIONS)
TOP_LEVEL_ONLY = (*_PATHS, "seed")
NOT_SEARCHED = (
    *TOP_LEVEL_ONLY,
    *("family", "precision", "quantize", "trigger", "class_word", "resolution", "clip_skip", "save_every_n_epochs"),
)
"""The resident base and the probe are made for one value of these."""
MASK_FILES = "score.shifted.masks: content"


@dataclass(frozen=True)
class Study:
    """One study file, checked.

    Attributes:
        source: what it was read from, with the files that it extends.
        name: names the folder under `runs/`.
        base, data, reg_data: absolute paths (`base` may be a hub id).
        seed: of training and of the sampler.
        train: fixed TrainConfig fields.
        space: what is searched.
        dataset: digest of the photos.
        mask_files: digest of their masks, where `score.shifted.masks` is a folder.
        photos, masks_of: the same, one by one.
        subject: trigger and class word, "" without.
        data_check: what the data check looks at; None where the study is none.
        checkpoints: the files of a finished run, which are looked at; None where the study trains.
        final: where the study is the run that ships; None where it is not.
        handed_on: what the study under `from` has found; None without one.
        delivery: a finished LoRA whose blocks are weighted; then `checkpoints` is that one file.
        added: prompts that are drawn and not scored: added after the study had begun.
        notices: what the user should know before it runs, one line each.
    """

    source: StudyFile
    name: str
    base: str
    data: str
    reg_data: str | None
    seed: int
    train: Mapping[str, Any]
    space: Space
    score: ScoreSection
    budget: BudgetSection
    sampler: SamplerSection
    stop: StopSection
    workers: WorkersSection
    keep: KeepSection
    dataset: str
    mask_files: str | None
    photos: tuple[PhotoMark, ...]
    masks_of: Mapping[str, str]
    notices: tuple[str, ...] = ()
    subject: tuple[str, str] = ("", "")
    data_check: DataCheckSection | None = None
    checkpoints: CheckpointFiles | None = None
    final: FinalRun | None = None
    handed_on: HandedOn | None = None
    delivery: Delivery | None = None
    added: AddedPrompts = NONE_ADDED

    @property
    def file(self) -> Path:
        """The study file."""
        return self.source.path

    @property
    def written(self) -> Mapping[str, Any]:
        """What it says, and what it extends."""
        return self.source.values

    def config(self, params: Mapping[str, Any]) -> TrainConfig:
        """The TrainConfig of one trial. Raises ConfigError when the values do not go together."""
        trained = params if self.delivery is None else {}
        return parse_train_config({**self._fixed, **trained}, file=self.file)

    @property
    def _fixed(self) -> dict[str, Any]:
        paths = {"base": self.base, "data": self.data, "reg_data": self.reg_data}
        return {**paths, "seed": self.seed, **self.train}

    @property
    def trials(self) -> int:
        """How many there are to be: those of the budget, or as many as there are configurations."""
        distinct = size(self.space)
        return self.budget.trials if distinct is None else min(self.budget.trials, distinct)

    @property
    def finished_run(self) -> FinishedRun | None:
        """The finished run as a trial's record keeps it."""
        return None if self.checkpoints is None else self.checkpoints.run

    @property
    def rows_held_out(self) -> list[int]:
        """Rows of the photos that the finished run was not trained on, regularisation images not counted."""
        held = () if self.checkpoints is None else self.checkpoints.held_out
        own = [photo.file for photo in self.photos if not photo.reg]
        return [row for row, file in enumerate(own) if file in held]

    @property
    def encoder(self) -> str:
        """`score.encoder`, a folder beside the study file as an absolute path."""
        return beside(self.source, "score.encoder", self.score.encoder)

    @property
    def identity_encoder(self) -> str | None:
        """`score.identity_encoder` likewise."""
        spec = self.score.identity_encoder
        return None if spec is None else beside(self.source, "score.identity_encoder", spec)

    @property
    def masks(self) -> str:
        """`score.shifted.masks` likewise."""
        return beside(self.source, "score.shifted.masks", self.score.shifted.masks)

    @cached_property
    def meaning(self) -> dict[str, Any]:
        """What may not change while a study goes on, flat: dotted key to value. Budget and placement may."""
        nested = {
            "base": self.written["base"],
            "photos": self.dataset,
            "seed": self.seed,
            "train": dict(self.train) if self.checkpoints is None else self.written.get("train") or {},
            "search": self.written.get("search", {}),
            "score": self.score.model_dump(mode="json"),
            "stop": self.stop.model_dump(mode="json"),
            **({MASK_FILES: self.mask_files} if self.mask_files else {}),
            **({"checkpoints": self.checkpoints.meaning} if self.checkpoints is not None else {}),
            **({"delivery": self.delivery.meaning} if self.delivery is not None else {}),
            **({"final": {"epoch": self.final.epoch}} if self.final is not None else {}),
            **({"data_check": self.data_check.model_dump(mode="json")} if self.data_check is not None else {}),
        }
        return json.loads(json.dumps(dict(flat(nested)), sort_keys=True, default=str))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the meaning."""
        return hashlib.sha256(json.dumps(self.meaning, sort_keys=True).encode()).hexdigest()

    @cached_property
    def probe_digest(self) -> str:
        """SHA-256 of all that the probe is built from: what may change while a study goes on plays no part in it."""
        fixed = {f"train.{field}" for field in NOT_SEARCHED}
        kept = {
            key: value
            for key, value in self.meaning.items()
            if key in ("photos", MASK_FILES, "checkpoints.held_out") or key.startswith("score.") or key in fixed
        }
        for key in ("score.encoder", "score.identity_encoder", "score.shifted.masks"):
            value = kept.get(key)
            if isinstance(value, str) and is_folder(self.source.file_of(key).parent, value):
                kept[key] = "a folder"  # which may be another one tomorrow, with the same in it
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def load_study(
    path: str | Path, settings: Sequence[str] = (), *, runs: Path = Path("runs"), to_come: Collection[str] = ()
) -> Study:
    """Reads and checks a study file and what it points at; each path is relative to the file in which it stands.

    Args:
        settings: of the command line, each as `budget.trials=40`; they go before what the file says.
        runs: where studies leave their folders: `from` looks there.
        to_come: names of studies that will have run before this one (`search.study.taken`).

    Raises:
        StudyError: with one line for each mistake.
    """
    file = read_study_file(path, settings)
    values = file.values
    problems: list[str] = []
    for key in values:
        if key not in KEYS:
            problems.append(unknown_problem(file, key, KEYS))
    name = _required(file, values, "study", str, "a name for the folder under runs/", problems)
    if isinstance(name, str) and (why := why_no_file_name(name)) is not None:
        problems.append(problem(file, "study", name, why))
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        problems.append(problem(file, "seed", seed, "a whole number from 0 to 2^63 - 1"))
    sources = {key: _source(file, values, key, problems) for key in _PATHS}
    sections = {key: _section(file, key, model, values.get(key), problems) for key, model in SECTIONS.items()}
    train = _mapping(file, values, "train", problems)
    for key in train:
        if key in TOP_LEVEL_ONLY:
            problems.append(
                problem(file, f"train.{key}", train[key], "nothing", f"give {key} at the top of the study file")
            )
    found = {
        key: _section(file, key, model, values[key], problems)
        for key, model in LOOKS.items()
        if values.get(key) is not None
    }
    looks = bool(found)
    if looks:
        problems += _only_looks(file, values, sections, *found)
    ending: FinalSection = _section(file, "final", FinalSection, values.get("final"), problems)
    searched = _mapping(file, values, "search", problems)
    if "data_check" not in values:
        sections["data_check"] = None
    else:
        problems += beside_data_check(file, values)
        sections |= {"budget": BudgetSection(trials=1), "stop": StopSection(onset=False, prune=False)}
    for key in searched:
        if key in NOT_SEARCHED:
            problems.append(problem(file, f"search.{key}", searched[key], "nothing", "it is the same for every trial"))
    space, wrong = parse_space(file, searched, train)
    problems += wrong
    if problems:
        raise StudyError(problems)
    handed_on, told = taken(file, runs, to_come)
    final = None
    if values.get("final") is not None:
        final, train, more = final_run(file, ending, sections["score"], train, handed_on)
        told += more
        sections |= {"budget": BudgetSection(trials=1), "stop": StopSection(onset=False, prune=False)}
    fixed = {**sources, "seed": seed, **train, **({"epochs": 100_000} if looks else {})}  # its own are not known yet
    notices, wrong = space.check(file, fixed)
    wrong += check_sampler(file, sections["sampler"], space)
    if wrong:
        raise StudyError(wrong)
    score: ScoreSection = sections["score"]
    wrong = check_score(file, score)
    if wrong:
        raise StudyError(wrong)
    if looks:
        sections["score"] = score = score.model_copy(update={"holdout": 0})  # the run has its own
    seen = scan(file, str(sources["data"]), sources["reg_data"], score)
    files = delivery = None
    if "checkpoints" in found:
        files = checkpoint_files(file, found["checkpoints"], score, seen.photos, train)
    elif "delivery" in found:
        delivery = delivery_of(file, found["delivery"], score, seen.photos, handed_on)
        files, space, train = delivery.files, delivery.space, {"epochs": 1, "save_every_n_epochs": 1, **train}
        first = [dict(weights) for weights in delivery.first(sections["budget"].trials)]
        sections["sampler"] = sections["sampler"].model_copy(update={"start_with": first})
    if files is not None:
        train, notices = {**files.train, **train}, [*notices, *files.notices]
    return Study(
        source=file,
        name=str(name),
        base=str(sources["base"]),
        data=str(sources["data"]),
        reg_data=sources["reg_data"],
        seed=seed,
        train=train,
        space=space,
        dataset=seen.dataset,
        mask_files=seen.mask_files,
        photos=seen.photos,
        masks_of=seen.masks_of,
        subject=(train.get("trigger") or seen.subject[0], train.get("class_word") or seen.subject[1]),
        notices=(*told, *seen.warnings, *notices),
        checkpoints=files,
        final=final,
        handed_on=handed_on,
        delivery=delivery,
        **sections,
    )


def _only_looks(file: StudyFile, values: Mapping[str, Any], sections: dict[str, Any], *keys: str) -> list[str]:
    """What is wrong beside a section that trains nothing; the other `sections` become those of a look."""
    wrong = [problem(file, keys[1], None, "nothing", f"{keys[0]} is given, too")] if len(keys) > 1 else []
    if keys[0] == "checkpoints":
        sections["budget"] = BudgetSection(trials=1)
    elif not isinstance(budget := values.get("budget"), dict) or "trials" not in budget:
        sections["budget"] = sections["budget"].model_copy(update={"trials": TRIALS})
    sections["stop"] = StopSection(onset=False, prune=False)
    return wrong + misplaced(file, values, keys[0])


def _required(file: StudyFile, values: Mapping[str, Any], key: str, kind: type, what: str, problems: list[str]) -> Any:
    if key not in values:
        problems.append(problem(file, key, None, what))
        return None
    if not isinstance(values[key], kind):
        problems.append(problem(file, key, values[key], what))
        return None
    return values[key]


def _source(file: StudyFile, values: Mapping[str, Any], key: str, problems: list[str]) -> str | None:
    what = {"base": "the base model's path or hub id", "data": "the training folder", "reg_data": "a folder"}[key]
    if key == "reg_data" and values.get(key) is None:
        return None
    value = _required(file, values, key, str, what, problems)
    if value is None:
        return None
    try:
        found = resolve_source(file.file_of(key), key, value)
    except ConfigError as error:
        problems.append(str(error))
        return None
    beside_it = file.file_of(key).parent / value
    if key == "base" and not Path(found).exists() and beside_it.parent.is_dir():
        # `demo/bsae` looks like a hub id, but its folder is here: a misspelt file, not a download
        there = sorted(p.name for p in beside_it.parent.iterdir() if p.is_dir())
        problems.append(
            problem(
                file,
                key,
                value,
                f"a path that exists{nearest(Path(value).name, there)}",
                f"{Path(value).parent} holds {', '.join(there)}",
            )
        )
        return None
    if key == "base" and Path(found).is_dir() and not (Path(found) / "model_index.json").is_file():
        problems.append(
            problem(file, key, value, "a diffusers folder or a .safetensors", "model_index.json is missing")
        )
    return found


def _mapping(file: StudyFile, values: Mapping[str, Any], key: str, problems: list[str]) -> dict[str, Any]:
    value = values.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(problem(file, key, value, "a section of settings, one `key: value` a line"))
        return {}
    return dict(value)


def _section(file: StudyFile, key: str, model: type[BaseModel], value: Any, problems: list[str]) -> Any:
    try:
        return model() if value is None else model.model_validate(value)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            where = ".".join([key, *map(str, one["loc"])])
            if one["type"] == "extra_forbidden":
                problems.append(unknown_problem(file, where, _keys_beside(model, one["loc"])))
                continue
            given = None if one["type"] == "missing" else one["input"]
            problems.append(problem(file, where, given, in_words(one)))
        return model.model_construct()


def _keys_beside(model: type[BaseModel], place: Sequence[Any]) -> Iterable[str]:
    for part in place[:-1]:
        model = model.model_fields[part].annotation  # type: ignore[assignment]  # of a section: a model
    return model.model_fields


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key to value, of mappings in mappings."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value

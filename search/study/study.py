"""A study file, read strictly: every mistake is named before torch is loaded.

A searchable name is a field of `trainer.config.config.TrainConfig`; there is no second list.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from search.errors import StudyError, problem, unknown_problem
from search.record.added_prompts import NONE_ADDED, AddedPrompts
from search.record.finished_run import FinishedRun
from search.record.handed_on import HandedOn
from search.record.json_files import digest_of
from search.record.learned_from import NOBODY, LearnedFrom
from search.study.checks import (
    beside,
    check_finalists,
    check_objective,
    check_sampler,
    check_score,
    check_track,
    check_workers,
    is_folder,
    scan,
)
from search.study.critic_run import critic_config
from search.study.input_digests import PhotoMark
from search.study.kind import SEARCH, Draft, Kind
from search.study.kinds import KINDS, asked_kind
from search.study.objective import KEY, SOURCE, Objective, read_objective
from search.study.read_values import read_section, read_settings, read_source, read_text
from search.study.server import STORAGE, Server, named_server
from search.study.settings import (
    BudgetSection,
    FinalistsSection,
    KeepSection,
    SamplerSection,
    ScoreSection,
    StopSection,
    TrackSection,
    WorkersSection,
)
from search.study.space import Space, parse_space
from search.study.space_values import size
from search.study.study_file import EXTENDS, StudyFile, read_study_file
from search.study.taken import FROM, taken
from trainer.config.config import TrainConfig, parse_train_config
from trainer.config.sources import why_no_file_name
from trainer.errors import Plain
from trainer.other_words import our_name

SECTIONS: dict[str, type[BaseModel]] = {
    "score": ScoreSection,
    "budget": BudgetSection,
    "sampler": SamplerSection,
    "stop": StopSection,
    "finalists": FinalistsSection,
    "workers": WorkersSection,
    "keep": KeepSection,
    "track": TrackSection,
}
_PATHS = ("base", "data", "reg_data")
KEYS = ("study", EXTENDS, FROM, *_PATHS, "seed", STORAGE, "train", "search", *(kind.key for kind in KINDS), *SECTIONS)
TOP_LEVEL_ONLY = (*_PATHS, "seed")
NOT_SEARCHED = (
    *TOP_LEVEL_ONLY,
    *("family", "precision", "quantize", "trigger", "class_word", "resolution", "clip_skip"),
    *("steps_per_epoch", "save_every_n_epochs"),
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
        kind: whether it searches, or what else it does.
        handed_on: what the study under `from` has found; None without one.
        added: prompts that are drawn and not scored: added after the study had begun.
        learned: what its sampler learns from before its own trials (`search.tuning.learned`).
        server: where its trials are kept instead of `study.db`; None for that.
        objective: the function that `score.objective` names.
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
    finalists: FinalistsSection
    workers: WorkersSection
    keep: KeepSection
    track: TrackSection
    dataset: str
    mask_files: str | None
    photos: tuple[PhotoMark, ...]
    masks_of: Mapping[str, str]
    notices: tuple[str, ...] = ()
    subject: tuple[str, str] = ("", "")
    kind: Kind = SEARCH
    handed_on: HandedOn | None = None
    added: AddedPrompts = NONE_ADDED
    learned: LearnedFrom = NOBODY
    server: Server | None = None
    objective: Objective | None = None

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
        trained = params if self.kind.trial_is_settings else {}
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
    def num_finalists(self) -> int:
        """How many of the best trials are drawn again; 0 where there is nothing to choose among."""
        return self.finalists.trials if self.kind == SEARCH and size(self.space) != 1 else 0

    @property
    def num_twins(self) -> int:
        """How many twins of the winner are trained; 0 where the study is no search."""
        return self.finalists.twins if self.kind == SEARCH else 0

    @property
    def finished_run(self) -> FinishedRun | None:
        """What is looked at instead of trained; None where the study trains."""
        return self.kind.finished_run

    @property
    def rows_held_out(self) -> list[int]:
        """Rows of the photos that the finished run was not trained on, regularisation images not counted."""
        own = [photo.file for photo in self.photos if not photo.reg]
        return [row for row, file in enumerate(own) if file in self.kind.held_out]

    @property
    def encoder(self) -> str:
        """`score.encoder`, a folder beside the study file as an absolute path."""
        return beside(self.source, "score.encoder", self.score.encoder)

    @property
    def transfer_bases(self) -> tuple[str, ...]:
        """`finalists.transfer_bases` likewise; files, too."""
        parent = self.source.file_of("finalists.transfer_bases").parent
        bases = self.finalists.transfer_bases
        return tuple(str((parent / base).resolve()) if (parent / base).exists() else base for base in bases)

    @property
    def identity_encoder(self) -> str | None:
        """`score.identity_encoder` likewise."""
        spec = self.score.identity_encoder
        return None if spec is None else beside(self.source, "score.identity_encoder", spec)

    @property
    def logging_dir(self) -> Path | None:
        """`track.logging_dir`, seen from the file in which it stands."""
        folder = self.track.logging_dir
        return None if folder is None else (self.source.file_of("track.logging_dir").parent / folder).resolve()

    @property
    def masks(self) -> str:
        """`score.shifted.masks` likewise."""
        return beside(self.source, "score.shifted.masks", self.score.shifted.masks)

    @cached_property
    def critic_run(self) -> TrainConfig | None:
        """How its critic is trained; None where it has none."""
        if not self.score.critic.steps:
            return None
        config = self.config(next(self.space.combinations()))
        searched = {entry.field for entry in self.space.entries if entry.when or not entry.constant}
        return critic_config(config, self.score.critic.steps, searched)

    @cached_property
    def meaning(self) -> dict[str, Any]:
        """What may not change while a study goes on, flat: dotted key to value. Budget and placement may."""
        nested = {
            "base": self.written["base"],
            "photos": self.dataset,
            "seed": self.seed,
            "train": dict(self.train) if self.finished_run is None else self.written.get("train") or {},
            "search": self.written.get("search", {}),
            "score": self.score.model_dump(mode="json", exclude=None if self.score.critic.steps else {"critic"}),
            "stop": self.stop.model_dump(mode="json"),
            **({MASK_FILES: self.mask_files} if self.mask_files else {}),
            **({SOURCE: self.objective.source} if self.objective else {}),
            **self.kind.meaning,
        }
        return json.loads(json.dumps(dict(flat(nested)), sort_keys=True, default=str))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the meaning."""
        return digest_of(self.meaning)

    @cached_property
    def probe_digest(self) -> str:
        """SHA-256 of all that the probe is built from: what may change while a study goes on plays no part in it."""
        fixed = {f"train.{field}" for field in NOT_SEARCHED}
        kept = {
            key: value
            for key, value in self.meaning.items()
            if (key in ("photos", MASK_FILES, "checkpoints.held_out") or key.startswith("score.") or key in fixed)
            and key not in ("score.ship", KEY, SOURCE)  # what it reads is the same, whatever is made of it
        }
        for key in ("score.encoder", "score.identity_encoder", "score.shifted.masks"):
            value = kept.get(key)
            if isinstance(value, str) and is_folder(self.source.file_of(key).parent, value):
                kept[key] = "a folder"  # which may be another one tomorrow, with the same in it
        if self.critic_run is not None:
            kept["critic"] = self.critic_run.model_dump(mode="json", exclude=set(_PATHS))
        return digest_of(kept)


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
    unknown = [str(key) for key in values if key not in KEYS]
    if unknown and not values.keys() - {*TrainConfig.model_fields, "output"}:
        how = f"train it with: python -m trainer.run {path}"
        raise StudyError([problem(file, "", Plain("the file of one training"), "a study file", how)])
    problems = [_unknown(file, key) for key in unknown]
    name = read_text(file, "study", "a name for the folder under runs/", problems)
    if name is not None and (why := why_no_file_name(name)) is not None:
        problems.append(problem(file, "study", name, why))
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        problems.append(problem(file, "seed", seed, "a whole number from 0 to 2^63 - 1"))
    sources = {key: read_source(file, key, problems) for key in _PATHS}
    sections: dict[str, Any] = {
        key: read_section(file, key, model, values.get(key), problems) for key, model in SECTIONS.items()
    }
    train = read_settings(file, "train", problems)
    for key in train:
        if key in TOP_LEVEL_ONLY:
            why = f"give {key} at the top of the study file"
            problems.append(problem(file, f"train.{key}", train[key], "nothing", why))
    asked = asked_kind(file, problems)
    server = named_server(file, values.get(STORAGE), problems)
    searched = read_settings(file, "search", problems)
    for key in searched:
        if key in NOT_SEARCHED:
            problems.append(problem(file, f"search.{key}", searched[key], "nothing", "it is the same for every trial"))
    space, wrong = parse_space(file, searched, train)
    _refuse([*problems, *wrong])
    handed_on, told = taken(file, runs, to_come)
    changeable = {key: sections.pop(key) for key in ("score", "budget", "sampler", "stop")}
    draft = Draft(file, train, space, **changeable, handed_on=handed_on, notices=told)
    _refuse(check_objective(file, draft.score, asked is None))
    if asked is not None:
        draft = replace(draft, score=draft.score.model_copy(update={"objective": None}))
        draft = asked.planned(draft)
    notices, wrong = space.check(file, {**sources, "seed": seed, **draft.train, **draft.assumed})
    _refuse([*wrong, *check_sampler(file, draft.sampler, space), *check_workers(file, sections["workers"])])
    _refuse([*check_score(file, draft.score), *check_finalists(file, sections["finalists"], asked is None)])
    _refuse(check_track(file, sections["track"]))
    objective = read_objective(file, draft.score.objective)
    twins = sections["finalists"].twins if asked is None else 0
    seen = scan(file, str(sources["data"]), sources["reg_data"], draft.score, twins)
    draft = replace(draft, notices=(*draft.notices, *seen.warnings, *notices))
    draft = draft if asked is None else asked.with_photos(draft, seen.photos)
    train = dict(draft.train)
    return Study(
        source=file,
        name=str(name),
        base=str(sources["base"]),
        data=str(sources["data"]),
        reg_data=sources["reg_data"],
        seed=seed,
        train=train,
        space=draft.space,
        score=draft.score,
        budget=draft.budget,
        sampler=draft.sampler,
        stop=draft.stop,
        **sections,
        dataset=seen.dataset,
        mask_files=seen.mask_files,
        photos=seen.photos,
        masks_of=seen.masks_of,
        subject=(train.get("trigger") or seen.subject[0], train.get("class_word") or seen.subject[1]),
        notices=draft.notices,
        kind=draft.kind,
        handed_on=handed_on,
        server=server,
        objective=objective,
    )


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise StudyError(problems)


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key to value, of mappings in mappings."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _unknown(file: StudyFile, key: str) -> str:
    """A key that a study does not have at its top; where it is one of a training, the section that it belongs into."""
    fields = TrainConfig.model_fields
    ours = key if key in fields else our_name(key, fields)
    if not ours or ours.partition(",")[0] in KEYS:
        return unknown_problem(file, key, KEYS)
    return problem(file, key, key, f"it under train or search: {ours}" if ours != key else "it under train or search")

"""The section `delivery` of a study file: a finished LoRA whose blocks are weighted apart, and nothing is trained.

Such a study has one trial for each set of block weights. What is searched are the blocks that the file has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from search.errors import StudyError, problem
from search.record.finished_run import FinishedRun
from search.record.handed_on import HandedOn
from search.study.finished_run import CheckpointFiles, as_a_look, beside_a_look, held_out_photos, or_none
from search.study.input_digests import PhotoMark
from search.study.kind import Draft, Kind, KindSection
from search.study.settings import ScoreSection
from search.study.space import Entry, Space
from search.study.study_file import StudyFile
from trainer.delivery.blocks import BASE, EVERY, block_of
from trainer.errors import ModelError
from trainer.families import FAMILIES
from trainer.families.layout import read_header
from trainer.lora.architectures import check_lora, family_of
from trainer.lora.key_styles import kohya_key
from trainer.lora.run_files import weights_digest

TRIALS = 48
"""Looks, unless `budget.trials` says otherwise."""
_LORA = "delivery.lora"
_MOST_ALONE = 8
"""Blocks that are weighted each by itself; of more, those of one level of the U-Net go together."""
_PER_LEVEL = 3
_WHOLE = (0.75, 0.5)
"""Strengths of the whole LoRA that are looked at, too: block weights have to do better than these."""


class DeliverySection(KindSection):
    """A LoRA whose blocks are to be weighted: nothing is trained, it is looked at under other weights."""

    key: ClassVar[str] = "delivery"
    about: ClassVar[str] = "A finished LoRA whose blocks are to be weighted ([how](delivery.md))."
    takes: ClassVar[bool] = True

    lora: str | None = Field(default=None, min_length=1)
    """The LoRA file, with the keys of kohya, diffusers, PEFT or ComfyUI; none: what the study under `from` ships."""
    held_out: list[str] = Field(default_factory=list, max_length=100_000)
    """Names of the photos in `data` that it was not trained on, as a list, or none."""
    blocks: Literal["auto", "each", "levels"] = "auto"
    """Weight each block by itself, or those of one level of the U-Net together; auto: each, of up to eight."""
    step: float = Field(default=0.25, gt=0, le=1)
    """Distance between the weights that are tried, from 0 to 1; 1 tries only with and without."""

    @field_validator("held_out", mode="before")
    @classmethod
    def _or_none(cls, value: Any) -> Any:
        return or_none(value)

    @field_validator("step")
    @classmethod
    def _divides(cls, value: float) -> float:
        if abs(1 / value - round(1 / value)) > 1e-6:
            raise ValueError("a part of 1, such as 0.25, 0.5 or 1")
        return value

    @classmethod
    def misplaced(cls, file: StudyFile, others: Sequence[str]) -> list[str]:
        """Another kind of study, or what only holds for trainings."""
        return beside_a_look(file, cls.key, others)

    def planned(self, draft: Draft) -> Draft:
        """As many looks as the file says, else `TRIALS`."""
        said = draft.file.values.get("budget")
        if not isinstance(said, dict) or "trials" not in said:
            draft = replace(draft, budget=draft.budget.model_copy(update={"trials": TRIALS}))
        return as_a_look(draft)

    def with_photos(self, draft: Draft, photos: Sequence[PhotoMark]) -> Draft:
        """The LoRA's blocks are what is searched."""
        found = delivery_of(draft.file, self, draft.score, photos, draft.handed_on)
        first = [dict(weights) for weights in found.first(draft.budget.trials)]
        return replace(
            draft,
            train={"epochs": 1, "save_every_n_epochs": 1, **draft.train},
            space=found.space,
            sampler=draft.sampler.model_copy(update={"start_with": first}),
            kind=found,
            notices=(*draft.notices, *found.files.notices),
        )


@dataclass(frozen=True)
class Delivery(Kind):
    """One LoRA under other weights of its blocks.

    Attributes:
        files: the LoRA, as a finished run of one checkpoint.
        groups: what is searched: name of a parameter to the blocks that it weights.
        step: between weights.
    """

    files: CheckpointFiles
    groups: Mapping[str, tuple[str, ...]]
    step: float

    @property
    def lora(self) -> str:
        """The LoRA's path."""
        return self.files.run.files[1]

    @property
    def space(self) -> Space:
        """One weight from 0 to 1 for each group."""
        return Space(tuple(Entry(name, name, low=0.0, high=1.0, step=self.step) for name in self.groups))

    def first(self, trials: int) -> tuple[dict[str, float], ...]:
        """What is looked at before anything is searched: the LoRA as it is, without each group, with the way out alone
        (WebUIs' OUTALL, with and without the text encoder), and weaker as a whole; at most `trials`.

        A background may sit in several blocks, of which each alone still draws it: then only leaving out all of them
        shows.
        """
        as_it_is = dict.fromkeys(self.groups, 1.0)
        alone = [{name} for name in self.groups]
        way_in = {name for name in self.groups if not name.startswith(("OUT", BASE))}
        left_out = [names for names in (*alone, way_in, way_in | {BASE}) if names < self.groups.keys()]
        without = [as_it_is | dict.fromkeys(names & self.groups.keys(), 0.0) for names in left_out]
        weaker = [dict.fromkeys(self.groups, s) for s in _WHOLE if abs(s / self.step - round(s / self.step)) < 1e-6]
        found = [as_it_is, *without, *weaker]
        return tuple(weights for row, weights in enumerate(found) if weights not in found[:row])[:trials]

    def weights(self, params: Mapping[str, float]) -> dict[str, float]:
        """Block to weight."""
        return {block: params[name] for name, blocks in self.groups.items() for block in blocks}

    @property
    def meaning(self) -> dict[str, Any]:
        """The file, and what is searched of it."""
        groups = {name: list(blocks) for name, blocks in self.groups.items()}
        said = {"file": self.files.digests["1"], "groups": groups, "step": self.step}
        return {**self.files.meaning, DeliverySection.key: said}

    @property
    def trial_is_settings(self) -> bool:
        """No: a trial's parameters are weights."""
        return False

    @property
    def finished_run(self) -> FinishedRun:
        """The LoRA, as a run of one checkpoint."""
        return self.files.run

    @property
    def held_out(self) -> tuple[str, ...]:
        """As the section says."""
        return self.files.held_out


@dataclass(frozen=True)
class _Header:
    family: str
    blocks: tuple[str, ...]
    dora: bool
    ranks: tuple[int, ...] = field(default=())


def delivery_of(
    source: StudyFile,
    section: DeliverySection,
    score: ScoreSection,
    photos: Sequence[PhotoMark],
    handed_on: HandedOn | None = None,
) -> Delivery:
    """What a delivery study looks at; reads no weights.

    Args:
        handed_on: what the study under `from` ships: taken where no file is named.

    Raises:
        StudyError: the file is no LoRA, has no blocks that can be weighted, or a photo is not there.
    """
    held_out = held_out_photos(source, "delivery.held_out", section.held_out, score, photos)
    if section.lora is None and handed_on is not None and handed_on.to_come:
        return _to_come(handed_on, held_out, section.step)
    path = _file(source, section, handed_on)
    try:
        header = _header(path)
    except ModelError as error:
        raise StudyError([f"{source.file_of(_LORA)}: {_LORA}: {error}"]) from None
    if not header.blocks:
        expected = "a LoRA of SD 1.x or SDXL, whose blocks WebUIs weight"
        raise StudyError([problem(source, _LORA, path.name, expected, f"it is for {header.family}")])
    notices = []
    step = section.step
    if header.dora and step != 1:
        step = 1.0
        notices.append("delivery.step: DoRA layers cannot be weakened in a file, so each block is kept or left out")
    if not held_out:
        notices.append(
            "no photo was held out of this LoRA: losses of photos tell nothing, images and moved subjects do"
        )
    ranks = f"rank {max(set(header.ranks), key=header.ranks.count)}"
    run = FinishedRun({1: str(path)}, settings=f"{path.name}, {ranks}", held_out=len(held_out))
    files = CheckpointFiles(run, held_out, {"1": f"{path.name} {weights_digest(path)}"}, {}, tuple(notices))
    return Delivery(files, groups_of(header.blocks, section.blocks), step)


def _file(source: StudyFile, section: DeliverySection, handed_on: HandedOn | None) -> Path:
    if section.lora is not None:
        return (source.file_of(_LORA).parent / Path(section.lora).expanduser()).resolve()
    if handed_on is None:
        raise StudyError([problem(source, _LORA, None, "a LoRA file, or a study that hands one on (from)")])
    if not handed_on.lora:
        why = f"{handed_on.study} kept no LoRA of the epoch that it ships (keep.checkpoints)"
        raise StudyError([problem(source, _LORA, None, "a LoRA file", why)])
    return Path(handed_on.lora)


def _to_come(handed_on: HandedOn, held_out: tuple[str, ...], step: float) -> Delivery:
    """What stands in for a LoRA that an earlier study of a flow has yet to make."""
    run = FinishedRun({1: ""}, settings=f"the LoRA of {handed_on.study}", held_out=len(held_out))
    return Delivery(CheckpointFiles(run, held_out, {"1": "to come"}), {"M00": ("M00",)}, step)


def groups_of(blocks: Sequence[str], how: Literal["auto", "each", "levels"]) -> dict[str, tuple[str, ...]]:
    """Name to blocks, in the order of the U-Net.

    >>> list(groups_of(["BASE", "IN01", "IN02", "IN04", "M00"], "levels"))
    ['BASE', 'IN01-02', 'IN04', 'M00']
    """
    if how == "each" or (how == "auto" and len(blocks) <= _MOST_ALONE):
        return {block: (block,) for block in blocks}
    levels: dict[str, list[str]] = {}
    for block in blocks:
        levels.setdefault(_level(block), []).append(block)
    return {found[0] if len(found) == 1 else f"{found[0]}-{found[-1][-2:]}": tuple(found) for found in levels.values()}


def _level(block: str) -> str:
    if block in (BASE, "M00"):
        return block
    side, number = block[:-2], int(block[-2:])
    return f"{side}{(number - (1 if side == 'IN' else 0)) // _PER_LEVEL}"


def _header(path: Path) -> _Header:
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    shapes = read_header(path).shapes
    check_lora(path, shapes)
    keys = {key: kohya for key in shapes if (kohya := kohya_key(key)) is not None}
    names = list(dict.fromkeys(key.partition(".")[0] for key in keys.values() if ".lora_down." in key))
    family = family_of(names)
    there = set(_blocks(family, names))
    return _Header(
        family,
        tuple(block for block in EVERY if block in there),
        any(key.endswith(".dora_scale") for key in keys.values()),
        tuple(shapes[key][0] for key, kohya in keys.items() if kohya.endswith(".lora_down.weight")),
    )


def _blocks(family: str, names: Sequence[str]) -> Iterator[str]:
    if family == "sd3":
        return
    for name in names:
        site = FAMILIES[family].module_path(name)
        if site is not None and (block := block_of(site)) is not None:
            yield block

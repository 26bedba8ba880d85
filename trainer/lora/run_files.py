"""The LoRA files that one run of any trainer left in a folder: which checkpoint each of them is.

Names: kohya `name-000010` (epoch) and `name-step00000500`; ai-toolkit `name_000000500` (step); OneTrainer
`…-save-500-10-0` (step, epoch, step of the epoch); diffusers and SimpleTuner `checkpoint-500/…` (step);
`epoch-5/…`; the final file without a number. What a file's metadata says comes before its name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.errors import ModelError

_ADAPTERS = ("pytorch_lora_weights", "adapter_model")
_FIXED_NAMES = {*_ADAPTERS, "model", "lora"}
"""File names that say nothing of a run, as diffusers and PEFT give them."""
_NO_STEMS = {"at", "last", "epoch"}  # sd-scripts' names where none is given
_PICKLES = (".pt", ".ckpt", ".bin", ".pth")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[_ T]\d\d-\d\d-\d\d")  # OneTrainer's, another one for each file
_END = 1 << 16  # bytes
_OF_ONE_RUN = {  # the same in all files of a run
    "ss_network_dim": "rank",
    "ss_network_alpha": "alpha",
    "ss_learning_rate": "learning rate",
    "ss_optimizer": "optimizer",
    "ss_lr_scheduler": "lr_scheduler",
    "ss_num_train_images": "number of photos",
    "ss_base_model_version": "base version",
    "ss_sd_model_hash": "base of hash",
}
_NAMES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (  # tried in this order
        r"(?P<stem>.*)-save-(?P<step>\d+)-(?P<epoch>\d+)-(?P<within>\d+)",
        r"(?P<stem>|.*[-_ ])(?:global[-_]?)?steps?[-_=]?(?P<step>\d+)",
        r"(?P<stem>|.*[-_ ])(?:epochs?|ep|e)[-_=]?(?P<epoch>\d+)",
        r"(?P<stem>|.*[-_ ])checkpoint[-_](?P<step>\d+)(?:-rolling)?",
        r"(?P<stem>.+)-(?P<epoch>\d{6})",
        r"(?P<stem>.+)_(?P<step>\d{8,9})",
        r"(?P<stem>.+)[-_](?P<number>\d+)",
    )
)


@dataclass(frozen=True)
class RunFile:
    """One file of a run.

    Attributes:
        name: path inside the folder, with slashes.
        stem: the run's name, as far as the file's says it; "" where it says none.
        epoch, step: what it is a checkpoint of; None where nobody says. number: one of both, it is not said which.
        metadata: what the file says of itself.
        modules: its tensors' names and shapes.
    """

    path: Path
    name: str
    stem: str
    epoch: int | None
    step: int | None
    number: int | None
    metadata: Mapping[str, str]
    modules: Mapping[str, tuple[int, ...]]

    @property
    def is_final(self) -> bool:
        """Whether nothing says which checkpoint it is: the file that a run ends with."""
        return self.epoch is None and self.step is None and self.number is None

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps of an epoch, where kohya's metadata says it."""
        return _steps_per_epoch(self.metadata)


@dataclass(frozen=True)
class RunFolder:
    """What a folder holds. files: the LoRA files by name. skipped: names of .safetensors files that are no LoRA."""

    files: tuple[RunFile, ...]
    skipped: tuple[str, ...] = ()


def run_files(folder: str | Path) -> RunFolder:
    """The LoRA files of a folder and the folders in it; nothing of their weights is read.

    What trainers leave beside them is passed over: states to go on from (`…-state/`), whole models and embeddings.

    Raises:
        ModelError: no such folder, no LoRA, or a damaged file, or an adapter of another kind or for another
            kind of base.
    """
    from trainer.families.layout import read_header
    from trainer.lora.architectures import check_lora
    from trainer.lora.key_styles import is_lora, other_kind

    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ModelError(f"{folder}: expected a folder of LoRA files, got {'a file' if folder.exists() else 'nothing'}")
    found, skipped = list[RunFile](), list[str]()
    for path in _candidates(folder):
        header = read_header(path)
        if is_lora(header.shapes) or other_kind(header.shapes) is not None:
            check_lora(path, header.shapes)
            found.append(_run_file(folder, path, dict(header.metadata), header.shapes))
        else:
            skipped.append(path.relative_to(folder).as_posix())
    if not found:
        others = skipped or sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        got = f"only {', '.join(others[:3])}" + ("" if skipped else ", which can run code") if others else "none"
        raise ModelError(f"{folder}: expected LoRA files (.safetensors) of one run, got {got}")
    wholes = {file.stem for file in found}
    return RunFolder(tuple(_final_of_its_stem(file, wholes) for file in found), tuple(skipped))


def _candidates(folder: Path) -> list[Path]:
    paths = [*folder.iterdir(), *(path for inner in folder.iterdir() if inner.is_dir() for path in _listed(inner))]
    files = [path for path in paths if path.suffix.lower() == ".safetensors" and not path.name.startswith(".")]
    files = sorted(path for path in files if path.exists() and not path.is_dir())
    adapters = {path.parent for path in files if path.stem in _ADAPTERS}
    # beside an adapter in a folder of its own lie copies of it, and whole models
    return [path for path in files if path.stem in _ADAPTERS or path.parent == folder or path.parent not in adapters]


def _listed(folder: Path) -> list[Path]:
    hidden = folder.name.startswith(".") or folder.name.endswith("-state")
    return [] if hidden else list(folder.iterdir())


def _final_of_its_stem(file: RunFile, stems: Collection[str]) -> RunFile:
    """`dog-2` beside `dog-2-000002` is the final file of the run `dog-2`; what it says of itself stays."""
    whole = file.path.stem
    if whole == file.stem or whole not in stems or _told(file.metadata) != (None, None):
        return file
    return replace(file, stem=whole, epoch=None, step=None, number=None)


def _run_file(folder: Path, path: Path, metadata: dict[str, str], shapes: Mapping[str, tuple[int, ...]]) -> RunFile:
    own = "" if path.stem in _FIXED_NAMES else path.stem
    stem, epoch, step, number = _by_name(own)
    if epoch is None and step is None and path.parent != folder:
        _, *counts = _by_name(path.parent.name)
        if counts[0] is not None or counts[1] is not None:
            stem, (epoch, step, number) = own, counts
    told_epoch, told_step = _told(metadata)
    if number is not None and number in (told_epoch, told_step):
        epoch, step, number = told_epoch, told_step, None
    elif (told_epoch or told_step) and (
        number is not None
        or (epoch is not None and told_epoch not in (None, epoch))
        or (step is not None and told_step != step)
        or (epoch is None and step is None)
    ):  # then a number in the name is part of the run's
        stem, epoch, step, number = own, told_epoch, told_step, None
    epoch, step = (
        epoch or (told_epoch if step is not None else None),
        step or (told_step if epoch is not None else None),
    )
    name = path.relative_to(folder).as_posix()
    return RunFile(
        path, name, "" if stem in _NO_STEMS else stem, epoch or None, step or None, number, metadata, dict(shapes)
    )


def _by_name(name: str) -> tuple[str, int | None, int | None, int | None]:
    """(stem, epoch, step, a number of unknown meaning) as a file's or folder's name says them."""
    match = next((match for pattern in _NAMES if (match := pattern.fullmatch(name))), None)
    if match is None:
        return name, None, None, None
    groups = match.groupdict()
    epoch = None if _whole(groups.get("within")) else _whole(groups.get("epoch"))  # within one, only the step is exact
    stem = _TIMESTAMP.sub("", groups["stem"] or "").strip("-_ ")
    return stem, epoch, _whole(groups.get("step")), _whole(groups.get("number"))


def _told(metadata: Mapping[str, str]) -> tuple[int | None, int | None]:
    """(epoch, step) as kohya's and ai-toolkit's metadata say them; an epoch only where one had ended."""
    epoch, step = _whole(metadata.get("ss_epoch")), _whole(metadata.get("ss_steps"))
    each = _steps_per_epoch(metadata)
    if each is not None and epoch is not None and step is not None and step != epoch * each:
        epoch = None  # kohya's step files name the epoch under way, and from 0
    if step is None:
        step = _whole(_json(metadata.get("training_info")).get("step"))  # its epoch is the one under way
    return epoch or None, step or None


def _steps_per_epoch(metadata: Mapping[str, str]) -> int | None:
    batches = _whole(metadata.get("ss_num_batches_per_epoch"))
    accumulated = _whole(metadata.get("ss_gradient_accumulation_steps")) or 1
    return None if not batches else -(-batches // accumulated)


def weights_digest(path: Path) -> str:
    """SHA-256 of what a file's tensors begin and end with, and their size: weights that differ, differ there. Metadata
    plays no part in it."""
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        size = path.stat().st_size - start
        file.seek(start)
        found = hashlib.sha256(str(size).encode() + file.read(_END))
        file.seek(start + max(0, size - _END))
        found.update(file.read())
    return found.hexdigest()


def _json(text: str | None) -> dict[str, Any]:
    try:
        read = json.loads(text) if text is not None else {}
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _whole(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def settings_of(files: Sequence[RunFile]) -> dict[str, str]:
    """What every file's metadata says alike of the run: kohya's `ss_*` keys."""
    first = dict(files[0].metadata)
    return {
        key: value
        for key, value in first.items()
        if key.startswith("ss_") and all(file.metadata.get(key) == value for file in files)
    }


def why_not_one_run(files: Sequence[RunFile]) -> str | None:
    """Two files that cannot be of one run, and why; None where they can."""
    first = files[0]
    numbered = {file.stem: file for file in files if not file.is_final and file.stem}
    if len(numbered) > 1:
        one, other = list(numbered.values())[:2]
        return f"{one.name} and {other.name}, whose names are of two runs"
    for file in files[1:]:
        if file.modules.keys() != first.modules.keys():
            return f"{first.name} and {file.name}, which train other layers"
        if file.modules != first.modules:
            return f"{first.name} and {file.name}, which are of other ranks, or for other bases"
        for key, what in _OF_ONE_RUN.items():
            said, other_said = first.metadata.get(key), file.metadata.get(key)
            if said is not None and other_said is not None and said != other_said:
                return f"{first.name} with {what} {said} and {file.name} with {other_said}"
    return None

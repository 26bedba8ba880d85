"""The LoRA files that one run of any trainer left in a folder: which checkpoint each of them is.

Names: kohya `name-000010` (epoch) and `name-step00000500`; ai-toolkit `name_000000500` (step); OneTrainer
`…-save-500-10-0` (step, epoch, step of the epoch); diffusers and SimpleTuner `checkpoint-500/…` (step);
`epoch-5/…`; the final file without a number. What a file's metadata says comes before its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import ModelError

_FIXED_NAMES = {"adapter_model", "pytorch_lora_weights", "model", "lora"}
_NAMES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (  # tried in this order
        r"(?P<stem>.*)-save-(?P<step>\d+)-(?P<epoch>\d+)-(?P<within>\d+)",
        r"(?P<stem>|.*[-_ ])(?:global[-_]?)?steps?[-_=]?(?P<step>\d+)",
        r"(?P<stem>|.*[-_ ])(?:epochs?|ep|e)[-_=]?(?P<epoch>\d+)",
        r"(?P<stem>|.*[-_ ])checkpoint[-_](?P<step>\d+)",
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
        """Optimizer steps of an epoch, where the metadata says both counts at the end of one."""
        epoch, step = _whole(self.metadata.get("ss_epoch")), _whole(self.metadata.get("ss_steps"))
        return step // epoch if epoch and step and step % epoch == 0 else None


def run_files(folder: str | Path) -> list[RunFile]:
    """The LoRA files of a folder and the folders in it, by name; nothing of their weights is read.

    Raises:
        ModelError: no such folder, no file, or a file that is damaged or no LoRA.
    """
    from trainer.families.layout import read_header
    from trainer.lora.key_styles import check_kind

    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: expected a folder of LoRA files, got {'a file' if folder.exists() else 'nothing'}")
    paths = sorted(path for pattern in ("*.safetensors", "*/*.safetensors") for path in folder.glob(pattern))
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not paths:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".pt", ".ckpt", ".bin", ".pth"))
        got = f"only {', '.join(others[:3])}, which can run code" if others else "none"
        raise ModelError(f"{folder}: expected LoRA files (.safetensors) of one run, got {got}")
    found = []
    for path in paths:
        header = read_header(path)
        check_kind(path, header.shapes)
        found.append(_run_file(folder, path, dict(header.metadata), header.shapes))
    return found


def _run_file(folder: Path, path: Path, metadata: dict[str, str], shapes: Mapping[str, tuple[int, ...]]) -> RunFile:
    own = "" if path.stem in _FIXED_NAMES else path.stem
    said = (own, path.parent.name if path.parent != folder else "")
    matches = (pattern.fullmatch(name) for name in said if name for pattern in _NAMES)
    groups = next((match.groupdict() for match in matches if match), {"stem": own})
    epoch, step = _whole(groups.get("epoch")), _whole(groups.get("step"))
    if (_whole(groups.get("within")) or 0) > 0:
        epoch = None  # within an epoch: only its step is exact
    number = _whole(groups.get("number"))
    told_epoch, told_step = _told(metadata)
    if number is not None and number in (told_epoch, told_step):
        epoch, step, number = told_epoch, told_step, None
    elif number is not None and (told_epoch or told_step):
        number = None  # part of the run's name
    if number is None and epoch is None and step is None:
        epoch, step = told_epoch, told_step
    elif step is not None and epoch is None and told_step == step and _at_end_of_epoch(metadata):
        epoch = told_epoch
    elif epoch is not None and step is None and told_epoch == epoch:
        step = told_step
    stem = str(groups["stem"] or "").rstrip("-_ ")
    name = path.relative_to(folder).as_posix()
    return RunFile(path, name, stem, epoch or None, step or None, number, metadata, dict(shapes))


def _told(metadata: Mapping[str, str]) -> tuple[int | None, int | None]:
    """(epoch, step) as kohya's, ai-toolkit's metadata say them."""
    info = _json(metadata.get("training_info"))
    epoch, step = metadata.get("ss_epoch", info.get("epoch")), metadata.get("ss_steps", info.get("step"))
    return _whole(epoch) or None, _whole(step) or None


def _at_end_of_epoch(metadata: Mapping[str, str]) -> bool:
    """Whether kohya's counts say that the file was written as an epoch ended."""
    epoch, step = _whole(metadata.get("ss_epoch")), _whole(metadata.get("ss_steps"))
    batches = _whole(metadata.get("ss_num_batches_per_epoch"))
    accumulated = _whole(metadata.get("ss_gradient_accumulation_steps")) or 1
    return bool(epoch and step and batches and step == epoch * -(-batches // accumulated))


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


_OF_ONE_RUN = {
    "ss_network_dim": "rank",
    "ss_network_alpha": "alpha",
    "ss_learning_rate": "learning rate",
    "ss_optimizer": "optimizer",
    "ss_lr_scheduler": "lr_scheduler",
    "ss_seed": "seed",
    "ss_num_train_images": "number of photos",
    "ss_base_model_version": "base version",
    "ss_sd_model_hash": "base of hash",
}

"""Which LoRA files a person means: files, folders of a run, a trial; some epochs of it. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import LORA_FILE, checkpoints
from trainer.config.yaml_file import read_yaml
from trainer.errors import ConfigError, ModelError
from trainer.lora.run_files import RunFile, run_files

MOST = 8
"""Checkpoints of a folder that are taken where nobody says which."""


@dataclass(frozen=True)
class Chosen:
    """A LoRA file to look at. name: what it is called beside the others. of: the folder or run it belongs to, or ""."""

    path: Path
    name: str
    of: str = ""


def chosen(places: Sequence[Path], epochs: Sequence[int] | None = None) -> tuple[Chosen, ...]:
    """The files at `places`, in order; of a folder those of `epochs`, or `MOST` spread over it.

    Args:
        places: LoRA files, folders with the files of one run, folders of a trial or a training (with `checkpoints/`).
        epochs: of the folders' checkpoints: epochs, or steps where their files count steps.

    Raises:
        ModelError: nothing there, no LoRA files. ConfigError: no checkpoint of such an epoch.
    """
    found = list[Chosen]()
    folders = sum(place.is_dir() for place in places)
    for place in (Path(place).expanduser() for place in places):
        if place.is_dir():
            of = _title(place) if folders > 1 else ""
            found += [Chosen(path, name, of) for name, path in _of_folder(place, epochs)]
        elif place.is_file():
            found.append(Chosen(place, place.stem))
        else:
            raise ModelError(f"{place}: no such file")
    return tuple(found)


def base_of(places: Sequence[Path]) -> str | None:
    """The base that a trial's folder says it was trained on; None where none says it, or they say different ones."""
    said = set[str]()
    for place in places:
        settings = place / "config.yaml"
        if settings.is_file():
            base = read_yaml(settings).get("base")
            said |= {base} if isinstance(base, str) else set()
    return said.pop() if len(said) == 1 else None


def _of_folder(place: Path, epochs: Sequence[int] | None) -> list[tuple[str, Path]]:
    unit, numbered, final = _numbered(place)
    counts = sorted(numbered)
    if epochs is not None:
        for epoch in epochs:
            if epoch not in numbered:
                there = ", ".join(map(str, counts)) or "none"
                raise ConfigError(None, "--epochs", epoch, f"a checkpoint in {place}", f"it has {unit}s {there}")
        return [(f"{unit} {epoch}", numbered[epoch]) for epoch in dict.fromkeys(epochs)]
    named = [(f"{unit} {count}", numbered[count]) for count in counts]
    named += [] if final is None else [("final", final)]
    if len(named) <= MOST:
        return named
    last = len(named) - 1
    return [named[round(place * last / (MOST - 1))] for place in range(MOST)]


def _numbered(place: Path) -> tuple[str, dict[int, Path], Path | None]:
    """What a folder's files count, each by its number, and the final one without a number."""
    own = {int(folder.name): folder / LORA_FILE for folder in checkpoints(place / "checkpoints")}
    if own:
        return "epoch", {epoch: file for epoch, file in own.items() if file.is_file()}, None
    files = run_files(place).files
    steps = all(_epoch(file) is None for file in files) and any(file.step is not None for file in files)
    numbered = {(file.step if steps else _epoch(file)): file.path for file in files}
    final = numbered.pop(None, None)
    return "step" if steps else "epoch", {n: path for n, path in numbered.items() if n is not None}, final


def _epoch(file: RunFile) -> int | None:
    return file.epoch if file.epoch is not None else file.number


def _title(place: Path) -> str:
    """A trial's folder is called by its number."""
    name = place.resolve().name
    return f"trial {int(name)}" if name.isdigit() else name

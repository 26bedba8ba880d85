"""A study file and those that it extends, read as one: what each key says, and the file in which it stands."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from search.errors import StudyError, problem
from search.study.comment_lines import comment_lines
from trainer.config.yaml_file import parse_yaml, read_yaml
from trainer.errors import ConfigError

EXTENDS = "extends"
COMMAND_LINE = Path("--set")
"""In place of a file: where settings of the command line stand. Paths among them are seen from the working folder."""
PATHS = ("base", "data", "reg_data", "from", "score.encoder", "score.identity_encoder", "score.shifted.masks",
         "checkpoints.folder", "delivery.lora", "track.logging_dir")  # fmt: skip
"""Keys whose values may be paths: they are relative to the file in which they stand."""
_OWN = ("study", EXTENDS)
"""What a file says of itself alone: two studies of one name would share a folder."""
_WHY_OWN = "the other commands look for it in the file"
_MOST_FILES = 10


@dataclass(frozen=True)
class StudyFile:
    """Attributes:
    path: the file that was named.
    values: what it says, over what the files say that it extends.
    stands_in: dotted key to the file in which its value stands.
    extended: the other files, the nearest first.
    """

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    stands_in: Mapping[str, Path] = field(default_factory=dict)
    extended: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return str(self.path)

    def file_of(self, key: str) -> Path:
        """The file in which a key stands, or the section around it; the study file where neither does."""
        name = key.partition("[")[0]
        while name:
            found = [file for place, file in self.stands_in.items() if place == name or place.startswith(f"{name}.")]
            if found:
                return self.path if self.path in found else found[-1]
            name = name.rpartition(".")[0]
        return self.path

    def kept(self) -> bytes:
        """The study as it is kept in its folder: readable without the files that it extends. Paths of those in other
        folders are written as seen from the study file."""
        others = list(self.extended)
        if COMMAND_LINE in self.stands_in.values():
            others.append(COMMAND_LINE)
        if not others:
            return self.path.read_bytes()
        names = ", ".join(path.name for path in others)
        head = comment_lines(f"{self.path.name}, with what it takes from {names}")
        values = {"study": self.values.get("study"), **{k: v for k, v in self.values.items() if k not in _OWN}}
        values = _mapped(values, self._seen_from_here)
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
        return "\n".join([*head, text]).encode()

    def _seen_from_here(self, key: str, value: Any) -> Any:
        there = self.file_of(key).parent
        if key not in PATHS or not isinstance(value, str) or there.resolve() == self.path.parent.resolve():
            return value
        try:
            if not (there / value).exists():  # a hub id, the name of an encoder
                return value
            return Path(os.path.relpath((there / value).resolve(), self.path.parent.resolve())).as_posix()
        except (OSError, ValueError):  # too long for a path; another drive
            return value


def read_study_file(path: str | Path, settings: Sequence[str] = ()) -> StudyFile:
    """The file with those that it extends. A mapping is merged key by key, and ours goes before theirs; null takes out
    what theirs says; an entry under `search` counts as a whole.

    Args:
        settings: of the command line, each as `budget.trials=40`; they go before what the files say.

    Raises:
        StudyError: a file or a setting that cannot be read, or files that extend each other in a circle: one line.
    """
    chain = list(_chain(Path(path)))
    values: dict[str, Any] = {}
    stands_in: dict[str, Path] = {}
    for file, said in reversed(chain):
        if file != chain[0][0]:
            said = {key: value for key, value in said.items() if key not in _OWN}
        values = _laid_over(values, said, file, stands_in)
    for setting in settings:
        values = _laid_over(values, _setting(setting), COMMAND_LINE, stands_in)
    return StudyFile(Path(path), values, stands_in, tuple(file for file, _ in chain[1:]))


def _setting(text: str) -> dict[str, Any]:
    """`budget.trials=40` as the section that a file would have for it."""
    key, equals, said = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise StudyError([problem(COMMAND_LINE, "", text, "a setting such as budget.trials=40")])
    try:
        value = parse_yaml(said, COMMAND_LINE)
    except ConfigError:
        raise StudyError([problem(COMMAND_LINE, key.strip(), said, "a value as a study file would have it")]) from None
    if names[0] in _OWN:
        raise StudyError([problem(COMMAND_LINE, names[0], said, "a setting other than the study's name", _WHY_OWN)])
    for name in reversed(names):
        value = {name: value}
    return value


def _chain(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The file, the one that it extends, the one that that one extends, each with what it says itself."""
    seen: list[Path] = []
    while True:
        try:
            values = read_yaml(path)
        except ConfigError as error:
            raise StudyError([str(error)]) from None
        yield path, values
        seen.append(path)
        named = values.get(EXTENDS)
        if named is None:
            return
        path = _extended(seen, named)


def _extended(seen: Sequence[Path], named: Any) -> Path:
    file = seen[-1]
    if not isinstance(named, str) or not named.strip():
        raise StudyError([problem(file, EXTENDS, named, "the name of another study file")])
    try:
        path = file.parent / Path(named).expanduser()
        there = path.exists()
        circle = there and any(path.samefile(one) for one in seen)
    except (OSError, ValueError, RuntimeError):  # too long for a path, with a NUL, the home of nobody
        there = circle = False
    if not there:
        raise StudyError([problem(file, EXTENDS, named, "a file that is there, relative to this one")])
    if circle:
        round_ = " → ".join(one.name for one in (*seen, path))
        raise StudyError([problem(file, EXTENDS, named, "files that do not extend each other in a circle", round_)])
    if len(seen) >= _MOST_FILES:
        raise StudyError([problem(file, EXTENDS, named, f"at most {_MOST_FILES} files, one extending the other")])
    return path


def _laid_over(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], file: Path, stands_in: dict[str, Path], prefix: str = ""
) -> dict[str, Any]:
    merged = dict(theirs)
    for name, value in ours.items():
        key = f"{prefix}{name}"
        before = merged.get(name)
        if isinstance(value, dict) and isinstance(before, dict) and value and prefix != "search.":
            merged[name] = _laid_over(before, value, file, stands_in, f"{key}.")
            continue
        for place in [place for place in stands_in if place == key or place.startswith(f"{key}.")]:
            del stands_in[place]
        if value is None and name in theirs:
            del merged[name]
            continue
        merged[name] = value
        stands_in |= dict.fromkeys(_places(key, value), file)
    return merged


def _places(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _places(f"{key}.{name}", inner)
    else:
        yield key


def _mapped(values: Mapping[str, Any], change: Any, prefix: str = "") -> dict[str, Any]:
    return {
        name: _mapped(value, change, f"{prefix}{name}.")
        if isinstance(value, dict)
        else change(f"{prefix}{name}", value)
        for name, value in values.items()
    }

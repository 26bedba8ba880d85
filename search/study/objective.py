"""`score.objective`: a function of the user's own that makes the score of a checkpoint's readings.

It is looked up when the study file is read, and again in each worker: the same file then, or the worker refuses.
"""

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import isfinite
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from metrics.checkpoint.objective import scored_by
from metrics.trajectory.readings import Readings
from search.errors import SearchError, StudyError, problem
from search.study.study_file import COMMAND_LINE, StudyFile
from trainer.errors import nearest

KEY = "score.objective"
SOURCE = f"{KEY}: source"
"""The key of its source's digest in what may not change while a study goes on."""


class ObjectiveError(SearchError):
    """The function cannot score a checkpoint: the error says which function, and what it raised or returned."""


class MissingReadingError(ObjectiveError, KeyError):
    """It asked for a reading that this checkpoint does not have."""

    __str__ = SearchError.__str__


@dataclass(frozen=True)
class Objective:
    """A function of the user's own, by name; it is imported where it is called.

    Attributes:
        name: as module:function.
        folder: of the study file that names it; a module there goes before one of the environment.
        source: digest of the file that the function's module is; "" where it is none.
    """

    name: str
    folder: str
    source: str

    def __call__(self, values: Mapping[str, float]) -> float:
        """The score of a checkpoint's readings, channel to value.

        Raises:
            ObjectiveError: it raises, or returns no finite number.
        """
        try:
            found = _function(self.name, self.folder, self.source)(_Values(values, self.name))
        except ObjectiveError:
            raise
        except Exception as error:
            raise ObjectiveError(f"{KEY}: {self.name} raised {_said(error)}") from error
        return self._number(found)

    def _number(self, found: Any) -> float:
        if hasattr(found, "item") and getattr(found, "ndim", None) == 0:  # a numpy or torch number
            found = found.item()
        if not isinstance(found, Real) or isinstance(found, bool):
            raise ObjectiveError(f"{KEY}: {self.name} returned {_short(repr(found))}, expected a number")
        try:
            number = float(found)
        except OverflowError:
            number = float("inf")
        if not isfinite(number):
            raise ObjectiveError(f"{KEY}: {self.name} returned {number}, expected a finite number")
        return number


class _Values(dict[str, float]):
    """A copy for each call, which the function may change; what is not there is told by name."""

    def __init__(self, values: Mapping[str, float], name: str) -> None:
        super().__init__(values)
        self._name = name

    def __missing__(self, key: object) -> float:
        there = f"it has {', '.join(sorted(self))}{nearest(key, self)}"
        raise MissingReadingError(f"{KEY}: {self._name} asks for the reading {_short(repr(key))}: {there}")


def base_scored(
    objective: Objective | None, readings: Readings, also: Mapping[str, float] | None = None
) -> tuple[Readings, tuple[str, ...]]:
    """As `scored_by` for the base, and what is to be told of that. It has learned nothing: a function that divides by
    zero there leaves it without a score.

    Raises:
        MissingReadingError: it asks for a reading that this study does not take.
    """
    try:
        return scored_by(objective, readings, also), ()
    except MissingReadingError:
        raise
    except ObjectiveError as error:
        found = scored_by(lambda values: float("nan"), readings)
        return found, (f"{error}: the base without a LoRA has no score",)


def read_objective(file: StudyFile, name: str | None) -> Objective | None:
    """The function that a study file names; None where it names none.

    Raises:
        StudyError: it cannot be imported, or is nothing that can be called.
    """
    if name is None:
        return None
    place = file.file_of(KEY)
    folder = str((file.path if place == COMMAND_LINE else place).parent.resolve())
    try:
        with _importing_from(folder):
            module, source = _module(name.partition(":")[0], folder)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise StudyError([problem(file, KEY, name, "a function that can be imported", _said(error))]) from None
    module_name, _, function = name.partition(":")
    found = getattr(module, function, None)
    if found is None:
        near = nearest(function, [one for one, value in vars(module).items() if callable(value)])
        raise StudyError([problem(file, KEY, name, f"a function that {module_name} has{near}")])
    if not callable(found) or isinstance(found, type):
        raise StudyError([problem(file, KEY, name, "a function of a checkpoint's readings")])
    return Objective(name, folder, source)


@cache
def _function(name: str, folder: str, source: str) -> Callable[[Mapping[str, float]], Any]:
    sys.path.append(folder)  # for good: it may import something whenever it is called
    module, found = _module(name.partition(":")[0], folder)
    if found != source:
        raise ObjectiveError(f"{KEY}: the file of {name} has changed since the study was started")
    function: Callable[[Mapping[str, float]], Any] = getattr(module, name.partition(":")[2])
    return function


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    """What the module imports may lie beside it; the environment goes first."""
    before = list(sys.path)
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path[:] = before


def _module(name: str, folder: str) -> tuple[ModuleType, str]:
    """A module beside the study file, or one of the environment, and the digest of its file."""
    beside = Path(folder) / f"{name}.py"
    if "." in name or not beside.is_file():
        module = importlib.import_module(name)
        path = getattr(module, "__file__", None)
        return module, "" if path is None else _digest(Path(path).read_bytes())
    # from this file, whatever else has the name: another study's may have been imported before it
    source = beside.read_bytes()
    digest = _digest(source)
    alias = f"_objective_{digest[:16]}_{name}"
    if alias not in sys.modules:
        module = ModuleType(alias)
        module.__file__ = str(beside)
        sys.modules[alias] = module  # dataclasses look for it there
        try:
            exec(compile(source, str(beside), "exec"), module.__dict__)
        except BaseException:
            del sys.modules[alias]
            raise
    return sys.modules[alias], digest


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _said(error: BaseException) -> str:
    return _short(f"{type(error).__name__}: {error}")


def _short(text: str) -> str:
    return " ".join(text.split())[:200]

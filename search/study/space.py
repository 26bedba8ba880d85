"""What a study searches: TrainConfig fields with `values`, `value` or `min`/`max`, and `when:` for conditional ones.

A field may be given a list of such entries with conditions that exclude each other; where none holds, the fixed value
under `train` counts (or the TrainConfig's default).
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from search.errors import KeyedFiles, problem
from search.study.choices import every_choice
from trainer.config.config import TrainConfig, expected_of, meant, parse_train_config, strict_type
from trainer.config.rules import FLAT_SCHEDULERS, check_pair, check_rate
from trainer.config.yaml_file import as_number
from trainer.errors import ConfigError, Plain, known_key, nearest

if TYPE_CHECKING:
    import optuna

ENTRY_KEYS = ("values", "value", "min", "max", "log", "step", "when")
_FORMS = "a mapping: {values: […]}, {value: x} or {min: a, max: b}"
_MOST_COMBINATIONS = 4096
_MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One way in which a field is chosen.

    Attributes:
        field: TrainConfig field.
        parameter: name in Optuna; the field's, or `field#2` for the second entry of a field.
        values: choices, one for a constant; empty for a range.
        low, high, log, step: a range; whole numbers when `whole`.
        when: field to the values of it for which this entry counts.
    """

    field: str
    parameter: str
    values: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    whole: bool = False
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def active(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the conditions hold for what has been chosen so far."""
        return all(field in chosen and chosen[field] in values for field, values in self.when)

    @property
    def constant(self) -> bool:
        return len(self.values) == 1

    @property
    def corners(self) -> tuple[Any, ...]:
        """Values that stand for all: every choice of words, the ends of numbers."""
        if not self.values:
            return (self.low, self.high)
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)
        return tuple(dict.fromkeys((self.values[0], self.values[-1]))) if numbers else self.values

    def stored(self, value: Any) -> "tuple[Any, optuna.distributions.BaseDistribution]":
        """A chosen value as Optuna stores it, and what `suggest` chooses from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.values:
            return label(value), CategoricalDistribution([label(each) for each in self.values])
        if self.whole:
            return int(value), IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return float(value), FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, trial: "optuna.trial.Trial") -> Any:
        """Ask Optuna for a value."""
        if self.values:
            labels = {label(value): value for value in self.values}
            return labels[trial.suggest_categorical(self.parameter, list(labels))]
        if self.whole:
            return trial.suggest_int(
                self.parameter, int(self.low), int(self.high), log=self.log, step=int(self.step or 1)
            )
        return trial.suggest_float(self.parameter, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Space:
    """All entries, each after those that its conditions look at."""

    entries: tuple[Entry, ...] = ()

    def suggest(self, trial: "optuna.trial.Trial", before: Callable[[str], None]) -> dict[str, Any]:
        """The searched TrainConfig fields of one trial.

        Args:
            trial: a running Optuna trial; values it already has are returned again.
            before: called with the parameter's name before each of them is asked for.
        """
        chosen: dict[str, Any] = {}
        for entry in self.entries:
            if not entry.active(chosen):
                continue
            if not entry.constant:
                before(entry.parameter)
            chosen[entry.field] = entry.values[0] if entry.constant else entry.suggest(trial)
        return chosen

    def stored(self, fields: Mapping[str, Any]) -> "dict[str, tuple[Any, optuna.distributions.BaseDistribution]]":
        """What `suggest` returned, as Optuna stores it: parameter to its value and what it was chosen from.

        Raises:
            KeyError: a field that is searched is not among them.
        """
        chosen: dict[str, Any] = {}
        found = {}
        for entry in self.entries:
            if entry.active(chosen):
                chosen[entry.field] = fields[entry.field]
                if not entry.constant:
                    found[entry.parameter] = entry.stored(fields[entry.field])
        return found

    def combinations(self) -> Iterator[dict[str, Any]]:
        """What can be chosen together, numbers by their ends; a seeded sample when there are thousands."""
        size = 1
        for entry in self.entries:
            size *= len(entry.corners)
        if size <= _MOST_COMBINATIONS:
            yield from every_choice(self.entries, {})
            return
        rng = random.Random(0)
        for _ in range(_MOST_COMBINATIONS):
            chosen: dict[str, Any] = {}
            for entry in self.entries:
                if entry.active(chosen):
                    chosen[entry.field] = rng.choice(entry.corners)
            yield chosen

    def check(self, file: Path | KeyedFiles, fixed: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Build the TrainConfig of every combination: (notices, problems).

        Notices are what takes no effect in any of them, and what is to be known of some. Problems are combinations
        that cannot be trained and dimensions that do nothing somewhere.
        """
        found: dict[tuple[str, str], str] = {}
        warned: set[str] = set()
        said: set[str] | None = None
        for chosen in self.combinations():
            twice = [e.field for e in self.entries if e.active(chosen) and e.field in chosen]
            for field in {f for f in twice if twice.count(f) > 1}:
                found.setdefault(
                    (field, "twice"), problem(file, f"search.{field}", field, "entries whose `when:` never overlap")
                )
            values = {**fixed, **chosen}
            notices = self._check_one(file, values, chosen, found, warned)
            said = notices if said is None else said & notices
        return sorted((said or set()) | warned), list(found.values())

    def _check_one(
        self,
        file: Path | KeyedFiles,
        values: dict[str, Any],
        chosen: Mapping[str, Any],
        found: dict[tuple[str, str], str],
        warned: set[str],
    ) -> set[str]:
        def default(key: str) -> Any:
            return values.get(key, TrainConfig.model_fields[key].default)

        optimizer, scheduler = default("optimizer"), default("lr_scheduler")
        if (pair := check_pair(optimizer, scheduler, default("relative_step"))) is not None:
            where = f"{'search' if pair.key in chosen else 'train'}.{pair.key}"
            searched = {"optimizer", "lr_scheduler", "relative_step"} & chosen.keys()
            why = "; ".join([pair.why, *(["exclude the pair with `when:`"] if searched else [])])
            found.setdefault((optimizer, scheduler), problem(file, where, default(pair.key), pair.expected, why))
            return set()
        try:
            config = parse_train_config(values)
        except ConfigError as errors:
            for error in errors.all:
                where = f"search.{error.key}" if error.key in chosen else f"train.{error.key}"
                words = {k: v for k, v in chosen.items() if isinstance(v, str | bool) and k != error.key}
                under = ["under " + ", ".join(f"{k}: {v}" for k, v in words.items())] if words else []
                why = "; ".join([*([error.why] if error.why else []), *under])
                line = problem(file, where, error.value, error.expected, why)
                found.setdefault((error.key, error.expected), line)
            return set()
        if (wrong := check_rate(config)) is not None:
            key, expected, why = wrong
            where = f"search.{key}" if key in chosen else f"train.{key}"
            found.setdefault((key, optimizer), problem(file, where, getattr(config, key), expected, why))
            return set()
        notices = set(config.notices())
        warned.update(config.cautions())
        if {"num_cycles", "cycle_epochs"}.isdisjoint(values):
            warned.update(notice for notice in notices if notice.startswith("cosine_with_restarts"))
        for notice in notices:
            field = "num_cycles" if notice.startswith("cosine_with_restarts with one cycle") else notice.split(":")[0]
            if field in chosen:
                found.setdefault(
                    (field, "dead"),
                    problem(
                        file, f"search.{field}", chosen[field], "values that do something in every trial",
                        f"{notice}; give it a `when:`",
                    ),
                )  # fmt: skip
        if "epochs" in chosen and scheduler in FLAT_SCHEDULERS:
            expected = f"a `when:` that leaves out {', '.join(FLAT_SCHEDULERS)}"
            why = f"with {scheduler} a long run contains all shorter ones: train.epochs says how far it goes"
            found.setdefault(("epochs", "dead"), problem(file, "search.epochs", None, expected, why))
        return notices


def parse_space(
    file: Path | KeyedFiles, searched: Mapping[str, Any], train: Mapping[str, Any]
) -> tuple[Space, list[str]]:
    """Reads the `search` section and checks names and types of it and of `train`: (space, problems)."""
    problems: list[str] = []
    for key, value in train.items():
        if _known(file, f"train.{key}", key, value, problems):
            _typed(file, f"train.{key}", key, value, problems)
    entries: list[Entry] = []
    for key, written in searched.items():
        if not _known(file, f"search.{key}", key, written, problems):
            continue
        several = isinstance(written, list)
        if written == []:
            problems.append(problem(file, f"search.{key}", written, "at least one entry, or the field left out"))
        if several and written and not any(isinstance(one, dict) for one in written):
            problems.append(problem(file, f"search.{key}", written, f"{_FORMS}, so {{values: {_listed(written)}}}"))
            continue
        for index, one in enumerate(written if several else [written]):
            where = f"search.{key}[{index}]" if several else f"search.{key}"
            entry = _entry(file, where, key, key if index == 0 else f"{key}#{index + 1}", one, problems)
            if entry is not None:
                entries.append(entry)
                if key in train and not entry.when and not several:
                    problems.append(problem(file, f"train.{key}", train[key], "nothing", "it is searched"))
    if {"rank", "alpha"} <= searched.keys():
        expected, why = "alpha_ratio where rank is searched, too", "alpha then stays at most rank"
        problems.append(problem(file, "search.alpha", "alpha", expected, why))
    if {"learning_rate", "learning_rate_scale"} <= searched.keys():
        problems.append(problem(file, "search.learning_rate", Plain("both"), "learning_rate or learning_rate_scale"))
    ordered = _ordered(file, entries, searched, problems)
    return Space(tuple(ordered)), problems


def _known(file: Path | KeyedFiles, where: str, key: str, value: Any, problems: list[str]) -> bool:
    if key in TrainConfig.model_fields:
        return True
    problems.append(problem(file, where, key, known_key(key, TrainConfig.model_fields)))
    return False


def _typed(file: Path | KeyedFiles, where: str, field: str, value: Any, problems: list[str]) -> Any:
    """The value as TrainConfig has it; a wrong one is added to the problems."""
    value = tuple(value) if isinstance(value, list) else meant(field, as_number(value))
    try:
        strict_type(field).validate_python(value)
    except ValidationError as error:
        problems.append(problem(file, where, value, expected_of(field, error.errors(include_url=False))))
    return value


def _entry(
    file: Path | KeyedFiles, where: str, field: str, parameter: str, written: Any, problems: list[str]
) -> Entry | None:
    if not isinstance(written, dict):
        problems.append(problem(file, where, written, _FORMS, "what is the same for all trials belongs to train"))
        return None
    for key in written:
        if key not in ENTRY_KEYS:
            problems.append(problem(file, f"{where}.{key}", str(key), known_key(str(key), ENTRY_KEYS)))
            return None
    before = len(problems)
    when = _conditions(file, where, written.get("when", {}), problems)
    forms = [form for form in (("values",), ("value",), ("min", "max")) if set(form) & written.keys()]
    if len(forms) != 1 or not set(forms[0]) <= written.keys():
        problems.append(problem(file, where, sorted(written), "exactly one of values, value, or min with max"))
        return None
    if forms[0] != ("min", "max"):
        for key in {"log", "step"} & written.keys():
            problems.append(problem(file, f"{where}.{key}", written[key], "nothing", "it belongs to min and max"))
        choices = written["values"] if forms[0] == ("values",) else [written["value"]]
        if not isinstance(choices, list) or not choices:
            problems.append(problem(file, f"{where}.values", choices, "a list with at least one value"))
            return None
        values = tuple(_typed(file, f"{where}.{forms[0][0]}", field, value, problems) for value in choices)
        if len({label(value) for value in values}) != len(values):
            problems.append(problem(file, f"{where}.values", choices, "each value once"))
        return Entry(field, parameter, values=values, when=when) if len(problems) == before else None
    low, high = (_typed(file, f"{where}.{end}", field, written[end], problems) for end in ("min", "max"))
    if len(problems) > before:
        return None
    return _range(file, where, Entry(field, parameter, when=when), low, high, written, problems)


def _listed(choices: list[Any]) -> str:
    """A short list as YAML reads it, […] for any other."""
    short = len(choices) <= 10 and all(isinstance(one, bool | int | float | str) for one in choices)
    text = json.dumps(choices, ensure_ascii=False) if short else ""
    return text if 0 < len(text) <= 60 else "[…]"


def _range(
    file: Path | KeyedFiles,
    where: str,
    entry: Entry,
    low: Any,
    high: Any,
    written: Mapping[str, Any],
    problems: list[str],
) -> Entry | None:
    before = len(problems)
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in (low, high)):
        problems.append(problem(file, where, [low, high], "values", "this field is not a number"))
        return None
    annotation = TrainConfig.model_fields[entry.field].annotation
    whole = float not in (annotation, *get_args(annotation))
    log, step = written.get("log", False), as_number(written.get("step"))
    if low >= high:
        problems.append(problem(file, f"{where}.max", high, f"more than min ({low})", "`value` is for a single one"))
    if not isinstance(log, bool):
        problems.append(problem(file, f"{where}.log", log, "true or false"))
    elif log and (low <= 0 or step is not None):
        problems.append(problem(file, f"{where}.log", log, "false unless min is above 0 and there is no step"))
    if step is not None and (
        isinstance(step, bool)
        or not isinstance(step, int if whole else int | float)
        or not (high - low) / _MOST_STEPS <= step <= high - low
    ):
        kind = "a whole number above 0" if whole else "a number above 0"
        problems.append(problem(file, f"{where}.step", step, f"{kind}, at most max - min"))
    if len(problems) > before:
        return None
    if whole and step is not None:
        high = low + (high - low) // step * step
    return Entry(
        entry.field, entry.parameter, low=low, high=high, log=bool(log), step=step, whole=whole, when=entry.when
    )


def _conditions(
    file: Path | KeyedFiles, where: str, written: Any, problems: list[str]
) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    if not isinstance(written, dict):
        problems.append(problem(file, f"{where}.when", written, "a mapping: {field: value} or {field: [values]}"))
        return ()
    for key, value in written.items():
        if any(isinstance(one, dict | list) for one in (value if isinstance(value, list) else [value])):
            problems.append(problem(file, f"{where}.when.{key}", value, "a value, or a list of values"))
    several = {str(key): value if isinstance(value, list) else [value] for key, value in written.items()}
    return tuple((key, tuple(meant(key, value) for value in values)) for key, values in several.items())


def _ordered(
    file: Path | KeyedFiles, entries: list[Entry], searched: Mapping[str, Any], problems: list[str]
) -> list[Entry]:
    """Entries after those their conditions look at; conditions that can never hold become problems."""
    fields = {entry.field for entry in entries}
    for entry in entries:
        for field, values in entry.when:
            where = f"search.{entry.field}.when.{field}"
            if field not in fields:
                if field not in searched:
                    others = sorted(fields - {entry.field})
                    expected = f"a field that is searched{nearest(field, others)}"
                    problems.append(
                        problem(file, where, field, expected, f"searched are {', '.join(others) or 'no others'}")
                    )
                continue
            known = [v for e in entries if e.field == field for v in e.values]
            missing = [v for v in values if v not in known]
            if missing:
                among = ", ".join(map(str, known)) or "a range has none"
                problems.append(problem(file, where, missing[0], f"one of the values searched ({among})"))
    ordered: list[Entry] = []
    waiting = list(entries)
    while waiting:
        done = {e.field for e in ordered} - {e.field for e in waiting}
        ready = [e for e in waiting if all(field in done or field not in fields for field, _ in e.when)]
        if not ready:
            names = sorted({e.field for e in waiting})
            problems.append(problem(file, "search", names, "conditions that do not go round in a circle"))
            return ordered
        ordered += ready
        waiting = [e for e in waiting if e not in ready]
    return ordered


def label(value: Any) -> Any:
    """A choice as Optuna can store it."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)

"""Writes the reference pages from the code itself: every field of a study or training file, every option of a command.

python -m search.reference fields > docs/fields.md
python -m search.reference commands > docs/commands.md
"""

import argparse
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from metrics.run import command_line as metrics_run
from search.dashboard import command_line as search_dashboard
from search.data_check import command_line as search_data_check
from search.export import command_line as search_export
from search.flow import command_line as search_flow
from search.pick import command_line as search_pick
from search.run import command_line as search_run
from search.status import command_line as search_status
from search.study.json_schema import ENTRY, TOP
from search.study.kinds import KINDS
from search.study.settings import Argument
from search.study.space import ENTRY_KEYS
from search.study.study import NOT_SEARCHED, SECTIONS
from trainer.arguments import Arguments
from trainer.command import end
from trainer.config.config import OPEN_ENDED_TYPES, TrainConfig
from trainer.deliver import command_line as trainer_deliver
from trainer.draw import command_line as trainer_draw
from trainer.production.production_config import Output
from trainer.run import command_line as trainer_run

_WRITTEN_BY = "<!-- Written by `python -m search.reference {page}`. Change the code, then run it again. -->"
_FIELDS = """# Every field

A field that is left out has its default. "none" means that the field is not set; its meaning says what happens then.
[The study file](study-file.md) and [Training without a search](training.md) show how the files look."""
_COMMANDS_HEAD = """# Every command

Each has a short name, too, once Onset is installed: `onset run`, `status`, `dashboard`, `pick`, `export`, `data-check`,
`flow`, `train`, `draw`, `deliver`, `metrics`; and `onset demo` runs the demo study. `onset --help` lists them.
`onset completion --help` says how your shell completes them (bash, zsh, fish)."""
_COMMANDS = {
    "search.run": search_run,
    "search.status": search_status,
    "search.dashboard": search_dashboard,
    "search.data_check": search_data_check,
    "search.export": search_export,
    "search.pick": search_pick,
    "search.flow": search_flow,
    "trainer.run": trainer_run,
    "trainer.draw": trainer_draw,
    "trainer.deliver": trainer_deliver,
    "metrics.run": metrics_run,
}
_LIMITS = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}", "multiple_of": "multiples of {}"}


def fields_page() -> str:
    """docs/fields.md."""
    lines = [_WRITTEN_BY.format(page="fields"), _FIELDS, "", "## The study file", "", *_plain(TOP)]
    lines += ["", "### `search`: how a field is chosen", "", *_plain({key: ENTRY[key] for key in ENTRY_KEYS})]
    lines += ["", f"These are the same for all trials, so they cannot be searched: {_names(NOT_SEARCHED)}."]
    for key, model in SECTIONS.items():
        lines += [*section(key, model)]
    for kind in KINDS:
        lines += [*section(kind.key, kind)]
    lines += ["", "## The training file", "", "Also the fields that `train` and `search` of a study may name.", ""]
    lines += [*_table("", TrainConfig.model_fields), *section("output", Output)]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """docs/commands.md."""
    lines = [_WRITTEN_BY.format(page="commands"), _COMMANDS_HEAD]
    for name, command_line in _COMMANDS.items():
        parser = command_line()
        lines += ["", f"## `python -m {name}`", "", " ".join((parser.description or "").split()), ""]
        lines += ["| argument | meaning |", "| --- | --- |"]
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                lines.append(f"| {_argument(action)} | {_cell(_help(action))} |")
        lines += ["", "```text", (parser.epilog or "").strip(), "```"]
    return "\n".join(lines) + "\n"


def section(name: str, model: type[BaseModel]) -> Iterator[str]:
    """The lines of a section, headed by its name: a row for each field of `model`, its sections' fields among them.

    Raises:
        AssertionError: a field has no docstring.
    """
    yield from ("", f"### `{name}`", "", " ".join((model.__doc__ or "").split()), "")
    yield from _table(f"{name}.", model.model_fields)


def _table(prefix: str, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield "| field | default | range | meaning |"
    yield "| --- | --- | --- | --- |"
    yield from _rows(prefix, fields)


def _rows(prefix: str, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    for name, field in fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(f"{prefix}{name}.", field.annotation.model_fields)
            continue
        if not field.description:
            raise AssertionError(f"{prefix}{name} has no docstring")
        known = OPEN_ENDED_TYPES.get(name) if fields is TrainConfig.model_fields else None
        allowed = known or _allowed(field.annotation, field.metadata)
        cells = (f"`{prefix}{name}`", _default(field), allowed, field.description)
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _plain(meanings: Mapping[str, str]) -> Iterator[str]:
    yield "| field | meaning |"
    yield "| --- | --- |"
    for name, meaning in meanings.items():
        yield f"| `{name}` | {_cell(meaning)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if value == "":
        return "empty"
    if isinstance(value, list | tuple | dict):
        return "; ".join(f"`{one}`" for one in value) or "empty"
    return f"`{value}`"


def _allowed(kind: Any, limits: Sequence[Any] = ()) -> str:
    """A type and its limits in a reader's words."""
    if kind == Argument:
        return "a number, text, true, false, or a list of these"
    if get_origin(kind) in (Union, types.UnionType):
        return ", or ".join(_allowed(one, limits) for one in get_args(kind) if one is not type(None))
    if hasattr(kind, "__metadata__"):
        fields = [one.metadata if isinstance(one, FieldInfo) else [one] for one in kind.__metadata__]
        return _allowed(kind.__origin__, [limit for one in fields for limit in one])
    if get_origin(kind) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(kind))
    if get_origin(kind) in (list, tuple):
        return f"a list: {_allowed(get_args(kind)[0])}{_longest(limits, 'entries')}"
    if get_origin(kind) is dict:
        return f"names, each with {_allowed(get_args(kind)[1])}"
    if kind is bool:
        return "true, false"
    if kind is str:
        return f"text{_longest(limits, 'characters')}"
    found = {name: limit for one in limits for name, limit in _numbers(one)}
    what = "a whole number" if kind is int else "a number"
    if "ge" in found and "le" in found:
        many = f", in {_LIMITS['multiple_of'].format(found['multiple_of'])}" if "multiple_of" in found else ""
        return f"{what} from {found['ge']} to {found['le']}{many}"
    return ", ".join([what, *(_LIMITS[name].format(limit) for name, limit in found.items())])


def _numbers(limit: Any) -> Iterator[tuple[str, str]]:
    for name in _LIMITS:
        value = getattr(limit, name, None)
        if value is not None:
            yield name, "2^63" if value == 2**63 else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _longest(limits: Sequence[Any], what: str) -> str:
    longest = next((one.max_length for one in limits if getattr(one, "max_length", None) is not None), None)
    return "" if longest is None else f" (up to {longest:,} {what})"


def _argument(action: argparse.Action) -> str:
    name = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
    value = "" if action.nargs == 0 or not action.option_strings else f" {action.metavar or action.dest.upper()}"
    return f"`{name}{value}`" + (" (required)" if action.required else "")


def _help(action: argparse.Action) -> str:
    if not action.help:
        raise AssertionError(f"{action.dest} has no help")
    return action.help


def _names(fields: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in fields)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


_PAGES = {"fields": fields_page, "commands": commands_page}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = Arguments(
        prog="python -m search.reference",
        description="Print a reference page: every field of a study or training file, or every option of a command.",
        epilog="example:\n  python -m search.reference fields > docs/fields.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("page", choices=tuple(_PAGES), help="which page")
    sys.stdout.write(_PAGES[parser.parse_args(argv).page]())
    return 0


if __name__ == "__main__":
    end(main)

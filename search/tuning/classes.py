"""Samplers and pruners by name: ours, Optuna's, or anybody's class as module:Class."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trainer.errors import ConfigError

Kind = TypeVar("Kind")


def made(
    keys: tuple[str, str],
    name: str,
    arguments: Mapping[str, Any],
    known: Mapping[str, Callable[..., Kind]],
    kind: type[Kind],
    **ours: Any,
) -> Kind:
    """The object that a name stands for.

    Args:
        keys: where a study file has the name, and the keywords.
        name: of `known`, or module:Class.
        arguments: keywords of the user's; they go before `ours`.
        known: what makes each of the known ones.
        kind: what a class of one's own has to be.
        ours: keywords that are passed where the class takes them.

    Raises:
        ConfigError: no such class, not of this kind, or keywords that it does not take.
    """
    make: Callable[..., Kind] = known[name] if name in known else _own_class(keys[0], name, kind)
    try:
        return make(**{**ours, **arguments})
    except TypeError as first:
        try:
            return make(**arguments)  # a class of one's own need not know what a seed is
        except TypeError:
            raise ConfigError(None, keys[1], dict(arguments), f"keywords of {name}", _short(first)) from None
    except ModuleNotFoundError as error:
        raise ConfigError(None, keys[0], name, f"one that is installed: pip install {error.name}") from None
    except (ValueError, AttributeError) as error:
        raise ConfigError(None, keys[1], dict(arguments), f"values that {name} takes", _short(error)) from None


def _own_class(key: str, name: str, kind: type[Kind]) -> type[Kind]:
    module, _, called = name.partition(":")
    if "" not in sys.path:
        sys.path.append("")  # a module beside where the command is called
    try:
        found = getattr(importlib.import_module(module), called)
    except Exception as error:  # whatever it does when it is imported
        why = f"{type(error).__name__}: {_short(error)}"
        raise ConfigError(None, key, name, "a class that can be imported", why) from None
    if not isinstance(found, type) or not issubclass(found, kind):
        raise ConfigError(None, key, name, f"a class of Optuna's kind ({kind.__module__}.{kind.__name__})")
    return found


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

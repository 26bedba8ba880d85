"""Looks for the LoRA settings worth a production run: what to try next, when to stop, what to keep."""

import sys
from importlib.util import find_spec
from pathlib import Path


def _hidden() -> str:
    """What hides our packages, in a line; "" where nothing does. Python looks into the working folder first."""
    beside = Path(__file__).resolve().parent.parent
    for name in ("trainer", "metrics"):
        found = find_spec(name)
        origin = None if found is None or found.origin is None else Path(found.origin).resolve()
        if origin is not None and origin != beside / name / "__init__.py":
            why = f"Onset has a package {name}: rename it, or run in another folder"
            return f"{origin}: expected another name, because {why}"
    return ""


if (_said := _hidden()) != "":
    if sys.argv[:1] == ["-m"]:  # python -m search.run: an error of the command line, not of a program
        print(f"error: {_said}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(_said)

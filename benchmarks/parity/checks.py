"""One result of a comparison, and how another tool's process is asked."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Check:
    """A comparison.

    Attributes:
        state: "ok", "DIFFERS", "told" (differs, and the export says so) or "not run".
        what: was compared. said: with which result.
    """

    state: str
    what: str
    said: str


def verdict(what: str, wrong: list[str], right: str) -> Check:
    """ "ok" with `right`, or "DIFFERS" with the first few of what is wrong."""
    if not wrong:
        return Check("ok", what, right)
    more = f" … and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Check("DIFFERS", what, "; ".join(wrong[:3]) + more)


def ask(script: str, checkout: Path, python: str, work: Path, *, more_paths: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Runs `theirs/SCRIPT CHECKOUT WORK` with the checkout's code and reads the JSON it leaves in `work/found.json`.

    Raises:
        RuntimeError: the process failed; its last lines are the message.
    """
    file = Path(__file__).with_name("theirs") / script
    paths = os.pathsep.join(map(str, (checkout, *more_paths)))
    done = subprocess.run(
        [python, str(file), str(checkout), str(work)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{script} under {python}:\n" + "\n".join(done.stderr.strip().splitlines()[-12:]))
    return json.loads((work / "found.json").read_text(encoding="utf-8"))

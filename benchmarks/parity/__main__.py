"""Holds our exports and LoRA files against a checkout of another tool, with that tool's own code.

    python -m benchmarks.parity sd-scripts ~/sd-scripts --python ~/sd-scripts/venv/bin/python
    python -m benchmarks.parity sd-scripts-training ~/sd-scripts --python ~/sd-scripts/venv/bin/python
    python -m benchmarks.parity kohya_ss ~/kohya_ss --python ~/kohya_ss/venv/bin/python
    python -m benchmarks.parity comfyui ~/ComfyUI --python ~/ComfyUI/venv/bin/python
    python -m benchmarks.parity onetrainer ~/OneTrainer --python ~/OneTrainer/venv/bin/python
    python -m benchmarks.parity onetrainer-training ~/OneTrainer --python ~/OneTrainer/venv/bin/python
    python -m benchmarks.parity ai-toolkit ~/ai-toolkit --python ~/ai-toolkit/venv/bin/python
    python -m benchmarks.parity simpletuner ~/SimpleTuner --python ~/SimpleTuner/.venv/bin/python

Nothing of the tool is shipped or changed. Its code runs in a process of its own, under the interpreter given, and says
what it makes of what we write. One line a check; exit code 1 when one of them differs.
"""

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.parity.checks import Check

TOOLS = {
    "sd-scripts": "sdscripts",
    "sd-scripts-training": "training",
    "kohya_ss": "kohya_ss",
    "comfyui": "comfyui",
    "onetrainer": "onetrainer",
    "onetrainer-training": "onetrainer_training",
    "ai-toolkit": "ai_toolkit",
    "simpletuner": "simpletuner",
}


def main() -> int:
    """Runs the checks of one tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("checkout", type=Path, help="its folder, as it was cloned")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with its packages (default: this one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onset-parity-") as folder:
        run = import_module(f"benchmarks.parity.{TOOLS[arguments.tool]}").run  # which loads torch
        checks: list[Check] = run(arguments.checkout.resolve(), arguments.python, Path(folder))
    for check in checks:
        print(f"{check.state:<8} {check.what}: {check.said}")
    return int(any(check.state == "DIFFERS" for check in checks))


if __name__ == "__main__":
    sys.exit(main())

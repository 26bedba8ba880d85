"""How long a person waits for an answer that needs no model: help, a refusal, a finished study.

python -m benchmarks.startup [--runs runs] [--quick] [--json FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEMO = Path(__file__).parents[1] / "studies" / "demo.yaml"
REPEATS = 7


def main() -> int:
    """Prints one line per command: median seconds, exit code, what it said first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=Path, help="a folder with the finished demo study, to time `finished` and status"
    )
    parser.add_argument("--quick", action="store_true", help="3 repeats instead of 7")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        bad = Path(folder) / "bad.yaml"
        text = DEMO.read_text(encoding="utf-8").replace("batch_size:", "batch_sise:")
        bad.write_text(text.replace("demo/", f"{DEMO.parent}/demo/"), encoding="utf-8")
        commands = {"help": ["search.run", "--help"], "refusal": ["search.run", str(bad)]}
        if arguments.runs is not None:
            runs = ["--runs", str(arguments.runs)]
            commands |= {"finished": ["search.run", str(DEMO), *runs], "status": ["search.status", str(DEMO), *runs]}
        for name, command in commands.items():
            seconds, done = [], None
            for _ in range(3 if arguments.quick else REPEATS):
                began = time.perf_counter()
                done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
                seconds.append(time.perf_counter() - began)
            assert done is not None
            said = (done.stdout + done.stderr).strip().splitlines()[0]
            took = f"{statistics.median(seconds):.2f} s (slowest {max(seconds):.2f})"
            figures[name] = {"seconds": seconds, "exit": done.returncode}
            print(f"{name:9s} {took}  exit {done.returncode}  {said}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

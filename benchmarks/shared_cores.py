"""How much longer work on all cores takes while another program uses them, too.

python -m benchmarks.shared_cores [--rounds N] [--quick] [--json FILE]

The work is losses of images under the demo's base, in as many threads as there are cores: what a probe is built with.
It is timed alone, and beside a second process that does the same for ever, with torch's threads waiting for each other
as long as Onset lets them (`trainer/__init__.py`), and as long as libgomp does by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import median

IMAGES, PASSES = 16, 12
WAITS: Mapping[str, Mapping[str, str]] = {"Onset": {}, "libgomp": {"GOMP_SPINCOUNT": "300000"}}
"""Who says how long to wait, to the environment; libgomp's manual names its own number."""
SET_BY_USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shared_cores",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each way, in turns (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--work", choices=("once", "for-ever"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.work:
        return work(for_ever=args.work == "for-ever")
    seconds: dict[str, list[float]] = {}
    for _ in range(1 if args.quick else args.rounds):
        for name, environment in WAITS.items():
            for beside in (False, True):
                taken = timed(environment, beside=beside)
                seconds.setdefault(f"{name}, {'beside another' if beside else 'alone'}", []).append(taken)
    typical = {name: median(values) for name, values in seconds.items()}
    ratios = {
        f"{name}, beside another over alone": typical[f"{name}, beside another"] / typical[f"{name}, alone"]
        for name in WAITS
    }
    ratios["alone, Onset over libgomp"] = typical["Onset, alone"] / typical["libgomp, alone"]
    print(json.dumps({"seconds": seconds, "ratios": ratios}, indent=1))
    if args.json:
        from benchmarks.train import machine

        args.json.write_text(json.dumps({"machine": machine(), "seconds": seconds, "ratios": ratios}, indent=1) + "\n")
    return 0


def timed(waits: Mapping[str, str], *, beside: bool) -> float:
    """Seconds of the work in a process of its own, another one at the same work beside it or not."""
    environment = {**{name: value for name, value in os.environ.items() if name not in SET_BY_USERS}, **waits}
    command = [sys.executable, "-m", "benchmarks.shared_cores", "--work"]
    other = subprocess.Popen([*command, "for-ever"], env=environment, stdout=subprocess.PIPE) if beside else None
    try:
        if other is not None and other.stdout is not None:
            other.stdout.readline()  # it is at work
        done = subprocess.run([*command, "once"], env=environment, capture_output=True, text=True, check=True)
    finally:
        if other is not None:
            other.kill()
            other.communicate()
    return float(done.stdout.splitlines()[-1])


def work(*, for_ever: bool) -> int:
    """Says how many seconds it took, or that it has begun and never ends."""
    import numpy as np

    from benchmarks.study_rivals import BASE
    from trainer.base_model.load import load_base
    from trainer.inference.evaluate import Evaluation

    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 64, 64, 3)).astype(np.uint8)
    evaluation = Evaluation.prepare(load_base(BASE), images, ["a photo"] * IMAGES, levels=4, draws=1, seed=0)
    evaluation.losses()
    if for_ever:
        print("begun", flush=True)
    began = time.perf_counter()
    for _ in count() if for_ever else range(PASSES):
        evaluation.losses()
    print(time.perf_counter() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The training benchmark: what packing buys, and how far a plain diffusers + peft loop is behind, on this machine.

python -m benchmarks.train                          the demo base on the CPU, every layout in turn (about 12 minutes)
python -m benchmarks.train --quick --json out.json  the same in at most 3 minutes
python -m benchmarks.train --batch-size 4            with another batch size than the demo study's
python -m benchmarks.train --full sd15 --json out.json   SD1.5 at 512², random weights, on CUDA (about 2 minutes)
python -m benchmarks.train --full sdxl --json out.json   SDXL at 1024²
python -m benchmarks.train --full sd15 --exactly --widths 1   with deterministic algorithms, as a study's workers train

Layouts are measured in turn, round after round, and compared within a round, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

GOALS = {
    "K=8 over K=1, one process, two threads": 1.3,
    "two one-thread workers at K=8 over one two-thread worker at K=1": 1.7,
    "K=1 over the plain loop, two threads": 1.5,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: at most 3 minutes")
    parser.add_argument("--full", choices=("sd15", "sdxl"), help="the real architecture with random weights, on CUDA")
    parser.add_argument(
        "--widths", type=int, nargs="+", help="numbers of runs in a pack (default: 1 2 4 8, --full … 16)"
    )
    parser.add_argument("--batch-size", type=int, help="of each run (default: the demo study's)")
    parser.add_argument("--exactly", action="store_true", help="with deterministic algorithms (with --full)")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    if args.full and args.batch_size:
        parser.error("--batch-size is for the demo base, not for --full")
    if args.exactly and not args.full:
        parser.error("--exactly is for --full")
    if args.full:
        widths = args.widths or [1, 2, 4, 8, 16]
        from benchmarks.train_full import measure_full

        figures = {"machine": machine(), **measure_full(args.full, widths, exactly=args.exactly)}
    else:
        figures = {
            "machine": machine(),
            **measure_layouts(args.widths or [1, 2, 4, 8], args.batch_size or demo_batch_size(), quick=args.quick),
        }
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))
    return 0


def demo_batch_size() -> int:
    """The batch size that the demo study trains with."""
    import yaml

    settings = yaml.safe_load((Path(__file__).parent.parent / "studies" / "demo.yaml").read_text())
    return int(settings["train"]["batch_size"])


def measure_layouts(widths: list[int], batch_size: int, *, quick: bool) -> dict[str, Any]:
    """Samples per second of each layout of the demo base, and the ratios that the goals are about."""
    from benchmarks.train_layouts import Crew, Layout, settings

    threads = min(2, os.cpu_count() or 1)
    layouts = {f"K={width}, two threads": Layout(width, threads, batch_size) for width in widths}
    layouts |= {f"K={width}, one thread": Layout(width, 1, batch_size) for width in (widths[0], widths[-1])}
    layouts[f"two one-thread workers, K={widths[-1]}"] = Layout(widths[-1], 1, batch_size, workers=2)
    layouts["plain diffusers + peft loop, two threads"] = Layout(1, threads, batch_size, loop="plain")
    layouts["the base alone, two threads"] = Layout(1, threads, batch_size, loop="base")
    rounds, seconds = (6, 1.0) if quick else (30, 1.5)
    rates: dict[str, list[float]] = {name: [] for name in layouts}
    started: dict[str, float] = {}
    crews: dict[str, Crew] = {}
    try:
        for name, layout in layouts.items():
            crews[name] = Crew(layout)
            started[name] = crews[name].seconds_to_start
        for number in range(rounds):
            for name, crew in crews.items():
                rates[name].append(crew.measure(seconds))
            print(f"round {number + 1} of {rounds}: " + "  ".join(f"{rates[n][-1]:.0f}" for n in layouts), flush=True)
    finally:
        for crew in crews.values():
            crew.stop()
    one, last = f"K={widths[0]}, two threads", widths[-1]
    pairs = {
        "K=8 over K=1, one process, two threads": (f"K={last}, two threads", one),
        "K=8 over K=1, one process, one thread": (f"K={last}, one thread", f"K={widths[0]}, one thread"),
        "two one-thread workers at K=8 over one two-thread worker at K=1": (
            f"two one-thread workers, K={last}",
            one,
        ),
        "K=1 over the plain loop, two threads": (one, "plain diffusers + peft loop, two threads"),
        "limit of that: the base alone over the plain loop": (
            "the base alone, two threads",
            "plain diffusers + peft loop, two threads",
        ),
    }
    ratios = {name: _ratio(rates[above], rates[below]) for name, (above, below) in pairs.items()}
    print(f"\n{'samples/s':>48}  median   best")
    for name, values in rates.items():
        print(f"{name:>48}  {statistics.median(values):6.1f} {max(values):6.1f}")
    print(f"\n{'ratio':>66}  median   lowest … highest")
    for name, ratio in ratios.items():
        goal = f"   goal {GOALS[name]}" if name in GOALS else ""
        print(f"{name:>66}  {ratio['median']:6.2f}   {ratio['lowest']:.2f} … {ratio['highest']:.2f}{goal}")
    return {
        "what": "training samples per second, demo base",
        **settings(),
        "batch_size": batch_size,
        "rounds": rounds,
        "seconds": seconds,
        "samples per second": rates,
        "seconds to start": started,
        "ratios": ratios,
        "goals": GOALS,
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "load before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _ratio(above: list[float], below: list[float]) -> dict[str, float]:
    values = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


if __name__ == "__main__":
    sys.exit(main())

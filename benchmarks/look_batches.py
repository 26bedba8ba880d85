"""Would looks at checkpoints of several trials be cheaper in shared batches? The cost of an image by how many are drawn
at once, and of a loss by how many are computed at once.

python -m benchmarks.look_batches [--quick] [--json FILE]     about three minutes; --quick one

The demo's base without a LoRA, so that nothing but the batch differs: what sharing could win at best. A shared batch
could not merge each trial's LoRA into the weights, which a look at one checkpoint does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.train import machine

BASE = Path(__file__).resolve().parent.parent / "studies" / "demo" / "base"
SIDE, STEPS, GUIDANCE = 64, 6, 3.0  # the demo study's
IMAGES = (6, 12, 24, 48)  # a look of the demo draws 12
LOSSES = (32, 64, 128, 208)  # a look of the demo has 208, computed 64 at once


def measure(*, device: str, rounds: int) -> dict[str, dict[str, float]]:
    """`draw` and `losses`: how many at once to seconds for one, the median of `rounds` that take turns."""
    import torch

    from trainer.base_model.load import load_base
    from trainer.devices import find_device
    from trainer.inference.evaluate import Evaluation
    from trainer.inference.sample import sample

    torch.set_num_threads(1)
    place = find_device(device, key="--device")
    base, clock = load_base(BASE, device=place), _synchronised if place.type == "cuda" else time.process_time
    most = max(IMAGES)
    prompts = [f"a photo of a toy, seed {number}" for number in range(most)]
    photos = np.random.default_rng(0).integers(0, 256, (26, SIDE, SIDE, 3), dtype=np.uint8)
    ready = Evaluation.prepare(base, photos, prompts[:26], levels=8, draws=1, seed=1)

    def drawn(at_once: int) -> Callable[[], Any]:
        return lambda: sample(
            base, None, prompts, list(range(most)), size=(SIDE, SIDE), steps=STEPS, guidance=GUIDANCE,
            batch_size=at_once,
        )  # fmt: skip

    def losses(at_once: int) -> Callable[[], Any]:
        return lambda: ready.losses(None, batch_size=at_once)

    return {
        "draw": _seconds({str(n): drawn(n) for n in IMAGES}, most, rounds, clock),
        "losses": _seconds({str(n): losses(n) for n in LOSSES}, 26 * 8, rounds, clock),
    }


def _seconds(
    works: dict[str, Callable[[], Any]], count: int, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            began = clock()
            work()
            taken[name].append(clock() - began)
    return {name: float(np.median(each[1:])) / count for name, each in taken.items()}


def _synchronised() -> float:
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.look_batches", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    figures = measure(device=args.device, rounds=1 if args.quick else 5)
    for part, each in figures.items():
        first = each["12" if part == "draw" else "64"]
        told = ", ".join(f"{name} at once {seconds / first:.2f}" for name, seconds in each.items())
        print(f"{part}: {first * 1e3:.1f} ms for one as a look has them; the time of one, as a share of that: {told}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine()} | figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

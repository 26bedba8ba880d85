"""What a worker gains by training several trials at once: the same study with `workers.pack` 1 and K, in one run.

python -m benchmarks.packed_trials [--pack 4] [--device cpu] [--quick] [--json FILE]

The demo's base and photos and a small probe; the trials' settings are drawn at random, the same in both. What is
compared are the seconds that the one worker was at work for all trials, loading left out. Other programs on the machine
move both numbers, so only the ratio counts.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import search.run
from search.record.record import StudyFolder

DEMO = Path(__file__).parent.parent / "studies"
PARTS = ("train", "sample", "score", "save")


def study(folder: Path, pack: int, device: str, *, trials: int, epochs: int) -> Path:
    """A study file: so many trials of so many epochs, looked at twice, none stopped early."""
    values: dict[str, Any] = yaml.safe_load((DEMO / "demo.yaml").read_text())
    values |= {key: str(DEMO / values[key]) for key in ("base", "data")}
    asked = values["score"]
    probe = asked["probe"] | {"seeds": 1, "trained": 1, "heldout": 1, "contexts": asked["probe"]["contexts"][:2]}
    values["score"] = {
        "encoder": str(DEMO / asked["encoder"]),
        "holdout": 4,
        "losses": {"levels": 2, "draws": 1},
        "shifted": {"composites": 0},
        "probe": probe,
    }
    values["train"] = {key: value for key, value in values["train"].items() if key in ("resolution", "batch_size")}
    values["train"] |= {"epochs": epochs, "save_every_n_epochs": epochs // 2}
    values["search"] = {
        "optimizer": {"values": ["AdamW", "Lion"]},
        "rank": {"values": [4, 8, 16]},
        "learning_rate_scale": {"min": 0.5, "max": 8, "log": True},
    }
    workers = {"count": 1, "threads": 1, "pack": pack, "device": device}
    values |= {"study": f"pack-{pack}", "budget": {"trials": trials, "startup_trials": trials}, "keep": {}}
    values |= {"stop": {"onset": False, "prune": False}, "workers": workers}
    path = folder / f"pack-{pack}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def seconds(file: Path, runs: Path) -> dict[str, float]:
    """Run a study; seconds of its worker by part."""
    code = search.run.main([str(file), "--runs", str(runs)])
    if code:
        raise SystemExit(code)
    records = list(StudyFolder(runs / file.stem).records())
    return {part: sum(record.timings.get(part, 0.0) for record in records) for part in PARTS}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="as many trials as the pack holds, of two epochs")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    asked = parser.parse_args(argv)
    trials, epochs = (asked.pack, 2) if asked.quick else (2 * asked.pack, 10)
    with tempfile.TemporaryDirectory(prefix="onset-packed-") as home:
        runs, found = Path(home) / "runs", {}
        for pack in (1, asked.pack):
            found[pack] = seconds(study(Path(home), pack, asked.device, trials=trials, epochs=epochs), runs)
            if pack == 1:  # the probe is the same one
                shutil.copytree(runs / "pack-1" / "cache", runs / f"pack-{asked.pack}" / "cache")
    alone, packed = found[1], found[asked.pack]
    figures = {
        "pack": asked.pack,
        "device": asked.device,
        "trials": trials,
        "epochs": epochs,
        "seconds": {str(pack): parts for pack, parts in found.items()},
        "training": alone["train"] / packed["train"],
        "all": sum(alone.values()) / sum(packed.values()),
    }
    print(f"{trials} trials of {epochs} epochs on {asked.device}, seconds of the worker:")
    for pack, parts in found.items():
        print(f"  pack {pack}: " + ", ".join(f"{part} {spent:.1f}" for part, spent in parts.items()))
    print(f"training is {figures['training']:.2f} times as fast, all of the worker's time {figures['all']:.2f} times")
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

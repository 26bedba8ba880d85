"""What a worker gains by training several trials at once.

python -m benchmarks.packed_trials [--pack 4] [--device cpu] [--quick] [--json FILE]
python -m benchmarks.packed_trials --full --pack auto --device cuda     SD 1.5 at 512², random weights

First the training alone: an epoch of K trials one after the other and an epoch of the same K in a pack as a worker has
it (fixed width, all padded to the largest rank), in turns. Then, without --quick, the same study twice, with
`workers.pack` 1 and K: the seconds that its worker was at work for all trials, loading left out. The demo's base and
photos at its own batch size, a small probe. Other programs on the machine move all of these numbers, so only ratios
count, and of the first part their quartiles.

With --full there are 16 short trials of SD 1.5 at batch 1, and the two studies alone are run.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import search.run
from benchmarks.parity.training import make_base
from search.record.pack_width import PackWidth
from search.record.record import StudyFolder
from search.running.sharing import sharing_of
from search.study.study import Study, load_study
from studies.demo.photos import write_photos

DEMO = Path(__file__).parent.parent / "studies"
PARTS = ("train", "sample", "score", "save")
FULL_TRIALS, FULL_PHOTOS = 16, 12


def study(folder: Path, pack: int | str, device: str, *, trials: int, epochs: int) -> Path:
    """A study file: so many trials of so many epochs, looked at twice, none stopped early."""
    values: dict[str, Any] = yaml.safe_load((DEMO / "demo.yaml").read_text())
    values |= {key: str(DEMO / values[key]) for key in ("base", "data")}
    asked = values["score"]
    del values["sampler"]  # what it starts with is not searched
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


def full_study(folder: Path, base: Path, pack: int | str, device: str) -> Path:
    """The same with another base and some of the photos, at batch 1; nothing is drawn again at the end."""
    photos = folder / "photos"
    if not photos.exists():
        write_photos(photos, count=FULL_PHOTOS)
    path = study(folder, pack, device, trials=FULL_TRIALS, epochs=2)
    values = yaml.safe_load(path.read_text())
    values |= {"base": str(base), "data": str(photos), "finalists": {"trials": 0, "strengths": []}}
    values["train"] |= {"resolution": 512, "batch_size": 1, "precision": "bf16"}
    path.write_text(yaml.safe_dump(values))
    return path


def training(asked: Study, pack: int, home: Path, *, rounds: int) -> list[float]:
    """How many times as fast an epoch of the pack is, round by round."""
    import torch

    from trainer.base_model.load import load_base
    from trainer.data.dataset import scan_dataset
    from trainer.devices import find_device
    from trainer.packing.builder import pack_settings, run_settings
    from trainer.packing.pack import Pack

    torch.set_num_threads(asked.workers.threads or 1)
    device = find_device(asked.workers.device, key="--device")
    base, photos = load_base(asked.base, device=device), scan_dataset(asked.data)
    configs = list(islice(cycle(asked.space.combinations()), pack))
    settings = [asked.config({**config, "epochs": 10**5}) for config in configs]
    sharing = sharing_of(asked, pack)
    alone = [Pack(base, photos, pack_settings(config)) for config in settings]
    together = Pack(base, photos, pack_settings(settings[0]), width=sharing.width, max_rank=sharing.max_rank)
    for number, config in enumerate(settings):
        alone[number].join(run_settings(config), run_dir=home / f"alone-{number}")
        together.join(run_settings(config), run_dir=home / f"together-{number}")

    def seconds(packs: Sequence[Pack]) -> float:
        began = time.perf_counter()
        for one in packs:
            one.train_epoch()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    seconds([*alone[:1], together])  # warms caches
    return [seconds(alone) / seconds([together]) for _ in range(rounds)]


def worker_seconds(file: Path, runs: Path) -> dict[str, float]:
    """Run a study; seconds of its worker by part, and those of the whole command."""
    began = time.perf_counter()
    code = search.run.main([str(file), "--runs", str(runs)])
    if code:
        raise SystemExit(code)
    command = time.perf_counter() - began
    records = list(StudyFolder(runs / file.stem).records())
    return {part: sum(record.timings.get(part, 0.0) for record in records) for part in PARTS} | {"command": command}


def both(files: Sequence[Path], runs: Path) -> dict[str, Any]:
    """The studies one after the other, the first one unpacked: seconds by part, width and memory of each, and how many
    times as fast the last one's worker is."""
    found: dict[str, Any] = {}
    for file in files:
        if file != files[0]:  # the probe is the same one
            shutil.copytree(runs / files[0].stem / "cache", runs / file.stem / "cache")
        seconds = worker_seconds(file, runs)
        folder = StudyFolder(runs / file.stem)
        kept = PackWidth.load(folder, load_study(file).workers.pack)
        memory = max((record.memory.get("gpu_gib", 0.0) for record in folder.records()), default=0.0)
        found[file.stem] = {"seconds": seconds, "width": kept.width if kept else None, "GiB": memory}
        print(f"  {file.stem}: " + ", ".join(f"{part} {spent:.1f} s" for part, spent in seconds.items()))
    spent = [sum(each["seconds"][part] for part in PARTS) for each in found.values()]
    print(f"all of the worker's time: {spent[0] / spent[-1]:.2f} times as fast")
    return {"studies": found, "worker": spent[0] / spent[-1]}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=lambda text: text if text == "auto" else int(text), default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="SD 1.5 with random weights, on a GPU")
    parser.add_argument("--quick", action="store_true", help="the training alone, three rounds of it")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    asked = parser.parse_args(argv)
    figures: dict[str, Any] = {"pack": asked.pack, "device": asked.device, "full": asked.full}
    with tempfile.TemporaryDirectory(prefix="onset-packed-") as home:
        runs = Path(home) / "runs"
        if asked.full:
            base = make_base(Path(home) / "base")
            figures |= both([full_study(Path(home), base, pack, asked.device) for pack in (1, asked.pack)], runs)
        else:
            trials, epochs = 16 if asked.pack == "auto" else 2 * asked.pack, 10
            files = [study(Path(home), pack, asked.device, trials=trials, epochs=epochs) for pack in (1, asked.pack)]
            figures |= {"trials": trials, "epochs": epochs}
            if asked.pack != "auto":
                ratios = training(load_study(files[1]), asked.pack, Path(home), rounds=3 if asked.quick else 9)
                low, middle, high = (float(each) for each in np.quantile(ratios, (0.25, 0.5, 0.75)))
                figures |= {"training": middle, "quartiles": [low, high], "rounds": len(ratios)}
                print(
                    f"an epoch of {asked.pack} trials in a pack: {middle:.2f} times as fast ({low:.2f} to {high:.2f})"
                )
            if not asked.quick:
                figures |= both(files, runs)
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

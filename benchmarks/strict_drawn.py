"""Images of the onset benchmark's checkpoints, drawn and judged strictly: what `benchmarks.strict --keep` reads.

Each pack's `.npz` has `about` (JSON: the plan) and of each run, at `LOOKS` checkpoints and of the base (row 0):

    RUN/epochs [T]      RUN/effort [T]
    RUN/KIND_concept [T, N]   RUN/KIND_asked [T, N, 4]   RUN/KIND_leaked [T, N]   see `strict_truth.judged`
    RUN/KIND_rough [T, N, 2]          `strict_truth.roughness`
    RUN/trained_apart [T, 16, 9]      `strict_truth.distances`
    RUN/LOSS [T, images, levels]      ln ratios to the base: heldout, context, shifted, shifted_train
    RUN/ITEM [T, …], RUN/CHANNEL [T, 3]   what a study reads of the probe's images (value, low, high), `score` [T]
    RUN/gains [T, 36]                 how much likelier a critic finds the probe's images than the base does; its mean
                                      over the training photos is `learned`
    limits [3]                        copying, colour, diversity of `metrics.checkpoint.score.Limits`

KIND is `probe` (N 36, a study's own: captions of photos, and new contexts), `fresh` (N 104, prompts and seeds that no
probe has: the concept alone in new contexts, all sizes and positions) or `trained` (N 16, captions of training photos;
brief packs lack these, and `trained_apart`). Beside it PACK.webp.npz keeps the probe's images without loss, T sheets of
6 × 6 for each run.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import onset_loras
from benchmarks.onset_plan import LATER, QUIET, PackPlan, detector_grid, plans
from benchmarks.onset_truth import SEEN
from benchmarks.strict_truth import AGAIN, distances, judged, roughness

if TYPE_CHECKING:
    from benchmarks.onset_world import World
    from search.probe.critic import Critic
    from trainer.families.family import Base
    from trainer.lora.lora import LoraWeights

LOOKS = 7  # checkpoints of each run, evenly over those that a detector sees
FRESH_DRAWN, TRAINED_DRAWN = 104, 16
PROMPT_SEED = 70_001  # no probe, photo set or truth is drawn from it
CRITIC_STEPS = 120  # as in the demo study
LOSSES = (*SEEN, "context")


def wanted_plans(*, brief: bool = False) -> list[PackPlan]:
    """The packs of concepts that judges know or are to learn, in the order in which they are worth having: unlike kinds
    first, then one set of each concept, then the other sets. Brief ones have no runs that learn nothing."""
    found = [plan for plan in plans() if plan.concept not in LATER and len(plan.runs) > 3]
    if not brief:
        return found
    return [replace(p, runs={name: own for name, own in p.runs.items() if name not in QUIET}) for p in found]


@dataclass(frozen=True)
class Asked:
    """What the images of a pack were asked for."""

    plan: PackPlan
    brief: bool = False

    @cached_property
    def fresh(self) -> list:
        """[FRESH_DRAWN] attributes of one thing alone in contexts that the set lacks."""
        from studies.demo.scenes import draw_concept

        scenes = draw_concept(self.plan.concept, "new", 3 * FRESH_DRAWN, PROMPT_SEED + self.plan.seed)
        return [scene.attributes for scene in scenes if not scene.attributes.other][:FRESH_DRAWN]

    @cached_property
    def photos(self) -> list[int]:
        """[TRAINED_DRAWN] training photos whose captions are drawn; small sets give some of theirs twice."""
        return [row % self.plan.num_photos for row in range(TRAINED_DRAWN)]

    def prompts(self, world: World) -> dict[str, list[str]]:
        from studies.demo.scenes import concept_caption, find_concept

        known = find_concept(self.plan.concept)
        trained = {} if self.brief else {"trained": [world.captions[row] for row in self.photos]}
        return {
            "probe": list(world.labels.prompts),
            "fresh": [concept_caption(known, attributes) for attributes in self.fresh],
        } | trained

    def seeds(self, world: World) -> dict[str, list[int]]:
        generator = np.random.default_rng([PROMPT_SEED, self.plan.seed])
        fresh, trained = generator.integers(1 << 30, size=FRESH_DRAWN), generator.integers(1 << 30, size=TRAINED_DRAWN)
        drawn = {"probe": list(world.labels.seeds), "fresh": fresh.tolist()}
        return drawn if self.brief else drawn | {"trained": trained.tolist()}


def looked_at(epochs: list[int], *, brief: bool = False) -> list[int]:
    """`LOOKS` of the checkpoints that detectors see, the second one and the last among them; without that one where
    all is brief."""
    seen = [epoch for epoch in detector_grid(max(epochs)) if epoch in epochs]
    rows = np.unique(np.linspace(1, len(seen) - 1, min(LOOKS, len(seen) - 1)).round().astype(int))
    return [seen[row] for row in rows[1 if brief else 0 :]]


def draw_packs(
    out: Path, loras: Path | None, minutes: float, only: Sequence[str], processes: int = 1, *, brief: bool = False
) -> None:
    """Trains and draws pack after pack until the time is up; what is there stays, and a pack is written whole. Packs
    are shared out among processes; what is begun when the time is up is let go after half as long again."""
    out.mkdir(parents=True, exist_ok=True)
    for claim in out.glob("*.claim"):
        claim.unlink()
    end = time.time() + 60 * minutes
    wanted = {"out": str(out), "loras": loras and str(loras), "end": end, "only": list(only), "brief": brief}
    command = [sys.executable, "-m", "benchmarks.strict_drawn", json.dumps(wanted)]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    children = [subprocess.Popen(command, env=os.environ | threads) for _ in range(processes)]
    for child in children:
        try:
            child.wait(timeout=max(1.0, end + 30 * minutes - time.time()))
        except subprocess.TimeoutExpired:
            child.kill()


def work(out: Path, loras: Path | None, end: float, only: Sequence[str], *, brief: bool) -> None:
    """One process: takes the next pack that nobody has claimed."""
    import torch

    from benchmarks.onset_recompute import BASE, trained_pack
    from trainer.base_model.load import load_base

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    base = load_base(BASE, device="cuda" if torch.cuda.is_available() else "cpu")
    for plan in wanted_plans(brief=brief):
        if time.time() > end:
            return
        if (out / f"{plan.name}.npz").exists() or (only and not any(part in plan.name for part in only)):
            continue
        try:
            (out / f"{plan.name}.claim").touch(exist_ok=False)
        except FileExistsError:
            continue
        began = time.time()
        world, runs = trained_pack(plan, base, loras)
        trained = time.time()
        arrays, sheets = _drawn(plan, world, runs, base, brief=brief)
        _save(out / f"{plan.name}.webp.npz", sheets)
        _save(out / f"{plan.name}.npz", arrays)
        print(f"{plan.name}: {trained - began:.0f} s until trained, {time.time() - trained:.0f} s drawn", flush=True)


def _drawn(
    plan: PackPlan, world: World, runs: onset_loras.Runs, base: Base, *, brief: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    look = Looker(plan, world, base, brief=brief)
    at_base = look(0, 0.0, None)
    found: dict[str, np.ndarray] = {"about": np.frombuffer(json.dumps(asdict(plan)).encode(), np.uint8)}
    sheets: dict[str, np.ndarray] = {}
    for name, run in runs.items():
        epochs = looked_at(sorted(run), brief=brief) if run else []  # a rate that was too high leaves none
        looks = [at_base, *(look(epoch, run[epoch].effort, run[epoch].lora) for epoch in epochs)]
        found[f"{name}/epochs"] = np.array([0, *epochs])
        found[f"{name}/effort"] = np.array([0.0, *(run[epoch].effort for epoch in epochs)])
        for key in set.intersection(*(set(seen.arrays) for seen in looks)):
            values = np.stack([seen.arrays[key] for seen in looks])
            found[f"{name}/{key}"] = values.astype(np.float32 if values.ndim < 3 else np.float16)
        for row, seen in enumerate(looks):
            sheets[f"{name}/{row}"] = np.frombuffer(seen.sheet, np.uint8)
    found |= {f"{key}_photo": owners for key, owners in world.owners.items()}
    return found | {"learned": np.array(look.learned), "limits": look.limits}, sheets


@dataclass(frozen=True)
class Look:
    """What was seen of one checkpoint: arrays by name, and a sheet of the probe's images (WebP)."""

    arrays: dict[str, np.ndarray]
    sheet: bytes


class Looker:
    """Draws and judges the images of a pack's checkpoints, and reads them as a study does."""

    def __init__(self, plan: PackPlan, world: World, base: Base, *, brief: bool = False) -> None:
        from benchmarks.onset_reader import calibrate_pack
        from benchmarks.onset_world import Losses, draw
        from studies.demo.judges import load_judges
        from studies.demo.scenes import draw_concept, find_concept, render_list, same_again

        asked = Asked(plan, brief)
        self._plan, self._world, self._base, self._losses = plan, world, base, Losses(base, world, plan.seed)
        self._prompts, self._seeds = asked.prompts(world), asked.seeds(world)
        self._judges, self._places = load_judges(device=base.device), find_concept(plan.concept).set_places
        scenes = draw_concept(plan.concept, "set", plan.num_photos, 100 + plan.seed)
        self._photos = world.photos[asked.photos]
        again = [
            render_list(same_again(scenes[photo].attributes, AGAIN, PROMPT_SEED + row), base.device)[0]
            for row, photo in enumerate(asked.photos)
        ]
        self._again = np.stack(again)
        probe = draw(base, None, self._prompts["probe"], self._seeds["probe"])
        self._calibration = calibrate_pack(plan, world, base, probe)
        self._critic = pack_critic(plan, world, base)
        photos = world.photos[: plan.num_photos]
        self.learned = float(self._critic.gains(photos, world.captions[: plan.num_photos]).mean())
        self._at_base: dict[str, np.ndarray] | None = None

    def __call__(self, epoch: int, effort: float, lora: LoraWeights | None) -> Look:
        """Of the base first, whose losses the others' are measured by."""
        from benchmarks.onset_world import draw
        from metrics.channels.losses import log_ratios
        from metrics.checkpoint.score import read_checkpoint

        drawn = draw(self._base, lora, [*chain(*self._prompts.values())], [*chain(*self._seeds.values())])
        ends = np.cumsum([len(texts) for texts in self._prompts.values()])
        images = dict(zip(self._prompts, np.split(drawn, ends[:-1]), strict=True))
        found: dict[str, np.ndarray] = {}
        for kind, own in images.items():
            seen = judged(self._judges, own, self._prompts[kind], self._plan.concept, self._places)
            found |= {f"{kind}_{name}": values for name, values in (seen | {"rough": roughness(own)}).items()}
        if "trained" in images:
            found["trained_apart"] = distances(images["trained"], self._photos, self._again)
        losses = self._losses(lora, LOSSES)
        self._at_base = self._at_base or losses
        found |= {kind: log_ratios(losses[kind], self._at_base[kind]).mean(axis=2) for kind in LOSSES}
        found["gains"] = self._critic.gains(images["probe"], self._prompts["probe"])
        readings = read_checkpoint(self._calibration, epoch=epoch, effort=effort, images=images["probe"])
        found |= {f"item_{name}": np.asarray(values) for name, values in readings.items.items()}
        found |= {name: np.array([own.value, own.low, own.high]) for name, own in readings.channels.items()}
        return Look(found | {"score": np.array(readings.score)}, _sheet(images["probe"]))

    @property
    def limits(self) -> np.ndarray:
        """`[3]`: copying, colour, diversity, whatever is measured."""
        from metrics.checkpoint.score import limits_of

        found = limits_of(self._calibration, ("copying", "colour", "diversity"))
        return np.array([found.copying, found.colour, found.diversity])


def pack_critic(plan: PackPlan, world: World, base: Base) -> Critic:
    """A critic of a pack's training photos."""
    from benchmarks.onset_recompute import training_config
    from benchmarks.onset_world import write_photos
    from search.probe.critic import Critic, train_critic
    from search.study.critic_run import critic_config
    from search.study.settings import ScoreSection
    from trainer.data.cache import LatentCache
    from trainer.data.dataset import scan_dataset

    with tempfile.TemporaryDirectory() as scratch:
        dataset = scan_dataset(write_photos(Path(scratch) / "photos", plan, world))
        config = critic_config(training_config(plan, next(iter(plan.runs)), dataset.root), CRITIC_STEPS)
        lora = train_critic(config, base, dataset, None, Path(scratch) / "critic")
    return Critic(base, LatentCache(base), lora, ScoreSection(), None, "bf16")


def _sheet(images: np.ndarray) -> bytes:
    from PIL import Image

    rows = [np.concatenate(list(images[row : row + 6]), axis=1) for row in range(0, len(images), 6)]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def read_sheet(sheet: np.ndarray) -> np.ndarray:
    """uint8 [36, 64, 64, 3] of what PACK.webp.npz keeps."""
    from PIL import Image

    whole = np.asarray(Image.open(io.BytesIO(sheet.tobytes())).convert("RGB"))
    return whole.reshape(6, 64, 6, 64, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 64, 64, 3)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(aside, path)


def read_drawn(out: Path) -> Iterator[tuple[PackPlan, dict[str, np.ndarray]]]:
    """Plan and arrays of every pack that was drawn, in the plans' order."""
    for name in (plan.name for plan in wanted_plans()):
        path = out / f"{name}.npz"
        if path.is_file():
            with np.load(path) as file:
                arrays = {key: file[key] for key in file.files}
            yield PackPlan(**json.loads(bytes(arrays.pop("about")))), arrays


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    folder, kept = Path(asked["out"]), asked["loras"] and Path(asked["loras"])
    work(folder, kept, asked["end"], asked["only"], brief=asked["brief"])

"""The checkpoints of a pack of the onset benchmark, kept on this machine: what is read of them can change without
training again. `--loras DIR` of `benchmarks.onset` and `benchmarks.strict` name the folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.onset_plan import PackPlan

if TYPE_CHECKING:
    from trainer.lora.lora import LoraWeights

Runs = dict[str, dict[int, "Checkpoint"]]
"""Every run's checkpoints by epoch."""


@dataclass(frozen=True)
class Checkpoint:
    effort: float
    lora: LoraWeights


def kept(folder: Path, plan: PackPlan) -> bool:
    """Whether all checkpoints of this very plan are there."""
    settings = folder / plan.name / "plan.json"
    return settings.is_file() and json.loads(settings.read_text()) == json.loads(json.dumps(asdict(plan)))


def load(folder: Path, plan: PackPlan) -> Runs:
    """What `keep` wrote."""
    from trainer.lora.kohya_file import load_lora, read_metadata

    runs: Runs = {}
    for name in plan.runs:
        files = sorted((folder / plan.name / name).glob("*.safetensors"))
        runs[name] = {int(f.stem): Checkpoint(float(read_metadata(f)["effort"]), load_lora(f)) for f in files}
    return runs


def keep(folder: Path, plan: PackPlan, runs: Runs) -> None:
    """Writes a pack's checkpoints in half precision, its plan last; what an earlier plan left is gone."""
    from trainer.lora.kohya_file import save_lora

    shutil.rmtree(folder / plan.name, ignore_errors=True)
    for name, checkpoints in runs.items():
        (folder / plan.name / name).mkdir(parents=True)
        for epoch, checkpoint in checkpoints.items():
            save_lora(
                folder / plan.name / name / f"{epoch:06d}.safetensors",
                checkpoint.lora,
                {"effort": repr(checkpoint.effort)},
            )
    (folder / plan.name / "plan.json").write_text(json.dumps(asdict(plan)))

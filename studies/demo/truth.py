"""The truth about a LoRA of a demo concept, from renders without end: what no user of the product can have.

    python -m studies.demo.truth runs/demo/trials/0007/checkpoints --out truth.csv
    python -m studies.demo.truth some/folder --concept robot --images 300 --pictures 64
    python -m studies.demo.truth runs/demo/trials/0008/checkpoints --plot onset.png

For each checkpoint: the held-out loss on fresh renders in new contexts (context_loss) and in the set's own
(memory_loss), as the mean over images × noise levels × draws of ln(loss / the base's loss), and how well its pictures
show the concept and obey their prompts (judged by studies.demo.judges). Epoch 0 is the base without LoRA.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studies.demo.concepts import JUDGED

if TYPE_CHECKING:
    from trainer.families.family import Base
    from trainer.inference.evaluate import Evaluation
    from trainer.lora.lora import LoraWeights

BASE = Path(__file__).parent / "base"
CONCEPT = "mushroom"
CONTEXTS = {"context": "new", "memory": "set"}
RENDER_SEED, NOISE_SEED = 90_001, 90_002  # no photo set is rendered from these


@dataclass(frozen=True)
class Truth:
    """One row of truth.csv. Losses are mean ln ratios to the base, errors their standard errors over images.
    fidelity: mean judged probability of the concept; obedience: share of pictures in new contexts that show the
    place, floor, position and size asked for; nan when no pictures were drawn."""

    epoch: int
    context_loss: float
    context_error: float
    memory_loss: float
    memory_error: float
    fidelity_new: float = float("nan")
    fidelity_set: float = float("nan")
    obedience: float = float("nan")


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """LoRA files by epoch: `0010/lora.safetensors` as the trainer writes them, or names that end in the epoch."""
    found = {}
    for file in sorted(folder.rglob("*.safetensors")):
        if file.parent.name.isdigit():
            if file.name == "lora.safetensors":
                found[int(file.parent.name)] = file
        elif number := re.search(r"(\d+)$", file.stem):
            found[int(number.group(1))] = file
    if not found:
        raise FileNotFoundError(f"{folder}: no checkpoint here (0010/lora.safetensors or NAME-000010.safetensors)")
    return dict(sorted(found.items()))


def true_losses(
    base: Base, loras: Mapping[int, LoraWeights], concept: str = CONCEPT, *, images: int = 300, levels: int = 8,
    draws: int = 1, precision: str | None = "bf16",
) -> dict[int, Truth]:  # fmt: skip
    """Held-out losses by epoch on `images` fresh renders in new contexts and as many in the set's contexts."""
    ready = {name: fresh(base, concept, contexts, images, levels, draws) for name, contexts in CONTEXTS.items()}
    at_base = {name: evaluation.losses(None, precision=precision) for name, evaluation in ready.items()}
    rows = {}
    for epoch, lora in loras.items():
        numbers = []
        for name, evaluation in ready.items():
            ratio = np.log(evaluation.losses(lora, precision=precision) / at_base[name]).mean((1, 2))
            numbers += [float(ratio.mean()), float(ratio.std(ddof=1) / len(ratio) ** 0.5)]
        rows[epoch] = Truth(epoch, *numbers)
    return rows


def fresh(base: Base, concept: str, contexts: str, images: int, levels: int, draws: int) -> Evaluation:
    from studies.demo.scenes import render_concept
    from trainer.inference.evaluate import Evaluation

    pictures, captions, _, _ = render_concept(concept, contexts, images, RENDER_SEED)  # type: ignore[arg-type]  # checked there
    return Evaluation.prepare(base, pictures, captions, levels=levels, draws=draws, seed=NOISE_SEED)


def true_quality(
    base: Base, lora: LoraWeights | None, concept: str = CONCEPT, *, pictures: int = 64, guidance: float = 3.0,
    precision: str | None = "bf16",
) -> dict[str, float]:  # fmt: skip
    """Draws `pictures` in new contexts and as many in the set's, and judges them: fidelity and obedience (see Truth),
    and obedience of each attribute in new contexts."""
    import torch

    from studies.demo import judges as judging
    from studies.demo.pool import LABELS, from_scenes
    from studies.demo.scenes import concept_caption, draw_concept
    from trainer.inference.sample import sample

    judges, values = judging.load_judges(), {}
    for contexts in ("new", "set"):
        scenes = draw_concept(concept, contexts, 2 * pictures, RENDER_SEED)
        asked = [scene for scene in scenes if not scene.attributes.other][:pictures]
        prompts = [concept_caption(JUDGED[concept], scene.attributes) for scene in asked]
        drawn = sample(base, lora, prompts, range(len(asked)), size=(64, 64), guidance=guidance, precision=precision)
        shown = judging.judge(judges, drawn)["concept"][:, LABELS["concept"].index(concept)]
        values[f"fidelity_{contexts}"] = float(shown.mean())
        if contexts == "new":
            shares = judging.accuracy(judges, drawn, from_scenes(asked, torch.device("cpu")).labels)
            parts = {name: shares[name] for name in ("place", "pattern", "position", "size")}
            values |= parts | {"obedience": float(np.mean(list(parts.values())))}
    return values


def write_truth(path: Path, rows: Sequence[Truth]) -> None:
    """truth.csv, whole or not at all."""
    names = list(Truth.__dataclass_fields__)
    aside = path.with_suffix(".part")
    with aside.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        for row in rows:
            table.writerow([row.epoch, *(f"{getattr(row, name):.5f}" for name in names[1:])])
    os.replace(aside, path)


def plot_beside(trial: Path, rows: Mapping[int, Truth], path: Path) -> Path:
    """The onset plot of a trial of a study, with the true losses at its checkpoints."""
    from metrics.onset.plot import plot_onset
    from search.record.record import StudyFolder, TrialRecord
    from search.verdict.decision import decide
    from search.verdict.trial_sentences import plot_caption

    record, folder = TrialRecord.load(trial), StudyFolder(trial.parent.parent)
    assert record.onset is not None
    epochs = np.array(sorted(rows))
    truth = {
        name: (epochs, np.array([getattr(rows[epoch], loss) for epoch in epochs]))
        for name, loss in (("shifted_loss", "context_loss"), ("heldout_loss", "memory_loss"))
    }
    return plot_onset(
        path, folder.trajectory(record.number), record.onset, truth=truth,
        title=f"{folder.path.name} · trial {record.number}", caption=plot_caption(decide(record)), best="best",
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m studies.demo.truth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="LoRA checkpoints in kohya's format")
    parser.add_argument("--concept", choices=tuple(JUDGED), default=CONCEPT)
    parser.add_argument("--base", default=str(BASE))
    parser.add_argument("--images", type=int, default=300, help="fresh renders for each kind of contexts")
    parser.add_argument("--levels", type=int, default=8)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=0, help="pictures to draw and judge for each kind of contexts")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--out", type=Path, default=Path("truth.csv"))
    parser.add_argument("--plot", type=Path, help="the trial's onset plot, with the true losses dashed")
    args = parser.parse_args(argv)

    from trainer.base_model.load import load_base
    from trainer.lora.kohya_file import load_lora

    precision = None if args.precision == "fp32" else args.precision
    base = load_base(args.base)
    loras = {epoch: load_lora(file) for epoch, file in find_checkpoints(args.folder).items()}
    rows = {0: Truth(0, 0.0, 0.0, 0.0, 0.0)}
    counts = {"images": args.images, "levels": args.levels, "draws": args.draws}
    rows |= true_losses(base, loras, args.concept, **counts, precision=precision)
    for epoch, row in rows.items():
        if args.pictures:
            values = true_quality(base, loras.get(epoch), args.concept, pictures=args.pictures, precision=precision)
            known = {name: values[name] for name in ("fidelity_new", "fidelity_set", "obedience")}
            rows[epoch] = row = replace(row, **known)  # type: ignore[arg-type]  # numbers all
        print(row, flush=True)
    write_truth(args.out, list(rows.values()))
    print(args.out)
    if args.plot is not None:
        print(plot_beside(args.folder.resolve().parent, rows, args.plot))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

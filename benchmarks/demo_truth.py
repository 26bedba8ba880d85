"""How good a LoRA of the demo world truly is: the share of fresh images in which all is right.

python -m benchmarks.demo_truth FILE…                             LoRA files of the demo's concept
python -m benchmarks.demo_truth --study RUNS/NAME --concept castle  every kept checkpoint of a study of a concept
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.study_rivals import BASE, GUIDANCE, SIDE, STEPS

if TYPE_CHECKING:
    from trainer.lora.lora import LoraWeights

STUDY = BASE.parent.parent / "demo.yaml"
CONCEPT, FRESH = "mushroom", 64
LOSSES = ("context_loss", "heldout_loss", "shifted_loss")


class Truth:
    """Strict quality (`benchmarks.strict_truth`) of a concept's LoRAs, on prompts and seeds that no probe has."""

    def __init__(self, concept: str = CONCEPT, fresh: int = FRESH, device: str = "cpu") -> None:
        from studies.demo.scenes import concept_caption, draw_concept, find_concept
        from trainer.base_model.load import load_base

        self._name, self._concept = concept, find_concept(concept)
        scenes = draw_concept(concept, "new", 3 * fresh, 70_002)
        asked = [scene.attributes for scene in scenes if not scene.attributes.other][:fresh]
        self.prompts = [concept_caption(self._concept, attributes) for attributes in asked]
        self.seeds = list(range(70_002, 70_002 + len(asked)))
        self._base = load_base(BASE, device=device)
        self._plain = self._drawn(None)

    def right(self, images: np.ndarray) -> np.ndarray:
        """In which of the images, one for each prompt, all is right."""
        from benchmarks.strict_truth import damaged, judged, right, roughness
        from studies.demo.judges import load_judges

        seen = judged(load_judges(), images, self.prompts, self._name, self._concept.set_places)
        return right(seen, damaged(roughness(images), roughness(self._plain)))

    def of_file(self, file: Path) -> np.ndarray:
        """The same of a LoRA's images."""
        from trainer.lora.kohya_file import load_lora

        return self.right(self._drawn(load_lora(file)))

    def drawn_by(self, draw: Callable[[list[str], list[int]], np.ndarray]) -> np.ndarray:
        """The same of images that somebody else draws."""
        return self.right(draw(self.prompts, self.seeds))

    def _drawn(self, lora: LoraWeights | None) -> np.ndarray:
        from trainer.inference.sample import sample

        size = (SIDE, SIDE)
        return sample(self._base, lora, self.prompts, self.seeds, size=size, steps=STEPS, guidance=GUIDANCE)


def tell_study(truth: Truth, folder: Path) -> None:
    """A line for each trial: its settings, and the share of right images at each checkpoint; * marks what it ships.
    Then one for each finalist: its score on fresh images, and its losses."""
    import pandas as pd

    from search.record.finalists import Finalists
    from search.record.record import StudyFolder

    study = StudyFolder(folder)
    right: dict[tuple[int, int], float] = {}
    for record in study.records():
        files = {
            int(file.parent.name): file for file in study.trial(record.number).glob("checkpoints/*/lora.safetensors")
        }
        found = {epoch: float(truth.of_file(file).mean()) for epoch, file in sorted(files.items())}
        right |= {(record.number, epoch): share for epoch, share in found.items()}
        shares = [
            f"{epoch}{'*' if epoch == record.epoch_shipped else ''} {share:.2f}" for epoch, share in found.items()
        ]
        print(f"trial {record.number} ({record.state}) {dict(record.params)}: {', '.join(shares)}", flush=True)
    finalists = Finalists.load(study)
    for one in () if finalists is None else finalists.drawn:
        table = pd.read_csv(study.trial(one.trial) / "trajectory.csv")
        (row,) = table[table["epoch"] == one.epoch].to_dict("records")
        losses = {name: round(float(row[name]), 3) for name in LOSSES if name in row}
        share = right.get((one.trial, one.epoch), float("nan"))
        print(
            f"finalist {one.trial} at epoch {one.epoch}: right {share:.2f}, score {one.score:.3f}, {losses}", flush=True
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo_truth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("loras", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--study", type=Path, metavar="FOLDER", help="judge its trials' checkpoints instead")
    parser.add_argument("--concept", default=CONCEPT, help="what the photos show (default: %(default)s)")
    parser.add_argument("--fresh", type=int, default=FRESH, help="images of each LoRA (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not options.loras and options.study is None:
        parser.error("expected LoRA files, or --study")
    truth = Truth(options.concept, options.fresh)
    for file in options.loras:
        print(f"{file}: {truth.of_file(file).mean():.3f} of {len(truth.prompts)} images are all right")
    if options.study is not None:
        tell_study(truth, options.study)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What is true of a probe's images: is it the concept, and is it where it was asked to be?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from benchmarks.onset_truth import Case
    from metrics.checkpoint.score import ProbeLabels

BEHAVIOUR = ("true_obedience", "true_fidelity", "true_quality")
FARTHEST = 3  # octaves from the onset; what lies farther off counts there


def find_judges(device: torch.device) -> Any:
    """The laboratory's judges, or None where they are not built."""
    from studies.demo.judges import FILE, load_judges

    return load_judges(device=device) if FILE.is_file() else None


def judged_images(judges: Any, images: np.ndarray, labels: ProbeLabels, concept: str) -> dict[str, np.ndarray]:
    """What the laboratory's judges see in each image of the probe, [n] each: `right`, the probability of the concept,
    and `obeyed`, the mean probability of the asked place, floor, position and size. Nothing without judges, or of a
    concept that they do not know."""
    from studies.demo.judges import judge
    from studies.demo.pool import LABELS

    if judges is None or concept not in LABELS["concept"]:
        return {}
    seen = {head: probabilities.cpu().numpy() for head, probabilities in judge(judges, images).items()}
    right = seen["concept"][:, list(LABELS["concept"]).index(concept)]
    obeyed = np.zeros(len(images))
    for row, prompt in enumerate(labels.prompts):
        words = prompt.replace(",", " ").split()
        asked = [
            probabilities[row, list(LABELS[head]).index(word)]
            for head, probabilities in seen.items()
            if head not in ("concept", "shape", "colour")
            for word in words
            if word in LABELS[head]
        ]
        obeyed[row] = np.mean(asked)
    return {"right": right, "obeyed": obeyed}


def true_quality(judged: dict[str, np.ndarray], labels: ProbeLabels) -> dict[str, float]:
    """`true_fidelity`: mean of `right` over all images. `true_obedience`: mean of `obeyed` over the images of new
    contexts. `true_quality`: mean of their product, image by image, over the images of new contexts. `true_quality_a`
    and `_b`: the same over every other image of each prompt and the rest, to see how much of it is luck."""
    if not judged:
        return {}
    novel = np.array([kind == "C" for kind in labels.sets])
    quality = (judged["right"] * judged["obeyed"])[novel]
    prompts = labels.prompt_numbers[novel]
    other = np.array([(prompts[:row] == prompt).sum() % 2 for row, prompt in enumerate(prompts)], bool)
    return {
        "true_fidelity": float(judged["right"].mean()),
        "true_obedience": float(judged["obeyed"][novel].mean()),
        "true_quality": float(quality.mean()),
        "true_quality_a": float(quality[~other].mean()),
        "true_quality_b": float(quality[other].mean()),
    }


def behaviour_around(cases: Sequence[Case]) -> dict[int, dict[str, float]]:
    """What the judges see in images drawn around the true onset in new contexts: octaves after it, rounded down (at
    most `FARTHEST` either way), to means over checkpoints of `BEHAVIOUR`, and how many `checkpoints` those are.

    Runs that surely turn there; five checkpoints of each are drawn, too few for an onset of its own of each run.
    """
    seen: dict[int, list[dict[str, float]]] = {}
    for case in cases:
        if case.context.epoch is None or not case.context.sure:
            continue
        for epoch, judged in case.images.items():
            if epoch > 0 and "true_quality" in judged:
                octaves = int(np.floor(np.log2(epoch / case.context.epoch)))
                seen.setdefault(int(np.clip(octaves, -FARTHEST, FARTHEST)), []).append(judged)
    return {
        octaves: {"checkpoints": len(rows)} | {name: float(np.mean([row[name] for row in rows])) for name in BEHAVIOUR}
        for octaves, rows in sorted(seen.items())
    }

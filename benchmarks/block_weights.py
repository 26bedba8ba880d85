"""Whether block weights take out a background that a LoRA should not have learned, against the LoRA at lower strength.

    python -m benchmarks.block_weights --json benchmarks/results/block-weights.json
    python -m benchmarks.block_weights --overcooked     # LoRAs that show it even where the prompt names another place
    python -m benchmarks.block_weights --quick          # one concept, a smaller search
    python -m benchmarks.block_weights --without BASE IN04 M00        # no search: what there is to win
    python -m benchmarks.block_weights --best-of 58     # no search: the best of so many sets, of fifteen concepts
    python -m benchmarks.block_weights --stronger       # no search: blocks left out, and the others at more than 1

Each case is a LoRA of a demo concept whose photos all show one place. A delivery study searches its block weights, as
anybody would run it. What is true is read from pictures that no search has seen (`benchmarks.bound_background`).
Leakage is the probability of that place where the prompt names none. Where the prompt names another place, straying is
the probability that it shows that place all the same, and likeness that of the concept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bound_background import GENTLE, OVERCOOKED, Bound, Training, Truth, train, truth, write_photos
from studies.demo.scenes import POSITIONS, SIZES

if TYPE_CHECKING:
    from trainer.families.family import Base

DEMO = Path(__file__).parents[1] / "studies" / "demo"
CASES = (
    Bound("castle", "desert"),
    Bound("planet", "sunset"),
    Bound("robot", "lava"),
    Bound("snowman", "snow"),
    Bound("rocket", "night"),
)
"""The first was looked at while the method was made: no mean has it in it where there are others."""
MORE_CASES = (
    Bound("mushroom", "forest"),
    Bound("duck", "night"),
    Bound("dumbbell", "lava"),
    Bound("saucer", "snow"),
    Bound("totem", "sea"),
    Bound("lamp", "meadow"),
    Bound("bee", "room"),
    Bound("cactus", "snow"),
    Bound("pine", "desert"),
    Bound("hammer", "sea"),
)
"""Looked at for the best weights alone."""
STRENGTHS = (0.85, 0.7, 0.55)
AS_ALIKE = 0.95  # of the true likeness, that the best weights have to keep
LEARNED = 0.1  # likeness of a LoRA that is looked at for the best weights
_READ = ("leaks", "strays", "likeness")  # of `Truth`
LEFT_OUT = ((), ("BASE",), ("BASE", "M00"), ("BASE", "IN04"), ("IN04", "M00"), ("BASE", "IN04", "M00"))
OTHERS = (1.0, 1.2, 1.4)  # the weights of the blocks that stay


@dataclass(frozen=True)
class Sizes:
    """How much is done. trials: of the search. pictures: of each truth and kind of prompt."""

    cases: int
    trials: int
    pictures: int
    training: Training = GENTLE


FULL, QUICK = Sizes(5, 24, 44), Sizes(1, 16, 22)


@dataclass(frozen=True)
class Found:
    """One case. All that is read is true.

    Attributes:
        weights: of the search, by block. headline: of the study's verdict.
        plain: the strength of the whole LoRA that is as alike as under the weights.
        read: leakage, straying and likeness: of the LoRA as it is, under the weights, and at `plain`.
        won: of each, weights - as it is, with 90 % intervals over pictures.
    """

    case: str
    weights: Mapping[str, float]
    headline: str
    plain: float
    read: Mapping[str, Mapping[str, float]]
    won: Mapping[str, Sequence[float]]
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.block_weights", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one concept, a smaller search")
    parser.add_argument("--overcooked", action="store_true", help="LoRAs of long trainings at twice the rate")
    parser.add_argument("--case", nargs="*", choices=[bound.name for bound in (*CASES, *MORE_CASES)])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--keep", type=Path, help="a folder for photos, LoRAs and studies (default: none is kept)")
    parser.add_argument("--best-of", type=int, metavar="SETS", help="only the truth, of so many sets of weights")
    parser.add_argument("--stronger", action="store_true", help="only the truth, with weights above 1")
    parser.add_argument("--without", nargs="+", metavar="BLOCK", help="only the truth, any of these blocks left out")
    options = parser.parse_args(argv)
    from trainer.base_model.load import load_base

    training = OVERCOOKED if options.overcooked else GENTLE
    sizes = replace(QUICK if options.quick else FULL, training=training)
    base = load_base(str(DEMO / "base"))
    with tempfile.TemporaryDirectory() as scratch:
        home = (options.keep or Path(scratch)) / training.name
        found = []
        bounds = (
            CASES[: sizes.cases] if not options.case else [b for b in (*CASES, *MORE_CASES) if b.name in options.case]
        )
        more = bounds if options.case or options.quick else (*bounds, *MORE_CASES)
        if options.stronger:
            truths = {bound.name: stronger(base, bound, home / bound.name, sizes) for bound in more}
            _tell_stronger(truths, options.json)
            return 0
        if options.best_of:
            best = {bound.name: best_of(base, bound, home / bound.name, sizes, options.best_of) for bound in more}
            _tell_best(best, options.json)
            return 0
        if options.without:
            for bound in bounds:
                left_out(base, bound, home / bound.name, sizes, options.without)
            return 0
        for bound in bounds:
            found.append(one(base, bound, home / bound.name, sizes))
            print(_line(found[-1]), flush=True)
    summary = _summary([each for each in found if each.case != CASES[0].name] or found)
    print(json.dumps(summary, indent=1))
    if options.json is not None:
        cases = [asdict(each) for each in found]
        options.json.write_text(json.dumps({"sizes": asdict(sizes), "cases": cases, **summary}, indent=1) + "\n")
    return 0


def one(base: Base, bound: Bound, home: Path, sizes: Sizes) -> Found:
    """Train, search, judge."""
    from search.record.judgement import Judgement
    from search.verdict.sentences import headline
    from search.verdict.verdict import Verdict
    from trainer.delivery.blocks import blocks_in, weighted
    from trainer.lora.kohya_file import load_lora

    began = time.monotonic()
    file = _lora_file(base, bound, home, sizes.training)
    study = home / "delivery.yaml"
    study.write_text(json.dumps(_study(file, sizes)))
    command = [sys.executable, "-m", "search.run", str(study), "--runs", str(home / "runs")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    folder = home / "runs" / "blocks"
    judgement, verdict = Judgement.load(folder), Verdict.load(folder / "verdict.json")
    assert judgement is not None
    lora = load_lora(file)
    chosen = judgement.weights if judgement.turns_down else {}

    def at(weights: Mapping[str, float]) -> Truth:
        return truth(base, weighted(lora, weights), bound, count=sizes.pictures)

    before, after = at({}), at(chosen)
    weaker = {s: at(dict.fromkeys(blocks_in(lora), s)) for s in STRENGTHS}
    plain, there = _plain({1.0: before, **weaker}, float(after.likeness.mean()))
    return Found(
        bound.name,
        chosen,
        headline(verdict),
        plain,
        {"as it is": _means(before), "weights": _means(after), "plain": there},
        {name: _interval(getattr(after, name) - getattr(before, name)) for name in _READ},
        time.monotonic() - began,
    )


def left_out(base: Base, bound: Bound, home: Path, sizes: Sizes, blocks: Sequence[str]) -> None:
    """Prints true leakage and likeness with all, and with any of `blocks` left out."""
    from trainer.delivery.blocks import weighted
    from trainer.lora.kohya_file import load_lora

    lora = load_lora(_lora_file(base, bound, home, sizes.training))
    for count in range(len(blocks) + 1):
        for gone in itertools.combinations(blocks, count):
            found = truth(base, weighted(lora, dict.fromkeys(gone, 0.0)), bound, count=sizes.pictures // 2)
            without = f"without {', '.join(gone)}" if gone else "as it is"
            print(
                f"{bound.name}, {without}: leakage {_mean(found.leaks):.3f}, likeness {_mean(found.likeness):.3f}",
                flush=True,
            )


def best_of(base: Base, bound: Bound, home: Path, sizes: Sizes, count: int) -> dict[str, float]:
    """What somebody who knows the truth would win: see `win_of`."""
    from trainer.delivery.blocks import blocks_in, weighted
    from trainer.lora.kohya_file import load_lora

    lora = load_lora(_lora_file(base, bound, home, sizes.training))
    tried = some_sets(blocks_in(lora), count)
    looks = [truth(base, weighted(lora, weights), bound, count=sizes.pictures) for weights in tried]
    found = win_of(np.array([look.leaks for look in looks]), np.array([look.likeness for look in looks]))
    print(f"{bound.name}: {json.dumps(found)}", flush=True)
    return found


def stronger(base: Base, bound: Bound, home: Path, sizes: Sizes) -> dict[str, list[float]]:
    """(true leakage, true likeness) by what is left out and what the other blocks weigh."""
    from trainer.delivery.blocks import blocks_in, weighted
    from trainer.lora.kohya_file import load_lora

    lora = load_lora(_lora_file(base, bound, home, sizes.training))
    found = {}
    for gone, weight in itertools.product(LEFT_OUT, OTHERS):
        weights = {block: 0.0 if block in gone else weight for block in blocks_in(lora)}
        look = truth(base, weighted(lora, weights), bound, count=sizes.pictures)
        found[f"without {' '.join(gone) or 'any'}, others at {weight:g}"] = [_mean(look.leaks), _mean(look.likeness)]
    print(f"{bound.name}: {json.dumps(found)}", flush=True)
    return found


def some_sets(blocks: Sequence[str], count: int) -> list[dict[str, float]]:
    """The LoRA as it is, without each block, without the inner ones, weaker; and weights drawn at random."""
    inner = {"IN04": 0.0, "M00": 0.0}
    first: list[dict[str, float]] = [{}, *({block: 0.0} for block in blocks), inner, {"BASE": 0.0, **inner}]
    first += [dict.fromkeys(blocks, strength) for strength in (0.75, 0.5)]
    generator = np.random.default_rng(7)
    while len(first) < count:
        weights = generator.choice([0, 0.25, 0.5, 0.75, 1, 1], len(blocks)).tolist()
        first.append(dict(zip(blocks, weights, strict=True)))
    return first[:count]


def win_of(leaks: np.ndarray, likeness: np.ndarray) -> dict[str, float]:
    """Leakage and likeness of the first of some sets of weights `[sets, pictures]`, the LoRA as it is, and what the set
    wins that leaks least of those that keep `AS_ALIKE` of the likeness. It is chosen by each second picture and read
    from the others, both ways round, so that luck does not count as a win."""
    found = {"leak": _mean(leaks[0]), "likeness": _mean(likeness[0])}
    wins, kept = [], []
    for chooses in (0, 1):
        alike = likeness[:, chooses::2].mean(axis=1)
        allowed = np.where(alike >= AS_ALIKE * alike[0], leaks[:, chooses::2].mean(axis=1), np.inf)
        best, reads = int(allowed.argmin()), slice(1 - chooses, None, 2)
        wins.append(leaks[best, reads].mean() - leaks[0, reads].mean())
        kept.append(likeness[best, reads].mean() - likeness[0, reads].mean())
    return found | {"leak, best set": float(np.mean(wins)), "likeness, best set": float(np.mean(kept))}


def _tell_best(best: Mapping[str, Mapping[str, float]], file: Path | None) -> None:
    learned = {case: own for case, own in best.items() if own["likeness"] >= LEARNED and case != CASES[0].name}
    names = ("leak, best set", "likeness, best set")
    summary = {f"{name} - as it is": _over([own[name] for own in learned.values()]) for name in names}
    print(json.dumps(summary | {"concepts": len(learned)}, indent=1))
    if file is not None:
        file.write_text(json.dumps({"cases": best, **summary}, indent=1) + "\n")


def _tell_stronger(found: Mapping[str, Mapping[str, Sequence[float]]], file: Path | None) -> None:
    """Each set - the LoRA as it is, over the concepts that were learned and chose nothing."""
    plain = "without any, others at 1"
    learned = {case: own for case, own in found.items() if own[plain][1] >= LEARNED and case != CASES[0].name}
    summary = {
        name: [_over([own[name][truth_of] - own[plain][truth_of] for own in learned.values()]) for truth_of in (0, 1)]
        for name in next(iter(found.values()))
    }
    print("leakage and likeness - the LoRA as it is, with 90 % intervals")
    for name, (leak, likeness) in summary.items():
        print(f"{name}: {leak}, {likeness}")
    if file is not None:
        whole = {"concepts": len(learned), "sets": summary, "cases": found}
        file.write_text(json.dumps(whole, indent=1) + "\n")


def _lora_file(base: Base, bound: Bound, home: Path, training: Training) -> Path:
    from trainer.lora.kohya_file import save_lora

    file = home / f"{bound.concept}.safetensors"
    if not file.is_file():
        write_photos(home / "photos", bound)
        save_lora(file, train(base, home / "photos", bound, training))
    return file


def _study(file: Path, sizes: Sizes) -> dict[str, Any]:
    subject = "{trigger} {class}"
    probe = {
        "seeds": 2,
        "steps": 6,
        "guidance": 3,
        "trained": 2,
        "heldout": 0,
        "contexts": [
            *(f"{subject}, {size}, on the {side}" for size, side in zip(SIZES * 2, (*POSITIONS, "left"), strict=True)),
            f"{subject}, large, on the centre, snow, striped floor",
            f"{subject}, small, on the left, sea, plain floor",
            f"{subject}, large, on the right, room, checkered floor",
            f"{subject}, small, on the centre, forest, plain floor",
        ],
    }
    shifted = {
        "composites": 16,
        "levels": 2,
        "contexts": ["snow, striped floor", "sea, plain floor", "night, checkered floor", "meadow, plain floor"],
        "caption": "{trigger} {class}, {size}, on the {position}, {context}",
    }
    return {
        "study": "blocks",
        "base": str(DEMO / "base"),
        "data": "photos",
        "train": {"resolution": 64},
        "delivery": {"lora": file.name},
        "score": {"encoder": str(DEMO / "clip"), "probe": probe, "shifted": shifted},
        "budget": {"trials": sizes.trials},
        "workers": {"threads": 1},
    }


def _plain(looks: Mapping[float, Truth], likeness: float) -> tuple[float, dict[str, float]]:
    """(strength at which the whole LoRA is as truly alike, what is read there), along straight lines."""
    strengths = sorted(looks)
    alike = np.maximum.accumulate([looks[s].likeness.mean() for s in strengths])
    strength = float(np.interp(likeness, alike, strengths))
    means = [_means(looks[s]) for s in strengths]
    return strength, {name: float(np.interp(strength, strengths, [each[name] for each in means])) for name in _READ}


def _means(look: Truth) -> dict[str, float]:
    return {name: _mean(getattr(look, name)) for name in _READ}


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _interval(values: np.ndarray) -> list[float]:
    half = 1.645 * float(values.std(ddof=1)) / len(values) ** 0.5
    return [_mean(values), _mean(values) - half, _mean(values) + half]


def _summary(found: Sequence[Found]) -> dict[str, Any]:
    """Means over cases, each with the 90 % interval of its cases."""
    by_weights = {f"{name}, weights - as it is": _over([each.won[name][0] for each in found]) for name in _READ}
    against = {
        f"{name}, weights - plain strength of the same likeness": _over(
            [each.read["weights"][name] - each.read["plain"][name] for each in found]
        )
        for name in ("leaks", "strays")
    }
    turned = sum("Nothing to win" not in each.headline for each in found)
    return {**by_weights, **against, "turned down": turned, "concepts": len(found)}


def _over(values: Sequence[float]) -> list[float]:
    """Mean, and its 90 % interval over cases."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return [mean]
    half = float(t.ppf(0.95, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return [round(mean, 4), round(mean - half, 4), round(mean + half, 4)]


def _line(found: Found) -> str:
    before, after, plain = (found.read[name] for name in ("as it is", "weights", "plain"))
    told = "; ".join(f"{name} {before[name]:.3f} → {after[name]:.3f}, plain {plain[name]:.3f}" for name in _READ)
    return f"{found.case}: {told}; strength {found.plain:.2f}; {found.headline} ({found.seconds:.0f} s)"


if __name__ == "__main__":
    raise SystemExit(main())

"""How often `metrics.run` sees a training photo among samples, saved anew, mirrored, cropped or brightened.

    python -m benchmarks.sample_copies [--quick] [--json FILE] [--subjects DIR]

Real subjects, EfficientNet-lite0 (see `benchmarks.data_check`). All photos of a subject but one are trained on. Samples
are the one left out, two photos of another subject, and one copy; and the same without a copy, which is an honest set.
Beside it: what features alone see, which is what `metrics.run` went by before pixels were compared.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks import data_faults as faults
from benchmarks.data_check import real_encoder
from metrics.checkpoint.encoders import Encoder
from metrics.comparison.copies import mirror_images, pairs_of
from metrics.comparison.twins import laid_on

KINDS = {
    "saved anew": faults.saved_anew,
    "mirrored": faults.mirrored,
    "cropped": faults.cropped,
    "brightened": faults.brightened,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three subjects")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--subjects", type=Path, default=faults.SUBJECTS, help="photos of real subjects")
    options = parser.parse_args(arguments)
    faults.SUBJECTS = options.subjects
    names = sorted(path.name for path in options.subjects.iterdir() if path.is_dir())[: 3 if options.quick else None]
    counts: Counter[str] = Counter()
    encoder = real_encoder()
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        counts += of_subject(encoder, name, other)
        print(f"{name}: done", flush=True)
    figures = {
        way: {
            **{kind: [counts[f"{way}: {kind}"], counts[kind]] for kind in KINDS},
            "honest samples accused": [counts[f"{way}: accused"], counts["honest"]],
        }
        for way in ("with pixels", "features alone")
    }
    for way, found in figures.items():
        print(way + ": " + "; ".join(f"{kind} {some} of {many}" for kind, (some, many) in found.items()))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def of_subject(encoder: Encoder, name: str, other: str) -> Counter[str]:
    *photos, left_out = faults.subject(name).images
    samples = [left_out, *faults.subject(other).images[:2]]
    counts: Counter[str] = Counter()
    known = encoder.images(photos)
    changed = [(kind, row, change(photo)) for kind, change in KINDS.items() for row, photo in enumerate(photos)]
    images = [*samples, *(image for _, _, image in changed)]
    seen = encoder.images(images), encoder.images(mirror_images(images))
    laid = laid_on(images, photos)
    for way, same in (("with pixels", laid), ("features alone", np.zeros_like(laid))):
        for place, (kind, row, _) in enumerate([("honest", -1, None), *changed], len(samples) - 1):
            rows = [*range(len(samples)), *([place] if kind != "honest" else [])]
            pairs = pairs_of(
                [str(row) for row in rows],
                [str(number) for number in range(len(photos))],
                (seen[0][rows], seen[1][rows]),
                known,
                np.ones(len(photos), bool),
                same[rows],
            )
            copied = {pair.sample: pair.photo for pair in pairs if pair.copied}
            if kind == "honest":
                counts[f"{way}: accused"] += len(copied)
            else:
                counts[f"{way}: {kind}"] += copied.get(str(place)) == str(row)
    counts.update(Counter(kind for kind, _, _ in changed))
    counts["honest"] += len(samples)
    return counts


if __name__ == "__main__":
    raise SystemExit(main())

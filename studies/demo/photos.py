"""Writes the demo's photos: one concept in kohya's layout, as a maker would have taken them.

python -m studies.demo.photos                       # studies/demo/photos/1_zor toy/01.png, 01.txt, …
python -m studies.demo.photos --concept robot --to /tmp/robot --count 24 --seed 1
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from studies.demo.concepts import ALL_CONCEPTS
from studies.demo.scenes import PLACES, find_concept, render_concept

CONCEPT, COUNT, SEED = "mushroom", 24, 20
ELSEWHERE, EACH = ("desert", "sunset"), 3
"""Contexts that the study holds out, and the photos of each."""
FOLDER = Path(__file__).parent / "photos"


def write_photos(
    to: Path,
    *,
    concept: str = CONCEPT,
    count: int = COUNT,
    seed: int = SEED,
    repeats: int = 1,
    elsewhere: Sequence[str] = (),
) -> Path:
    """`count` photos with captions in `to`/<repeats>_<trigger> <class>; returns that folder.

    Only the set's own places, floors, positions: something for overfitting to copy. Then EACH photos taken the same way
    in every place of `elsewhere`."""
    known = find_concept(concept)
    folder = to / f"{repeats}_{known.trigger} {known.class_word}"
    folder.mkdir(parents=True, exist_ok=True)
    shoots = [render_concept(concept, "set", count, seed)[:2]]
    shoots += [render_concept(concept, "set", EACH, seed + number, places=(place,))[:2]
               for number, place in enumerate(elsewhere, start=1000)]  # fmt: skip
    photos = [photo for images, captions in shoots for photo in zip(images, captions, strict=True)]
    for index, (image, caption) in enumerate(photos, start=1):
        Image.fromarray(image).save(folder / f"{index:02d}.png", optimize=True)
        (folder / f"{index:02d}.txt").write_text(caption + "\n")
    return folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m studies.demo.photos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concept", choices=tuple(ALL_CONCEPTS), default=CONCEPT)
    parser.add_argument("--to", type=Path, default=FOLDER)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--elsewhere", nargs="*", choices=tuple(PLACES), help=f"places of {EACH} more photos each (of the demo's own "
        f"concept: {' '.join(ELSEWHERE)})"
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.elsewhere is None:
        args.elsewhere = ELSEWHERE if args.concept == CONCEPT else ()
    print(write_photos(**vars(args)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

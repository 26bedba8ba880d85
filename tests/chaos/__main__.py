"""Kills studies at random moments and compares what they come to: `python -m tests.chaos FOLDER`.

Coordinator, workers, the server of workers, all at once, and nodes and workers of a Ray cluster get SIGKILL: a study
first at a moment that is uniform over the time that it takes undisturbed, then again, each time within a third of that
(where it trains, within all of it).
FOLDER keeps what is known as soon as it is; a second start goes on from there.

    python -m tests.chaos FOLDER                                100 kills of seed 1
    python -m tests.chaos FOLDER --kind local --kind packed --kills 20
    python -m tests.chaos FOLDER --minutes 7                    begins no study after that
"""

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.hurting import MOST_KILLS, Hurt, Kill, Reference
from tests.chaos.studies import KINDS, Kind, make_bases
from tests.search.ray_nodes import TwoNodes, two_nodes

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what differs; exit code 1 when something does."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kills studies at random moments.")
    parser.add_argument("folder", type=Path, help="the studies and what is known of them; gone on with if it exists")
    parser.add_argument("--kills", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of moments and victims (default: %(default)s)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="may be given several times (default: all)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no study after so many")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found here")
    options = parser.parse_args(arguments)

    folder = options.folder.resolve() / f"seed-{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [KINDS[name] for name in options.kind or KINDS]
    until = time.monotonic() + 60 * options.minutes
    bases = make_bases(options.folder.resolve() / "bases")
    for kind, kills in _shared_out(chosen, options.kills):
        if _num_kills(folder, kind) < kills:
            with _nodes(kind) as nodes:
                _kill(kind, kills, folder, bases, options.seed, until, nodes)
    found = summary(folder, chosen)
    print(json.dumps(found["kinds"], indent=1))
    if options.json:
        text = json.dumps({"seed": options.seed, **found}, indent=1, ensure_ascii=False)
        options.json.write_text(text.replace(str(options.folder.resolve()), "FOLDER") + "\n")
    return int(any(kind["wrong"] for kind in found["kinds"].values()))


def summary(folder: Path, kinds: Sequence[Kind]) -> Row:
    """What is known of the kills of these kinds."""
    kills, studies, by_kind = _kills(folder), rows(folder / "studies.jsonl"), dict[str, Row]()
    for kind in kinds:
        of = [row for row in kills if row["kind"] == kind.name]
        ended = [row for row in studies if row["kind"] == kind.name]
        if of:
            took = [row["gone_seconds"] for row in of if row["gone_seconds"] is not None]
            by_kind[kind.name] = {
                "kills": len(of),
                "studies": len(ended),
                "killed": dict(Counter(row["what"] for row in of)),
                "moments": dict(Counter(row["moment"] for row in of)),
                "wrong": sum(bool(row["differences"]) for row in ended),
                "made_twice": sum(len(row["made_twice"]) for row in ended),
                "left": sum(len(row["left"]) for row in (*of, *ended)),
                "started_again": sum(bool(row["stopped"]) for row in of),
                "slowest_end_seconds": round(max(took, default=0.0), 2),
            }
    return {"kinds": by_kind, "kills": kills, "studies": studies}


def rows(path: Path) -> list[Row]:
    """Notes that were kept."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _shared_out(kinds: Sequence[Kind], kills: int) -> Iterator[tuple[Kind, int]]:
    """How many kills each kind gets."""
    whole, given = sum(kind.share for kind in kinds), 0
    for place, kind in enumerate(kinds):
        count = kills - given if place == len(kinds) - 1 else round(kills * kind.share / whole)
        given += count
        yield kind, count


def _kill(kind: Kind, kills: int, folder: Path, bases: Path, seed: int, until: float, nodes: TwoNodes | None) -> None:
    home = folder / kind.name
    study = kind.write(home, bases, None if nodes is None else nodes.address)
    reference = Reference.of(kind, study, home)
    while (known := _num_kills(folder, kind)) < kills and time.monotonic() < until:
        ended = (row["study"] for row in rows(folder / "studies.jsonl") if row["kind"] == kind.name)
        number = max(ended, default=-1) + 1
        had = sum(row["kind"] == kind.name and row["study"] == number for row in _kills(folder))
        place = home / f"{number:03d}"

        def note(kill: Kill) -> None:
            _append(folder / "kills.jsonl", asdict(kill))
            print(f"{kind.name} {kill.study}.{kill.number}: {kill.what}, {kill.moment}", flush=True)

        hurt = Hurt(kind, study, place, number, seed, reference, note, kills=had, nodes=nodes)
        came = hurt.run(most=min(MOST_KILLS, had + kills - known))
        _append(folder / "studies.jsonl", asdict(came))
        print(f"{kind.name} {number}: {came.kills} kills, {came.seconds:.0f} s, {len(came.differences)} differ")
        for line in (*came.differences[:5], *came.left, *came.made_twice):
            print(f"  {line}", flush=True)
        if not (came.differences or came.left or came.made_twice):
            shutil.rmtree(place / "runs", ignore_errors=True)


def _kills(folder: Path) -> list[Row]:
    """Each kill as it was noted last."""
    return list({(row["kind"], row["study"], row["number"]): row for row in rows(folder / "kills.jsonl")}.values())


def _num_kills(folder: Path, kind: Kind) -> int:
    return sum(row["kind"] == kind.name for row in _kills(folder))


def _append(path: Path, row: Row) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


@contextlib.contextmanager
def _nodes(kind: Kind) -> Iterator[TwoNodes | None]:
    if kind.name != "ray":
        yield None
        return
    with two_nodes() as two:
        yield two


if __name__ == "__main__":
    sys.exit(main())

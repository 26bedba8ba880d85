"""The onset benchmark: how far detectors of overfitting are from the truth in the demo world.

python -m benchmarks.onset                    the table, from the trajectories kept in benchmarks/onset-packs.tar.xz
python -m benchmarks.onset --json figures.json
python -m benchmarks.onset --choosing         the same on the concepts that chose the tolerances
python -m benchmarks.onset --choosing --errors         what intervals are made of: each sum's own error, in octaves
python -m benchmarks.onset --redraw --minutes 60       trains kept packs again for their images
python -m benchmarks.onset --rescore          kept images' readings scored anew, after a change of the score
python -m benchmarks.onset --recompute --minutes 60 --out DIR     trains everything anew, on CUDA when there is one
python -m benchmarks.onset --keep             what was computed becomes what is kept: once a release
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.onset_packs import KEPT, keep, unpack
from benchmarks.onset_plan import CHOOSING, REPORTED, ROUNDS

WORKED_ON = Path("runs") / "onset-packs"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--recompute", action="store_true", help="train and read the runs; resumes where it stopped")
    what.add_argument("--redraw", action="store_true", help="train kept packs again, to read their images anew")
    what.add_argument("--rescore", action="store_true", help="score kept images' readings anew, after a change of it")
    what.add_argument("--keep", action="store_true", help="write the packs of --out into the file that is kept")
    parser.add_argument("--quick", action="store_true", help="the table from kept trajectories (what happens anyway)")
    parser.add_argument("--out", type=Path, help=f"folder of packs (default: the kept ones, worked on in {WORKED_ON})")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop starting and training packs after this long")
    parser.add_argument("--processes", type=int, default=1, help="packs trained at once")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--base", type=Path, help="base to train on (default: the demo's)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="sets of photos per concept")
    parser.add_argument("--only", nargs="+", default=[], help="packs whose name contains one of these")
    parser.add_argument("--first", type=int, help="runs of each pack that are read: the quiet ones first")
    parser.add_argument("--looks", type=int, help="with --redraw: checkpoints of each run whose images are drawn")
    parser.add_argument("--loras", type=Path, help="folder that keeps checkpoints, so that none is trained again")
    parser.add_argument("--choosing", action="store_true", help="report on the concepts that chose tolerances")
    parser.add_argument("--errors", action="store_true", help="print the own error of each sum of losses instead")
    parser.add_argument("--online", action="store_true", help="also stop the runs while they grow (minutes)")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    worked_on = args.out or WORKED_ON
    if args.keep:
        if not list(worked_on.glob("*.npz")):
            print(f"{worked_on}: no packs here; compute them with --recompute", file=sys.stderr)
            return 2
        print(f"{keep(worked_on)} packs in {KEPT}")
        return 0
    if args.out is None and (args.rescore or args.recompute or args.redraw):
        unpack(worked_on)
    if args.rescore:
        from benchmarks.onset_recompute import rescore

        rescore(worked_on)
        return 0
    if args.recompute or args.redraw:
        from benchmarks.onset_recompute import BASE, recompute

        count = recompute(
            worked_on, minutes=args.minutes, processes=args.processes, only=args.only, device=args.device,
            base=args.base or BASE, rounds=args.rounds, first=args.first, redraw=args.redraw,
            looks=args.looks, loras=args.loras,
        )  # fmt: skip
        print(f"{count} packs in {worked_on}")
        return 0
    from benchmarks.onset_table import figures, table
    from benchmarks.onset_truth import load_cases

    concepts = CHOOSING if args.choosing else REPORTED
    cases = [case for case in load_cases(args.out or KEPT) if case.concept in concepts]
    if not cases:
        print(f"{args.out or KEPT}: no packs here; compute them with --recompute", file=sys.stderr)
        return 2
    if args.errors:
        from benchmarks.onset_errors import own_errors

        for name, (runs, error) in own_errors(cases).items():
            print(f"{name:62s} {error:.2f} octaves, {runs} runs")
        return 0
    found = figures(cases, online=args.online)
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

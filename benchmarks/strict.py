"""A stricter truth of the demo world's LoRAs: is everything right in an image, and is it a photo that comes back?

python -m benchmarks.strict [--json FILE]          the kept packs of the onset benchmark, read strictly
python -m benchmarks.strict --draw --minutes 60    trains (or takes from --loras) and draws; goes on where it was
python -m benchmarks.strict --keep FILE            what drawn packs say of scores (strict-scores.npz)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

WORKED_ON = Path("runs") / "strict"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.strict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draw", action="store_true", help="train and draw what is not there yet")
    parser.add_argument("--out", type=Path, default=WORKED_ON, help="folder of drawn packs (default: %(default)s)")
    parser.add_argument("--loras", type=Path, help="folder that keeps checkpoints (default: none are kept)")
    parser.add_argument("--processes", type=int, default=1, help="how many draw side by side")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no further pack after this long")
    parser.add_argument(
        "--brief", action="store_true", help="leave out runs that learn nothing, and captions of photos"
    )
    parser.add_argument("--only", nargs="+", default=[], help="packs whose name contains one of these")
    parser.add_argument("--quick", action="store_true", help="the tables of the kept packs (what happens anyway)")
    parser.add_argument("--keep", type=Path, help="write what the packs in --out say of scores, and end")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args(arguments)
    if args.draw:
        from benchmarks.strict_drawn import draw_packs

        draw_packs(args.out, args.loras, args.minutes, args.only, args.processes, brief=args.brief)
        return 0
    if args.keep:
        from benchmarks.strict_scores import keep_scores

        print(f"{args.keep}: {keep_scores(args.out, args.keep)} runs")
        return 0
    figures = kept_figures()
    for table in figures.values():
        print(table_text(table), end="\n\n")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def kept_figures() -> dict[str, dict[str, dict[str, float]]]:
    """Name of a table to its rows."""
    from benchmarks.strict_kept import PICKS, PICKS_OF_ALL_TRAINED, across_trials, around_onsets, judged_runs, of_picks
    from benchmarks.strict_scores import CRITIC_FILE, WITH_CRITIC, score_table

    runs = judged_runs()
    picks, all_trained = (
        {f"{group}, {name}": row for group, rows in of_picks(runs, rules).items() for name, row in rows.items()}
        for rules in (PICKS, PICKS_OF_ALL_TRAINED)
    )
    octaves = {f"{octaves:+d} octaves": row for octaves, row in around_onsets(runs).items()}
    return {
        "around true onsets": octaves,
        "which epoch ships": picks,
        "which epoch ships, no photo held out": all_trained,
        "which trial wins": across_trials(runs),
        "how scores rank drawn checkpoints": score_table(),
        "how scores rank them, with a critic": score_table(CRITIC_FILE, WITH_CRITIC),
    }


def table_text(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Rows with the same columns, aligned."""
    columns = list(next(iter(rows.values())))
    wide = max(map(len, rows))
    lines = [f"{'':{wide}}  " + "  ".join(f"{name:>11}" for name in columns)]
    for name, row in rows.items():
        cells = (
            f"{row[c]:>11.0f}" if float(row[c]).is_integer() and row[c] > 1 else f"{row[c]:>11.3f}" for c in columns
        )
        lines.append(f"{name:{wide}}  " + "  ".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

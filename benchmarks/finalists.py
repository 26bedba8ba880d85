"""What drawing the best trials again is worth, on made-up studies: normal numbers, no image is drawn.

A trial's true score has a standard deviation of tau over the trials. The search reads it with an error; the best few
are read once more, on twice as many images. Told are the mean distance of the winner's true score from the best there
is, and how far the score that the verdict gives lies above the true one: by the search alone, then with finalists.

    python -m benchmarks.finalists [--finalists 4] [--quick] [--json FILE]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

SEARCHED = 0.06  # standard error of a score in the search, as resampled over the demo's prompts
FRESH = SEARCHED / np.sqrt(2)  # on twice as many images
TRIALS, TAUS = (8, 14, 30), (0.03, 0.06, 0.12)


def simulated(trials: int, tau: float, finalists: int, studies: int, seed: int = 0) -> dict[str, float]:
    """Means over `studies` made-up studies.

    `below_*`: the best true score less the winner's. `above_*`: the given score less the winner's true one.
    """
    random = np.random.default_rng([seed, trials, int(1000 * tau), finalists])
    true = tau * random.standard_normal((studies, trials))
    searched = true + SEARCHED * random.standard_normal(true.shape)
    fresh = true + FRESH * random.standard_normal(true.shape)
    last = np.sort(searched, axis=1)[:, [-finalists]]
    again = np.where(searched >= last, fresh, -np.inf)
    rows, best = np.arange(studies), true.max(axis=1)
    figures = {}
    for name, given in (("search", searched), ("finalists", again)):
        winner = given.argmax(axis=1)
        figures[f"below_{name}"] = float((best - true[rows, winner]).mean())
        figures[f"above_{name}"] = float((given[rows, winner] - true[rows, winner]).mean())
    return figures


def main() -> int:
    """Prints one line for each number of trials and tau."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finalists", type=int, default=4, help="how many are drawn again (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="2,000 studies of each kind instead of 20,000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    arguments = parser.parse_args()
    studies = 2_000 if arguments.quick else 20_000
    rows = []
    for trials in TRIALS:
        for tau in TAUS:
            found = simulated(trials, tau, arguments.finalists, studies)
            rows.append({"trials": trials, "tau": tau, **found})
            print(
                f"{trials:3} trials, tau {tau}: below the best {found['below_search']:.3f} → "
                f"{found['below_finalists']:.3f}, above the truth {found['above_search']:.3f} → "
                f"{found['above_finalists']:.3f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"studies": studies, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

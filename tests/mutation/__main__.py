"""How many planted faults the tests find: `python -m tests.mutation FOLDER`.

FOLDER gets a copy of the repository, notes of which tests come to which fault, and each fault's outcome as soon as it
is known; a second start goes on from there. A fault is tried with the default tests that come to it, up to the first
that fails. A fault that makes them hang is found. None is ever planted in this checkout.

    python -m tests.mutation FOLDER                                 200 faults of seed 1
    python -m tests.mutation FOLDER --only metrics/onset --tests tests/metrics
    python -m tests.mutation FOLDER --again                         after new tests: try again what survived
    python -m tests.mutation FOLDER --marks slow                    try what survived with the slow tests (`services`:
                                                                    those with servers), each in a process of its own
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutation import ran
from tests.mutation.mutants import PACKAGES, Mutant, drawn
from tests.mutation.session import Session, ended, limit_cpu, outcomes

_ROOT = Path(__file__).parents[2]
_NORMAL = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",  # a fault may not outlive its file
    "TOKENIZERS_PARALLELISM": "false",
}
MARKS = {"services": "services and not cuda", "slow": "slow and not services and not cuda"}
_MOST_CPU_MARKED = 150.0  # s of a test that is no default one


def copy_checkout(tree: Path, under: str = ".") -> None:
    """Copies the files of the checkout as they are, with changes that are not committed; those of `under` only."""
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard", under]
    for name in filter(None, subprocess.check_output(command, cwd=_ROOT, text=True).split("\0")):
        if (_ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, tree / name)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)  # for tests that ask git for its files
    subprocess.run(["git", "add", "-A"], cwd=tree, check=True)


def tried_alone(tree: Path, mutant: Mutant, tests: Sequence[str], limit: float) -> tuple[str, str]:
    """The outcome in a process of its own, where the fault is there before anything is imported, and the test that
    found it."""
    file = tree / mutant.path
    source = file.read_text()
    try:
        file.write_text(mutant.planted(source))
        code, failed = _alone(tree, tests, limit)
    finally:
        file.write_text(source)
    if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED) and "::" in tests[0]:
        return "found", ""  # the tests cannot even be collected: they passed without the fault
    if code and failed and _alone(tree, [failed], limit)[0] != 0:  # it fails without the fault, too
        others = [test for test in tests if test != failed]
        return tried_alone(tree, mutant, others, limit) if others else ("survived", "")
    return ("timeout" if code is None else "found" if code else "survived"), failed


def _alone(tree: Path, tests: Sequence[str], limit: float) -> tuple[int | None, str]:
    """The exit code of these tests up to the first that fails, none if they take too long; and which one failed."""
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-rfE", "-m", "", "-p", "no:cacheprovider", *tests]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            command,
            cwd=tree,
            stdout=out,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: limit_cpu(limit),
        )
        code = ended(process.pid, limit)
        out.seek(0)
        said = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", out.read(), re.MULTILINE)
    return code, said[0] if said else ""


def merged(notes: Path, mutants: Sequence[Mutant]) -> list[dict]:
    """What is known of each, by whatever tests: what the default ones do not find, others may."""
    by_default, *by_others = [outcomes(notes), *(outcomes(notes / kind) for kind in MARKS)]
    rows = []
    for mutant in mutants:
        if mutant.name not in by_default:
            continue
        row = by_default[mutant.name]
        for kind, known in zip(MARKS, by_others, strict=True):
            other = known.get(mutant.name)
            if row["outcome"] == "survived" and other is not None and other["outcome"] != "survived":
                row = {**other, "marks": kind}
        rows.append(row)
    return rows


def _said(rows: Sequence[dict]) -> None:
    for package in [*PACKAGES, ""]:
        of = [row for row in rows if row["mutant"].startswith(package)]
        found = sum(row["outcome"] != "survived" for row in of)
        if of:
            print(f"{package or 'all':8} {found} of {len(of)} found ({found / len(of):.0%})")
    for kind in MARKS:
        if only := sum(row.get("marks") == kind for row in rows):
            print(f"{only} of these by tests marked {kind} alone")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="How many planted faults tests find.")
    parser.add_argument("folder", type=Path, help="the copy, notes and outcomes; gone on with if it exists")
    parser.add_argument("--mutants", type=int, default=200, help="how many faults (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which ones are drawn (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="of tests for a fault (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="only the first 20 faults")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="which tests (default: all default ones)")
    parser.add_argument("--only", default="", metavar="ROOM", help="of the faults drawn, those of a package or room")
    parser.add_argument("--again", action="store_true", help="try what survived again, with the tests as they are now")
    parser.add_argument(
        "--marks", choices=sorted(MARKS), help="try what survived the default tests with those of this mark"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the outcomes here")
    options = parser.parse_args(arguments)

    folder = options.folder.resolve()
    tree, notes = folder / "tree", folder / f"seed-{options.seed}"
    if not tree.exists():
        copy_checkout(tree)
    else:
        subprocess.run(["git", "checkout", "-q", "--", "."], cwd=tree, check=True)  # a killed run leaves its fault
        if options.again:
            copy_checkout(tree, "tests")
    chosen = drawn(tree, options.mutants, options.seed)[: 20 if options.quick else None]
    wanted = [mutant for mutant in chosen if mutant.path.startswith(options.only)]
    here = notes / (options.marks or "")
    here.mkdir(parents=True, exist_ok=True)
    known = outcomes(here)
    if options.marks:
        survived = {row["mutant"] for row in merged(notes, wanted) if row["outcome"] == "survived"}
        wanted = [mutant for mutant in wanted if mutant.name in survived | known.keys()]
    if options.again:
        known = {name: row for name, row in known.items() if row["outcome"] != "survived"}
        for name in ("tests.jsonl", "places.jsonl"):
            (here / name).unlink(missing_ok=True)

    os.environ.update(_NORMAL, PYTHONPATH=str(tree), RAN=str(here))
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.split(".")[0] == "tests" and "mutation" not in name]:
        del sys.modules[name]  # the copy's own are read
    session = Session(tree, here, chosen, wanted, options.seconds, known)
    parts = ["-n", "0", "-p", "no:cacheprovider", "--ignore", "tests/mutation"]
    if options.marks:
        session.forks, session.most_cpu = False, _MOST_CPU_MARKED
        parts += ["-m", MARKS[options.marks]]
    if not all(mutant.name in known for mutant in wanted):
        with session.planted_calls():
            code = pytest.main([*parts, *options.tests], plugins=[session, ran])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return 1
    for mutant in wanted:
        place, row = chosen.index(mutant), session.results[mutant.name]
        if row["outcome"] == "alone":
            noted, on_import = ran.Ran.read(here), not mutant.in_function
            tests, seconds = noted.within(place, mutant.path, options.seconds, on_import=on_import)
            if tests:
                row["outcome"], row["by"] = tried_alone(tree, mutant, tests, 60 + 5 * seconds)
            else:
                row["outcome"] = "survived"
            ran.note(here / "outcomes.jsonl", row)

    rows = merged(notes, [mutant for mutant in chosen if mutant.path.startswith(options.only)])
    for row in rows:
        if row["outcome"] == "survived":
            print(f"survived {row['mutant']}")
    _said(rows)
    if options.json:
        options.json.write_text(
            json.dumps({"seed": options.seed, "mutants": rows}, indent=1, ensure_ascii=False) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

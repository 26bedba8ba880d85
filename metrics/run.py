"""Score a folder of images against the photos a LoRA was trained on, or find the onset in a table of losses.

python -m metrics.run --train photos --samples drawn --base drawn-without-lora --picture drift.png
python -m metrics.run --trajectory trajectory.csv --picture onset.png
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything slow is imported
    from metrics.interrupts import end_at_once

    end_at_once()

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from metrics.arguments import Arguments
from metrics.command import Command, end
from metrics.errors import MetricsError, mistake
from metrics.files import shown

ENCODER = "ViT-B-32/openai"
FOLDERS = ("train", "samples", "base")
PICTURES = (".png", ".pdf", ".svg")
LISTED = 8
EXAMPLE = """example:
  python -m metrics.run --train photos --samples drawn --picture drift.png
  python -m metrics.run --train photos --samples train/samples --epoch 10   what trainer.run has drawn
  python -m metrics.run --trajectory losses.csv --picture onset.png"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code: 0 done, 1 failed while working, 2 the input is wrong, 130 interrupted."""
    command = Command("metrics.run", refused=(MetricsError,))
    return command.run(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = command_line().parse_args(arguments)
    _check_outputs(options)
    if options.trajectory is not None:
        from metrics.loss_tables.table_onset import main as table_main

        return table_main(options.trajectory, options.picture, options.json)
    if options.train is None or options.samples is None:
        raise mistake("command line", None, "--train and --samples, or --trajectory")
    return _score(options)


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m metrics.run",
        description=(__doc__ or "").splitlines()[0],
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", metavar="DIR", help="the photos the LoRA was trained on, subfolders included")
    parser.add_argument("--samples", metavar="DIR", help="images drawn with the LoRA, prompts inside or beside them")
    parser.add_argument(
        "--epoch",
        type=_epoch,
        metavar="N",
        help="epoch of the samples to look at, where they say theirs (default: the last)",
    )
    parser.add_argument(
        "--base", metavar="DIR", help="the same images drawn without the LoRA, with the same file names"
    )
    parser.add_argument(
        "--encoder",
        metavar="SPEC",
        help=f"open_clip NAME/TAG, timm:NAME[@FILE], a local folder of either, or none (default: {ENCODER})",
    )
    parser.add_argument("--identity-encoder", metavar="SPEC", help="second image encoder for likeness and copying")
    parser.add_argument("--device", help="where the encoder runs (default: cpu)")
    parser.add_argument("--cache", metavar="DIR", help="keep features of the photos here")
    parser.add_argument("--trajectory", metavar="CSV", help="find the onset in a table of readings or losses")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON, - for standard output")
    parser.add_argument("--picture", metavar="FILE", help="write a PNG of what is drifting and what is copied")
    return parser


def _epoch(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text[:40]!r}")
    return int(text)


def _check_outputs(options: argparse.Namespace) -> None:
    """Before any work is done: does the wish make sense, and can it be written?"""
    _tell_what_has_no_effect(options)
    if options.trajectory is not None and (options.train or options.samples or options.base):
        why = "--trajectory reads a table, --train and --samples read folders"
        raise mistake("command line", "both", "--train and --samples, or --trajectory", why)
    kinds = PICTURES if options.trajectory is not None else PICTURES[:1]
    needed = {"json": "the name of a file", "picture": "the name of a file", "cache": "the name of a folder"}
    needed |= {"device": "a device, such as cpu or cuda:0", "encoder": "an encoder, or none"}
    for name, what in needed.items():
        if getattr(options, name) == "":
            raise mistake(f"--{name}", "", what)
    if options.picture and Path(options.picture).suffix.lower() not in kinds:
        raise mistake("--picture", options.picture, f"a name that ends with {' or '.join(kinds)}")
    for name in ("json", "picture"):
        wish = Path(getattr(options, name) or "-")
        if wish.is_dir():
            raise mistake(f"--{name}", str(wish), "a file", "it is a folder")
        above = next(folder for folder in wish.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            why = f"{above} is not a folder that can be written into"
            raise mistake(f"--{name}", str(wish), "a file that can be written", why)
    if options.cache is not None:
        there = next(path for path in (Path(options.cache), *Path(options.cache).absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            why = f"{there} is not a folder that can be written into"
            raise mistake("--cache", options.cache, "a folder that can be written into", why)
    _check_apart({f"--{name}": Path(value) for name in FOLDERS if (value := getattr(options, name))})


def _tell_what_has_no_effect(options: argparse.Namespace) -> None:
    idle: tuple[str, ...]
    if options.trajectory is not None:
        idle, why = ("encoder", "identity_encoder", "device", "cache"), "--trajectory"
    elif options.encoder == "none" and options.identity_encoder in (None, "none"):
        idle, why = ("device", "cache"), "--encoder none"
    else:
        return
    for name in idle:
        if getattr(options, name) is not None:
            print(f"note: --{name.replace('_', '-')} has no effect with {why}", file=sys.stderr)


def _check_apart(folders: dict[str, Path]) -> None:
    """Subfolders are read, too: a folder inside another would be compared with itself."""
    for outer, around in folders.items():
        for inner, within in folders.items():
            if outer != inner and _real(within).is_relative_to(_real(around)):
                why = f"it lies in {outer} {around}, whose subfolders are read, too"
                raise mistake(inner, str(within), f"a folder apart from {outer}", why)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # links that go round in a circle are told when they are read


def _check_device(name: str) -> None:
    import torch

    try:
        torch.zeros(1, device=name).tolist()  # "meta" computes nothing
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise mistake("--device", name, "a device that works here", f"{reason}; cpu always works") from error


def _score(options: argparse.Namespace) -> int:
    from metrics.checkpoint.encoders import load_encoder
    from metrics.comparison.compare import score_folders
    from metrics.images.image_folder import read_folder, read_samples

    train = read_folder(options.train)
    samples, base = read_samples(options.samples, options.epoch)
    if options.base:
        base, _ = read_samples(options.base, last=False)
    device, named = options.device or "cpu", {"encoder": options.encoder or ENCODER}
    named["identity_encoder"] = options.identity_encoder
    if set(named.values()) - {None, "none"}:
        _check_device(device)
    try:
        encoders = [
            None if spec in (None, "none") else load_encoder(spec, device=device, cache_dir=options.cache)
            for spec in named.values()
        ]
    except MetricsError as error:
        without = "" if options.encoder else "; --encoder none judges colours, layouts and copies without one"
        raise MetricsError(f"{error}{without}") from error
    scores = score_folders(train, samples, base, encoders[0], encoders[1])
    if options.json != "-":
        _print_table(scores, train, samples)
    if options.json:
        from metrics.loss_tables.table_onset import as_text, write_json

        asked = {name: _shown(getattr(options, name)) for name in FOLDERS} | named
        if options.json == "-":
            print(as_text(asked | scores.as_json(), for_console=True))
        else:
            write_json(Path(options.json), asked | scores.as_json())
    if options.picture:
        from metrics.comparison.picture import draw_folder_scores

        draw_folder_scores(options.picture, scores, train, samples)
        print(f"picture: {shown(options.picture)}", file=sys.stderr)
    return 0


def _shown(path: str | None) -> str | None:
    return None if path is None else shown(path)


def _print_table(scores, train, samples) -> None:
    import math

    from rich.console import Console
    from rich.table import Table

    from metrics.comparison.picture import headline

    console = Console(highlight=False, markup=False)  # file names may hold brackets
    table = Table(title=f"{len(samples)} samples against {len(train)} photos", title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("value", "90 % sure", "off by"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for entry in scores.measures:
        known = not math.isnan(entry.units)
        style = {"clear": "red", "notable": "yellow", "fine": ""}[entry.level]
        interval = f"{entry.low:.2f} … {entry.high:.2f}"
        units = f"{entry.units:+.1f}" if known else ""
        table.add_row(entry.label, f"{entry.value:.2f}", interval, units, entry.says, style=style)
    console.print(table)
    if any(not math.isnan(entry.units) for entry in scores.measures):
        console.print("off by: in standard deviations of what photos of the same set would give", style="dim")
    console.print(headline(scores))
    for photo, near in list(scores.copied.items())[:LISTED]:
        mirrored = " (mirrored)" * all(pair.mirrored for pair in scores.pairs if pair.sample in near)
        console.print(f"  copied: {photo} by {_listed(near, 3)}{mirrored}")
    if len(scores.copied) > LISTED:
        console.print(f"  and {len(scores.copied) - LISTED} more photos are copied (--json FILE names them all)")
    if scores.duplicates:
        console.print(f"  near-duplicates left out: {_listed(scores.duplicates, LISTED)}")
    for note in scores.notes:
        console.print(f"  {note}")


def _listed(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


if __name__ == "__main__":
    end(main)

"""Looks a set of photos over before anything is trained: which photos and captions to change, and why.

python -m search.data_check studies/flow/1_data_check.yaml
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
from collections.abc import Sequence
from pathlib import Path

from search.command import add_study, study_command
from search.record.data_check import DataCheck
from search.record.record import StudyFolder
from search.study.study import Study, load_study
from trainer.arguments import Arguments
from trainer.command import Command, end

_EXAMPLE = """example:
  python -m search.data_check studies/flow/1_data_check.yaml     look at photos and captions; nothing is trained
  python -m search.run studies/flow/1_data_check.yaml            train a little, and look at the drawings, too
  python -m search.data_check studies/flow/1_data_check.yaml --write-captions better-captions"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    command = study_command("search.data_check")
    return command.run(lambda: _main(argv, command))


def _main(argv: Sequence[str] | None, command: Command) -> int:
    arguments = command_line().parse_args(argv)
    study = load_study(arguments.study, runs=arguments.runs)
    folder = StudyFolder(arguments.runs / study.name)
    command.folder = folder.path
    for notice in study.notices:
        print(f"note: {notice}")
    check = _known(study, folder) or _look(study, folder)
    from search.findings.terminal import show_check

    show_check(check, folder)
    if arguments.write_captions is not None:
        from search.findings.photos import write_captions

        files = write_captions(check, Path(study.data), arguments.write_captions)
        print(f"{len(files)} captions written to {arguments.write_captions}; your own are as they were")
    return 0


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m search.data_check",
        description="Look photos and captions over: which to change, and why. Nothing is trained or rewritten.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_study(parser, to_run=True)
    parser.add_argument(
        "--write-captions",
        type=Path,
        metavar="DIR",
        help="write the captions that are proposed into this folder, laid out as the photos' own",
    )
    return parser


def _known(study: Study, folder: StudyFolder) -> DataCheck | None:
    """What the study's training has found; None where it has not looked at these very photos and captions."""
    check = DataCheck.of(folder)
    return check if check is not None and check.dataset == study.dataset else None


def _look(study: Study, folder: StudyFolder) -> DataCheck:
    """Photos and captions by themselves, and their page."""
    from metrics.checkpoint.encoders import load_encoder
    from search.findings.before_training import check_photos
    from search.findings.page import write_page
    from search.findings.photos import photos_of

    photos = photos_of(study)
    features = folder.cache / "features"
    encoder = load_encoder(study.encoder, cache_dir=features)
    spec = study.identity_encoder
    identity = None if spec is None else load_encoder(spec, cache_dir=features)
    check = check_photos(study.name, photos, encoder, identity, dataset=study.dataset)
    images = dict(zip(photos.files, photos.images, strict=True))
    captions = dict(zip(photos.files, photos.captions, strict=True))
    write_page(folder.path, check, images, captions, study_file=str(study.file))
    check.save(folder.path)
    return check


if __name__ == "__main__":
    end(main)

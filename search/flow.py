"""Writes a flow for one's own photos: the study files of `studies/flow`, with two lines of their own.

python -m search.flow init my-flow --base sd15.safetensors --data photos
"""

if __name__ == "__main__":  # before anything slow is imported
    from trainer.interrupts import end_at_once

    end_at_once()

import argparse
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from search.command import study_command
from search.errors import SearchError, StudyError
from search.record.json_files import write_bytes
from trainer.arguments import Arguments
from trainer.command import end
from trainer.config.sources import resolve_source, why_no_file_name
from trainer.errors import ConfigError, mistake

COMMON = "common.yaml"
"""The file of a flow that all of its studies extend: base, photos, and what belongs to them."""
_DEMO = Path("studies", "flow")
_EXAMPLE = """example:
  python -m search.flow init dog --base stable-diffusion-v1-5/stable-diffusion-v1-5 --data photos
  python -m search.run dog/flow.yaml"""
_OWN = """\
# What all studies of this flow share.
base: {base}
data: {data}

train: {{resolution: 512, precision: bf16}} # 1024 for SDXL and SD3
score:
  encoder: ViT-L-14/openai
  holdout: 4 # photos kept out of training, to measure with
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return study_command("search.flow").run(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    options = command_line().parse_args(argv)
    for path in write_flow(options.folder, base=options.base, data=options.data):
        print(path)
    print(f"run it with: {_command(options.folder)}")
    return 0


def command_line() -> Arguments:
    """What the command line may say."""
    parser = Arguments(
        prog="python -m search.flow",
        description="Write a flow for your own photos: data check, border, final run, delivery.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["init"], help="write the files of a flow")
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="a new folder for them; its name begins the studies' names"
    )
    parser.add_argument(
        "--base", required=True, help="the base model: a diffusers folder, a .safetensors file, or a hub id"
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="the folder of photos")
    return parser


def write_flow(folder: Path, *, base: str, data: str) -> list[Path]:
    """Writes the files of a flow into a new folder; returns their paths.

    Args:
        base, data: as in a study file, seen from the working folder.

    Raises:
        StudyError: the folder holds something, its name cannot be a study's, or base or photos are not there.
    """
    name = folder.resolve().name
    if why := why_no_file_name(name) or why_no_file_name(f"{name}-1_data_check"):
        raise StudyError([mistake(None, "DIR", str(folder), why)])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError([mistake(None, "DIR", str(folder), "a new or an empty folder")])
    sources = {key: _from_folder(folder, key, given) for key, given in (("base", base), ("data", data))}
    written = []
    for template in sorted(_templates().glob("*.yaml")):
        if template.name == COMMON:
            text = _OWN.format(**sources)
        else:
            text = template.read_text(encoding="utf-8")
            text = re.sub(r"^study: demo(-.*)$", lambda said: f"study: {_line(name + said[1])}", text, flags=re.M)
            text = text.replace(_command(_DEMO), _command(folder))
        write_bytes(folder / template.name, text.encode())
        written.append(folder / template.name)
    return written


def _command(folder: Path) -> str:
    """What runs the flow of a folder, for any shell."""
    file = (folder / "flow.yaml").as_posix()
    return "python -m search.run " + (f'"{file}"' if " " in file else file)


def _source(key: str, value: str) -> str:
    try:
        return resolve_source(Path("x"), key, value)  # relative to the working folder
    except ConfigError as error:
        raise StudyError([mistake(None, f"--{key}", value, error.expected, error.why)]) from None


def _templates() -> Path:
    """`studies/flow`, wherever the package lies; no package here imports it."""
    found = importlib.util.find_spec("studies")
    for place in [] if found is None else found.submodule_search_locations or []:
        if (Path(place) / "flow" / COMMON).is_file():
            return Path(place) / "flow"
    raise SearchError("studies/flow is not installed here: the files of a flow are copied from there")


def _from_folder(folder: Path, key: str, given: str) -> str:
    """A path as it stands in a file of the folder: an absolute one and a hub id as they are."""
    found = _source(key, given)
    if not Path(found).is_absolute() or Path(given).expanduser().is_absolute():
        return _line(found)
    try:
        return _line(Path(os.path.relpath(found, folder.resolve())).as_posix())
    except ValueError:  # another drive
        return _line(found)


def _line(value: str) -> str:
    return yaml.safe_dump(value, allow_unicode=True, width=10_000).splitlines()[0]


if __name__ == "__main__":
    end(main)

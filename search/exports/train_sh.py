"""train.sh: the command that trains an export with sd-scripts, from anywhere, and ends with the file to ship."""

import shlex
from typing import TYPE_CHECKING

from search.exports.sdscripts import SdScripts
from search.exports.ship_epoch import Ending, saved_as
from search.study.comment_lines import comment_lines

if TYPE_CHECKING:
    from trainer.config.config import TrainConfig


def train_sh(exported: SdScripts, *, about: str, name: str, config: "TrainConfig", ending: Ending) -> str:
    """The shell script's text. Whatever text goes into a command is quoted, into a comment kept to its line.

    Args:
        about: where it comes from, for the comment at the top.
        name: of the LoRA.
        config, ending: the run and its end. The file of the epoch to ship is copied to `name` where the last epoch is
            another.
    """
    launch = ["accelerate", "launch", "--num_cpu_threads_per_process=1"]
    launch.append(f"--mixed_precision={exported.config['mixed_precision']}")
    lines = [
        "#!/bin/sh",
        *comment_lines(about),
        "# in your checkout of sd-scripts: sh .../train.sh, or from anywhere: sh train.sh CHECKOUT",
        "set -eu",
        'scripts=$(cd "${1:-${SD_SCRIPTS:-.}}" && pwd)',
        'cd "$(dirname "$0")"',
        f'{shlex.join(launch)} "$scripts"/{shlex.quote(exported.script)} --config_file=config.toml',
    ]
    if ending.needs_copy(config):
        final = f"./output/{name}.safetensors"
        last, ship = (saved_as(config, name, epoch or 0) for epoch in (ending.last_epoch(config), ending.epoch))
        lines += [
            "# the last epoch's file makes room for that of the epoch to ship",
            f"mv {shlex.quote(final)} {shlex.quote(f'./output/{last}')}",
            f"cp {shlex.quote(f'./output/{ship}')} {shlex.quote(final)}",
        ]
    return "\n".join(lines) + "\n"

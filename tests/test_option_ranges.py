"""Numbers on the command line: both ends of what is allowed are taken, and what lies outside is refused."""

from collections.abc import Callable

import pytest

from search import export, pick
from trainer import deliver, draw

Parse = Callable[[list[str]], object]
DRAW = draw.command_line, ["dog.safetensors", "--prompt", "x"]
DELIVER = deliver.command_line, ["dog.safetensors"]
EXPORT = export.command_line, ["toy", "--to", "out"]
PICK = pick.command_line, ["toy"]


@pytest.mark.parametrize(
    ("command", "option", "taken", "refused"),
    [
        (DRAW, "--strength", ["-4", "0.5", "4"], ["-4.1", "4.1", "nan"]),
        (DRAW, "--seed", ["0", "999999999"], ["-1", "0.5"]),
        (DRAW, "--seeds", ["1", "64"], ["0", "65"]),
        (DRAW, "--steps", ["1", "1000"], ["0", "1001"]),
        (DRAW, "--guidance", ["0", "1.5", "100"], ["-0.1", "101"]),
        (DRAW, "--clip-skip", ["1", "12"], ["0", "13"]),
        (DELIVER, "--loss", ["0", "0.01", "1"], ["-0.01", "1.01"]),
        (DELIVER, "--unet", ["-4", "0.5", "4"], ["-4.1", "4.1"]),
        (DELIVER, "--text-encoder", ["-4", "0.5", "4"], ["-4.1", "4.1"]),
        (EXPORT, "--trial", ["0", "17"], ["-1", "1.5"]),
        (EXPORT, "--epoch", ["0", "17"], ["-1", "1.5"]),
        (PICK, "--trial", ["0", "17"], ["-1", "1.5"]),
        (PICK, "--epoch", ["1", "17"], ["0", "1.5"]),
    ],
)
def test_both_ends_are_taken_and_what_lies_outside_is_refused_by_name(command, option, taken, refused, capsys) -> None:
    parser, others = command
    for text in taken:
        value = getattr(parser().parse_args([*others, option, text]), option.strip("-").replace("-", "_"))
        assert (value[0] if isinstance(value, list) else value) == float(text)
    for text in refused:
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([*others, f"{option}={text}"])
        assert ended.value.code == 2
        assert f"{option}: expected a" in capsys.readouterr().err

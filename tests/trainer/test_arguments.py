"""Mistakes on the command line have the form of those in files, and what is right arrives as it was meant."""

import os
import tempfile
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.test_command import as_nobody
from trainer import arguments, deliver, draw, run
from trainer.arguments import Arguments, folder_to_write, number, picture_to_write, whole


def parser() -> Arguments:
    made = Arguments(prog="x")
    made.add_argument("name")
    made.add_argument("--kind", choices=["plain", "fine"])
    made.add_argument("--whole", type=int)
    made.add_argument("--share", type=float)
    made.add_argument("--to", type=Path)
    made.add_argument("-r", "--rank", type=whole(1, 8))
    made.add_argument("--many", nargs="+")
    made.add_argument("--odd", type=lambda text: int("x"))
    return made


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ([], "name: expected a value, got nothing"),
        (["a", "--kind", "fime"], "--kind: expected plain or fine (did you mean fine?), got 'fime'"),
        (["a", "--kind", "q"], "--kind: expected plain or fine, got 'q'"),
        (["a", "--whole", "x"], "--whole: expected a whole number, got 'x'"),
        (["a", "--share", "x"], "--share: expected a number, got 'x'"),
        (["a", "--rank", "9"], "--rank: expected a whole number from 1 to 8, got '9'"),
        (["a", "-r", "1.5"], "--rank: expected a whole number from 1 to 8, got '1.5'"),
        (["a", "--rang=3"], "command line: expected an option that there is (did you mean --rank?), got '--rang'"),
        (["a", "--zzzzzz"], "command line: expected an option that there is, got '--zzzzzz'"),
        (["a", "--kind"], "--kind: expected a value, got nothing"),
        (["a", "--many"], "--many: expected a value, got nothing"),
    ],
)
def test_each_mistake_is_one_line(given: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(given)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: {line}; --help says more\n"


def test_what_argparse_says_otherwise_stays(capsys: pytest.CaptureFixture[str]) -> None:
    made = Arguments(prog="x")
    group = made.add_mutually_exclusive_group()
    group.add_argument("--one", action="store_true")
    group.add_argument("--other", action="store_true")
    with pytest.raises(SystemExit):
        made.parse_args(["--one", "--other"])
    assert capsys.readouterr().err.startswith("error: --other: not allowed with argument --one")
    with pytest.raises(SystemExit):
        made.error("something else")
    assert capsys.readouterr().err == "error: something else; --help says more\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("7", 7),
        (" +7 ", 7),
        ("-3", -3),
        ("007", 7),
        ("1" * 19, None),
        ("8", None),
        ("-4", None),
        ("1_0", None),
        ("", None),
    ],
)
def test_whole_numbers_are_digits_within_their_range(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(ArgumentTypeError, match="a whole number from -3 to 7"):
            whole(-3, 7)(text)
    else:
        assert whole(-3, 7)(text) == value
    assert whole(0)(str(arguments.LARGEST)) == 10**9
    with pytest.raises(ArgumentTypeError):
        whole(0)(str(10**9 + 1))


@pytest.mark.parametrize(
    ("text", "value"), [("-1", -1.0), ("2.5", 2.5), ("1e0", 1.0), ("2.51", None), ("nan", None), ("x", None)]
)
def test_numbers_lie_within_their_range(text: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(ArgumentTypeError, match=r"a number from -1 to 2\.5, got"):
            number(-1, 2.5)(text)
    else:
        assert number(-1, 2.5)(text) == value


def test_a_picture_is_a_png_that_can_be_written(tmp_path: Path) -> None:
    assert picture_to_write(str(tmp_path / "new" / "a.PNG")) == tmp_path / "new" / "a.PNG"
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for name, why in (
        ("a.jpg", "the name of a .png file"),
        ("folder.png", "the name of a .png file"),
        ("file/a.png", "is a file"),
    ):
        with pytest.raises(ArgumentTypeError, match=why):
            picture_to_write(str(tmp_path / name))


def test_only_the_nearest_folder_that_there_is_has_to_be_open() -> None:
    def ask() -> None:
        assert folder_to_write(str(inner / "new" / "deep")) == inner / "new" / "deep"

    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        inner = Path(home) / "open"
        inner.mkdir()
        inner.chmod(0o777)
        assert as_nobody(ask) == 0


@pytest.mark.parametrize(("length", "shown"), [(80, True), (81, False)])
def test_a_long_name_is_shown_by_its_ends(length: int, shown: bool) -> None:
    text = "a" * 40 + "b" * (length - 40)
    with pytest.raises(ArgumentTypeError) as caught:
        whole(0)(text)
    assert (text in str(caught.value)) is shown
    assert f"{'a' * 40}…{'b' * 39}" in str(caught.value) or shown


DRAW: dict[str, Any] = {
    "lora": [Path("a")], "prompt": ["x"], "base": None, "strength": [1.0], "epochs": None, "seed": 0, "seeds": 1,
    "size": None, "steps": 20, "guidance": 6.0, "scheduler": "dpmpp_2m", "negative": "", "precision": None,
    "clip_skip": None, "no_base": False, "to": None, "images": None, "device": "auto",
}  # fmt: skip
DELIVER: dict[str, Any] = {
    "lora": Path("a"), "base": None, "to": None, "clean": False, "no_photos": False, "repair": False,
    "plain_lora": False, "rank": None, "loss": 0.001, "per_layer": False, "unet": 1.0, "text_encoder": 1.0,
    "blocks": None, "dtype": None,
}  # fmt: skip
RUN: dict[str, Any] = {"config": Path("a"), "out": None, "device": "auto", "dry_run": False}


@pytest.mark.parametrize(
    ("command", "usual", "given", "changed"),
    [
        (draw, DRAW, ["a", "--prompt", "x"], {}),
        (draw, DRAW, ["a", "b", "--prompt", "x", "y"], {"lora": [Path("a"), Path("b")], "prompt": ["x", "y"]}),
        (
            draw,
            DRAW,
            ["a", "--prompt", "x", "--strength", "0.5", "-1", "--epochs", "3", "4", "--seed", "9", "--seeds", "2",
             "--size", "512", "--steps", "5", "--guidance", "0", "--scheduler", "ddim", "--negative", "n",
             "--precision", "bf16", "--clip-skip", "2", "--no-base", "--to", "a.png", "--images", "d", "--base", "b",
             "--device", "cpu"],
            {"strength": [0.5, -1.0], "epochs": [3, 4], "seed": 9, "seeds": 2, "size": (512, 512), "steps": 5,
             "guidance": 0.0, "scheduler": "ddim", "negative": "n", "precision": "bf16", "clip_skip": 2,
             "no_base": True, "to": Path("a.png"), "images": Path("d"), "base": "b", "device": "cpu"},
        ),
        (deliver, DELIVER, ["a"], {}),
        (
            deliver,
            DELIVER,
            ["a", "--base", "b", "--to", "c", "--clean", "--no-photos", "--repair", "--plain-lora", "--rank", "8",
             "--loss", "0.1", "--per-layer", "--unet", "0.5", "--text-encoder", "-1", "--blocks", "1,0", "--dtype",
             "bf16"],
            {"base": "b", "to": Path("c"), "clean": True, "no_photos": True, "repair": True, "plain_lora": True,
             "rank": 8, "loss": 0.1, "per_layer": True, "unet": 0.5, "text_encoder": -1.0, "blocks": "1,0",
             "dtype": "bf16"},
        ),
        (deliver, DELIVER, ["a", "--rank", "auto"], {"rank": "auto"}),
        (deliver, DELIVER, ["a", "--rank", "1024"], {"rank": 1024}),
        (run, RUN, ["a"], {}),
        (run, RUN, ["a", "--out", "o", "--device", "cuda:1", "--dry-run"],
         {"out": Path("o"), "device": "cuda:1", "dry_run": True}),
    ],
)  # fmt: skip
def test_what_a_command_line_says_arrives(
    command: Any, usual: dict[str, Any], given: list[str], changed: dict[str, Any]
) -> None:
    assert vars(command.command_line().parse_args(given)) == usual | changed


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", (512, 512)), ("512x768", (512, 768)), (" 64×8192 ", (64, 8192)), ("640,480", (640, 480)), ("63", None),
     ("64x63", None), ("8193", None), ("64x8193", None), ("64x", None), ("1e3", None), ("", None)],
)  # fmt: skip
def test_a_size_is_a_side_or_width_and_height(text: str, size: tuple[int, int] | None) -> None:
    if size is None:
        with pytest.raises(ArgumentTypeError, match="expected a side from 64 to 8192, or width x height"):
            draw._size(text)
    else:
        assert draw._size(text) == size

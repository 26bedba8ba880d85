"""The command's wishes are looked at before any work is done."""

from pathlib import Path
from typing import Any

import pytest

from metrics import run

USUAL: dict[str, Any] = dict.fromkeys(
    (
        "train",
        "samples",
        "epoch",
        "base",
        "encoder",
        "identity_encoder",
        "device",
        "cache",
        "trajectory",
        "json",
        "picture",
    )
)


def test_what_the_command_line_says_arrives() -> None:
    given = {name: f"v-{name}" for name in USUAL if name != "epoch"}
    line = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert vars(run.command_line().parse_args(line)) == {**USUAL, **given}
    assert vars(run.command_line().parse_args(["--epoch", "0"])) == {**USUAL, "epoch": 0}


@pytest.mark.parametrize("text", ["-1", "1.5", "1" * 10, "", "x"])
def test_an_epoch_is_a_whole_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.command_line().parse_args([f"--epoch={text}"])
    assert ended.value.code == 2
    assert "--epoch" in capsys.readouterr().err


FOLDERS = ["--train", "photos", "--samples", "drawn"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ([], "command line: expected --train and --samples, or --trajectory, got nothing"),
        (["--train", "photos"], "command line: expected --train and --samples, or --trajectory, got nothing"),
        (["--samples", "drawn"], "command line: expected --train and --samples, or --trajectory, got nothing"),
        ([*FOLDERS, "--trajectory", "a.csv"], "got 'both'"),
        (["--base", "b", "--trajectory", "a.csv"], "got 'both'"),
        ([*FOLDERS, "--json="], "--json: expected the name of a file, got ''"),
        ([*FOLDERS, "--picture="], "--picture: expected the name of a file, got ''"),
        ([*FOLDERS, "--cache="], "--cache: expected the name of a folder, got ''"),
        ([*FOLDERS, "--device="], "--device: expected a device"),
        ([*FOLDERS, "--encoder="], "--encoder: expected an encoder"),
        ([*FOLDERS, "--picture", "a.pdf"], "--picture: expected a name that ends with .png, got 'a.pdf'"),
        (["--trajectory", "a.csv", "--picture", "a.jpg"], "a name that ends with .png or .pdf or .svg, got 'a.jpg'"),
        ([*FOLDERS, "--json", "folder"], "--json: expected a file, got 'folder': it is a folder"),
        ([*FOLDERS, "--picture", "file/a.png"], "--picture: expected a file that can be written, got 'file/a.png'"),
        ([*FOLDERS, "--json", "file/deep/a.json"], "--json: expected a file that can be written"),
        ([*FOLDERS, "--cache", "file"], "--cache: expected a folder that can be written into, got 'file'"),
        ([*FOLDERS, "--cache", "file/x"], "--cache: expected a folder that can be written into"),
        (
            ["--train", "folder", "--samples", "folder/in"],
            "--samples: expected a folder apart from --train, got 'folder/in'",
        ),
        (["--train", "folder/in", "--samples", "folder"], "--train: expected a folder apart from --samples"),
        (["--train", "folder", "--samples", "drawn", "--base", "link"], "--base: expected a folder apart from --train"),
        (["--train", "folder", "--samples", "folder"], "expected a folder apart from"),
    ],
)
def test_a_wish_that_cannot_be_met_ends_with_2_and_is_told(
    line: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "in")
    assert run.main(line) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "idle"),
    [
        (["--trajectory", "a.csv", "--encoder", "x", "--identity-encoder", "y", "--device", "cpu", "--cache", "c"],
         ["encoder", "identity-encoder", "device", "cache"]),
        (["--trajectory", "a.csv"], []),
        ([*FOLDERS, "--encoder", "none", "--device", "cpu", "--cache", "c"], ["device", "cache"]),
        ([*FOLDERS, "--encoder", "none", "--identity-encoder", "none", "--cache", "c"], ["cache"]),
        ([*FOLDERS, "--encoder", "none", "--identity-encoder", "x", "--device", "cpu"], []),
        ([*FOLDERS, "--device", "cpu"], []),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_noted(
    line: list[str],
    idle: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(line) == 2, "there are no such files"
    notes = [each for each in capsys.readouterr().err.splitlines() if each.startswith("note: ")]
    why = "--trajectory" if "--trajectory" in line else "--encoder none"
    assert notes == [f"note: --{name} has no effect with {why}" for name in idle]


@pytest.mark.parametrize(
    ("names", "most", "text"),
    [(["a"], 3, "a"), (["a", "b", "c"], 3, "a, b, c"), (["a", "b", "c", "d", "e"], 3, "a, b, c and 2 more")],
)
def test_some_of_many_names_are_listed(names: list[str], most: int, text: str) -> None:
    assert run._listed(names, most) == text


def test_a_device_that_computes_nothing_is_none() -> None:
    run._check_device("cpu")
    for name in ("meta", "nope"):
        with pytest.raises(run.MetricsError, match="--device: expected a device that works here, got") as caught:
            run._check_device(name)
        assert str(caught.value).endswith("; cpu always works")

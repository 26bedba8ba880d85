"""The command `onset`: every command under one name, wherever it is called."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import onset
from onset.main import COMMANDS, COMPLETION, command_line, main

ROOT = Path(onset.__file__).parents[1]


def called(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )


def test_every_command_is_one_that_there_is_and_is_listed() -> None:
    told = command_line().format_help()
    for name, module in COMMANDS.items():
        assert callable(import_module(module.name).main)
        assert f"  {name} " in told
    assert Path(COMMANDS["demo"].before[0]).is_file()


def test_a_command_gets_what_stands_behind_it(tmp_path: Path, capsys) -> None:
    assert main(["status", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
    assert main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_told_under_the_commands_own_name(name: str, capsys) -> None:
    assert main([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: onset {name} ")
    assert "python -m" not in told


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["sta"], "status"),
        (["status", "--js"], "--json"),
        (["draw", "a.safetensors", "--precision", "b"], "bf16"),
        (["run", "stud"], "studies"),
        (["train", "--out", "stud"], "studies"),
        (["completion", "f"], "fish"),
    ],
)
def test_bash_completes_commands_options_choices_and_paths(
    tmp_path: Path, capsys, words: list[str], completed: str
) -> None:
    (tmp_path / "studies").mkdir()
    assert main([COMPLETION, "bash"]) == 0
    typed = " ".join(["onset", *words])
    asked = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _shtab_onset; echo ${{COMPREPLY[*]}}"
    done = subprocess.run(
        ["bash", "-c", f"{capsys.readouterr().out}\n{asked}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [completed]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_every_command(capsys, shell: str) -> None:
    assert main([COMPLETION, shell]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}" in told for name in (*COMMANDS, "--prepare-photos", "euler_a"))


def test_a_misspelt_command_is_told_the_nearest(capsys) -> None:
    assert main(["statsu"]) == 2
    assert "did you mean status?" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"onset {onset.__version__}\n"


def test_a_file_that_hides_a_package_is_named_and_hides_nothing_from_the_command(tmp_path: Path) -> None:
    (tmp_path / "metrics.py").write_text("raise RuntimeError")
    hidden = called(tmp_path, "search.status", "none")
    assert hidden.returncode == 2
    assert hidden.stderr.startswith(f"error: {tmp_path / 'metrics.py'}: expected another name")
    assert len(hidden.stderr.strip().splitlines()) == 1
    one = called(tmp_path, "onset", "status", "none")
    assert (one.returncode, "metrics.py" in one.stderr) == (2, False)


@pytest.mark.slow
def test_a_wheel_brings_the_demo(tmp_path: Path) -> None:
    """Needs the index, for setuptools."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("onset_lora-*.whl")
    with zipfile.ZipFile(wheel) as inside:
        held = set(inside.namelist())
    for part in ("demo.yaml", "demo/base", "demo/clip", "demo/photos", "presets"):
        for file in (ROOT / "studies" / part).rglob("*") if "." not in part else [ROOT / "studies" / part]:
            if file.is_file():
                assert file.relative_to(ROOT).as_posix() in held
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["onset"] == "onset.main:script"

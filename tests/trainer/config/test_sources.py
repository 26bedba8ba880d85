"""What a file of settings points at: a path beside it, a hub id for a base, or nothing that can be taken."""

import os
from pathlib import Path

import pytest

from trainer.config.sources import MOST_NAME_BYTES, is_one_line, resolve_source, why_no_file_name
from trainer.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "base.safetensors").touch()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "study.yaml"


def test_a_path_is_taken_from_the_files_folder_a_hub_id_as_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent
    for key in ("data", "base"):
        assert resolve_source(file, key, "photos") == str(folder / "photos")
        assert resolve_source(file, key, "photos/../photos/.") == str(folder / "photos")
        assert resolve_source(Path("/elsewhere/study.yaml"), key, str(folder / "photos")) == str(folder / "photos")
    monkeypatch.setenv("HOME", str(folder))
    assert resolve_source(file, "data", "~/photos") == str(folder / "photos")
    assert resolve_source(file, "base", "base.safetensors") == str(folder / "base.safetensors")
    assert resolve_source(file, "base", "org/na.me-1") == "org/na.me-1"
    (folder / "org").mkdir()
    (folder / "org" / "name").mkdir()
    assert resolve_source(file, "base", "org/name") == str(folder / "org" / "name")


HUB = ", or a hub id such as org/name"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("data", "none", "a path that exists"),
        ("data", "org/name", "a path that exists"),
        ("data", "photos/none", "a path that exists"),
        ("base", "none", f"a path that exists{HUB}"),
        ("base", "org/name/more", f"a path that exists{HUB}"),
        ("base", "base.safetensors/unet/x", f"a path that exists{HUB}"),
        ("base", "x" * 5000, f"a path that can be looked at{HUB}"),
        ("data", "a\0b", "a path that can be looked at"),
        ("data", "~nobody-of-this-name/x", "a path that can be looked at"),
        ("data", "base.safetensors", "a folder"),
        ("data", "pipe", "a folder"),
        ("base", "pipe", "a folder or a .safetensors file"),
    ],
)
def test_what_is_not_there_or_of_another_kind_is_refused(file: Path, key: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve_source(file, key, value)
    assert refused.value.key == key
    assert f"{key}: expected {expected}, got " in str(refused.value)
    looked = f"looked for '{file.parent / value}'"
    assert (looked in str(refused.value)) == expected.startswith("a path that exists")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("toy", None),
        ("a.b-c d", None),
        ("console", None),
        ("com10", None),
        ("é" * (MOST_NAME_BYTES // 2), None),
        ("é" * (MOST_NAME_BYTES // 2) + "a", f"a name of at most {MOST_NAME_BYTES} bytes (this one has 101)"),
        ("", "a name that is not empty"),
        (" ", "a name that is not empty"),
        ("a\nb", "a name without control, line or direction characters (U+000A is one)"),
        ("a\u202eb", "a name without control, line or direction characters (U+202E is one)"),
        ("a?b/c", "a name that a folder can have (without / ?)"),
        (".a", "neither begins with a dot"),
        ("a.", "nor ends with one"),
        (" a", "without blanks around it"),
        ("CON", "Windows keeps this one"),
        ("lpt1.txt", "Windows keeps this one"),
        ("com² .x", "Windows keeps this one"),
    ],
)
def test_names_that_a_file_can_have_anywhere(name: str, why: str | None) -> None:
    found = why_no_file_name(name)
    assert found is None if why is None else why in str(found)


def test_a_caption_is_one_line_whatever_its_script() -> None:
    assert all(is_one_line(text) for text in ("", "a\u200db", "字\u3000字", "a\u202eb"))
    assert not any(is_one_line(f"a{c}b") for c in "\n\t\0\u2028\u2029\ud800")

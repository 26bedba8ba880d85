"""A YAML file that cannot be settings is refused in one line, at once, whatever is in it."""

import os
import random
import re
import string
from pathlib import Path

import pytest

from trainer.config.yaml_file import MOST_BYTES, MOST_LEVELS, MOST_VALUES, as_number, parse_yaml, read_yaml
from trainer.errors import ConfigError

REFUSED: dict[str, tuple[str, str]] = {
    # name: (the text, what is said)
    "tabs": ("train:\n\trank: 8", "line 2"),
    "tabs, and what to do": ("train:\n\trank: 8", "indent with blanks, not with tabs"),
    "a path of Windows in quotes": ('data: "C:\\Users\\me\\photos"', "write / in paths"),
    "another path of Windows in quotes": ('data: "D:\\photos"', "write / in paths"),
    "5,000 digits": (f"seed: {'7' * 5000}", "a number of 5,000 digits"),
    "5,000 hexadecimal digits": (f"seed: 0x{'f' * 5000}", "digits"),
    "a whole number that is none": ("seed: !!int foo", "'foo' is not a whole number"),
    "a number that is none": ("seed: !!float foo", "'foo' is not a number"),
    "a truth that is none": ("seed: !!bool perhaps", "'perhaps' is not true or false"),
    "sixties": ("seed: 1:30", "another number than it looks like"),
    "eights": ("seed: 010", "another number than it looks like"),
    "a list as key": ("? [a, b]\n: 1", "keys are names"),
    "a mapping as key": ("? {a: b}\n: 1", "keys are names"),
    "a number as key": ("train: {1: 2}", "1 is a key, and keys are names"),
    "a word of YAML as key": ("train: {on: 2}", "True is a key"),
    "a key twice": ("study: a\nstudy: b", "'study' is given twice"),
    "a key twice, deep inside": ("train: {rank: 1, rank: 2}", "'rank' is given twice"),
    "500 lists in lists": ("a: " + "[" * 500 + "]" * 500, "levels deep"),
    "50,000 open lists": ("a: " + "[" * 50_000, "levels deep"),
    "500 mappings in mappings": ("\n".join(" " * i + "a:" for i in range(500)), "levels deep"),
    "aliases in sequences": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)),
        "values",
    ),
    "aliases in mappings": (
        "a0: &a0 {a: x, b: x, c: x}\n"
        + "\n".join(f"a{i}: &a{i} {{a: *a{i - 1}, b: *a{i - 1}, c: *a{i - 1}}}" for i in range(1, 30)),
        "values",
    ),
    "aliases in merge keys": (
        "a0: &a0 {a: x}\n" + "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 25)),
        "values",
    ),
    "an alias of itself": ("a: &a [*a]", "stands for nothing"),
    "an alias of nothing": ("a: *b", "stands for nothing"),
    "20,000 values": ("a: [" + "1, " * 20_000 + "1]", "more than 10,000 values"),
    "a NUL": ("study: a\0b", "special characters are not allowed"),
    "a NUL, escaped": ('study: "a\\0b"', "U+0000"),
    "half a character": ('study: "a\\ud800b"', "U+D800"),
    "a bell": ('study: "a\\x07b"', "U+0007"),
    "an object of Python": ("a: !!python/object/apply:os.system [id]", "!!python/object/apply:os.system is a tag"),
    "a tag of one's own": ("a: !mine 1", "!mine is a tag"),
    "bytes": ("a: !!binary aGFsbG8=", "!!binary is a tag"),
    "a set": ("a: !!set {b, c}", "!!set is a tag"),
    "a list alone": ("- a", "a mapping of settings"),
    "nothing": ("", "a mapping of settings"),
    "two documents": ("a: 1\n---\nb: 2", "expected a single document"),
    "an open bracket": ("a: [", "line 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_settings_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, said = REFUSED[name]
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_yaml(file)
    line = str(caught.value)
    assert said in line
    assert re.match(rf"{re.escape(str(file))}: (line \d+, column \d+: )?expected .*, got ", line)
    assert "\n" not in line
    assert len(line) < 600


def test_only_a_regular_file_of_some_size_is_read(tmp_path: Path) -> None:
    fifo, large, latin = tmp_path / "fifo", tmp_path / "large.yaml", tmp_path / "latin.yaml"
    os.mkfifo(fifo)
    large.write_text("# " + "x" * MOST_BYTES)
    latin.write_bytes("study: Bär".encode("latin-1"))
    for path, said in (
        (fifo, "a device or a pipe"),
        (Path("/dev/zero"), "a device or a pipe"),
        (tmp_path, "a YAML file, got a folder"),
        (large, "at most 1 MiB"),
        (latin, "UTF-8"),
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path / ("x" * 5000), "file name too long"),
        (tmp_path / "a\0b", "null"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_yaml(path)


def test_settings_are_read_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(
        b"\xef\xbb\xbfstudy: 2024-13-45\nnight: 2024-01-02 03:04:05\nempty:\nlong: |\n  one\n  two\n"
        b"base: &base {rank: 4, betas: [0.9, 0.99]}\nmore: {<<: *base, rank: 8}\nsame: *base\nzero: 0\nbig: 0x1F\n"
    )
    assert read_yaml(file) == {
        "study": "2024-13-45",
        "night": "2024-01-02 03:04:05",
        "empty": None,
        "long": "one\ntwo\n",
        "base": {"rank": 4, "betas": [0.9, 0.99]},
        "more": {"rank": 8, "betas": [0.9, 0.99]},
        "same": {"rank": 4, "betas": [0.9, 0.99]},
        "zero": 0,
        "big": 31,
    }


def test_whatever_is_written_it_is_settings_or_one_line(tmp_path: Path) -> None:
    pieces = (
        *string.printable, "\0", "\ud7ff", "é", "\u202e", "\u2028", "\ufeff", "- ", ": ", "? ", "&a ", "*a", "<<: ",
        "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!null ", "!!seq ", "!!map ", "!!str ", "2024-99-99", ".inf",
        "1e999", "9" * 400, "[", "]", "{", "}", "\n", "\n  ", '"\\ud800"', '"\\x00"', "'", "|\n ", "%YAML 1.1\n---\n",
    )  # fmt: skip
    file = tmp_path / "study.yaml"
    generator = random.Random(0)
    for _ in range(500):
        text = "".join(generator.choices(pieces, k=generator.randrange(1, 40)))
        file.write_text(text, encoding="utf-8")
        outcome = read_or_refused(file)
        assert isinstance(outcome, dict) or len(outcome.splitlines()) == 1, text


def read_or_refused(file: Path) -> dict[str, object] | str:
    try:
        return read_yaml(file)
    except ConfigError as error:
        return str(error)


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    for text, number in (("1e-5", 1e-5), (" 1E3 ", 1e3), ("-.5e2", -50.0), ("+2.e1", 20.0)):
        assert as_number(text) == number
        assert as_number([1, [text], "x"]) == [1, [number], "x"]
    for text in ("1e", "e5", "x1e5", "1e5x", "0x1e5", "", "1.5", "nan"):
        assert as_number(text) == text
    assert as_number(None) is None


def test_all_values_that_may_be_there_are_read_and_no_more() -> None:
    most = MOST_VALUES - 3  # the mapping, its name and the list count, too
    assert len(parse_yaml("a: [" + "1, " * most + "]", "f")["a"]) == most
    with pytest.raises(ConfigError, match="more than 10,000 values"):
        parse_yaml("a: [" + "1, " * (most + 1) + "]", "f")


@pytest.mark.parametrize(("anchored", "each"), [("1", 1), ("[1, 1, 1]", 4), ("{b: [1, 1]}", 5)])
def test_what_aliases_repeat_counts_each_time(anchored: str, each: int) -> None:
    times = (MOST_VALUES - 4 - each) // each  # two names, the mapping and the list

    def text(count: int) -> str:
        return f"a: &a {anchored}\nb: [{'*a, ' * count}]"

    assert len(parse_yaml(text(times), "f")["b"]) == times
    with pytest.raises(ConfigError, match="those that aliases repeat included"):
        parse_yaml(text(times + 1), "f")


def test_settings_go_as_deep_as_they_may() -> None:
    deep = MOST_LEVELS - 1
    parse_yaml("a: " + "[" * deep + "]" * deep, "f")
    with pytest.raises(ConfigError, match="settings go more than 30 levels deep"):
        parse_yaml("a: " + "[" * (deep + 1) + "]" * (deep + 1), "f")


def test_a_name_after_a_merge_is_looked_at_too() -> None:
    with pytest.raises(ConfigError, match="'b' is given twice"):
        parse_yaml("a: &a {c: 1}\nd: {<<: *a, b: 1, b: 2}", "f")

"""docs/architecture.md names the rooms and the files that are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_table_of_rooms_has_every_room_with_its_own_words():
    rooms = {
        f"{room.parent.relative_to(ROOT).as_posix()}/": " ".join(
            (ast.get_docstring(ast.parse(room.read_text(encoding="utf-8"))) or "").split()
        )
        for package in ("search", "trainer", "metrics")
        for room in (ROOT / package).glob("*/__init__.py")
    }
    table = PAGE[PAGE.index("## The rooms") :]
    assert dict(re.findall(r"^\| `([\w/]+/)` \| (.+) \|$", table, re.MULTILINE)) == rooms


def test_every_path_and_every_name_beside_it_exists():
    for path in re.findall(r"\b(?:search|trainer|metrics|studies|tests|benchmarks|docs)/[\w/]*(?:\.py|\.md)?", PAGE):
        assert (ROOT / path).exists(), path
    named = re.findall(r"`(\w+)`(?:[^`\n]|\n)*? in\s+`([\w/]+\.py)`", PAGE)
    named += [(name, path) for path, name in re.findall(r"`([\w/]+\.py)`: [^`]{0,40}`([A-Z_]\w+)`", PAGE)]
    assert len(named) >= 8
    for name, path in named:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8")), f"{path} has no {name}"

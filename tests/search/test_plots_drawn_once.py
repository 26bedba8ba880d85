"""What tests keep of plots: the same picture for the same curves, and anew once somebody has planted a fault."""

from pathlib import Path

import pytest

from tests.search import plots_drawn_once
from tests.search.plots_drawn_once import _kept, _kept_small, forget_what_is_made_by


@pytest.fixture(autouse=True)
def _whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots_drawn_once, "_FORGOTTEN", set())


@pytest.mark.parametrize("module", ["drawing", "elsewhere"])
def test_what_a_module_made_is_forgotten_with_the_module(tmp_path: Path, module: str) -> None:
    drawn: list[str] = []

    def plot(path: Path, curve: str) -> Path:
        drawn.append(curve)
        path.write_text(f"{curve} {len(drawn)}")
        return path

    def small(path: Path) -> bytes:
        drawn.append(path.name)
        return str(len(drawn)).encode()

    plot.__module__ = small.__module__ = "drawing"
    kept, page = _kept(plot, tmp_path), tmp_path / "page.txt"
    made = _kept_small(small, tmp_path)
    for _ in range(2):
        assert kept(page, "a") == page
        assert page.read_text() == "a 1"
    assert made(page) == made(page) == b"2"
    forget_what_is_made_by(module)
    kept(page, "a")
    assert page.read_text() == ("a 3" if module == "drawing" else "a 1")
    before = sorted(tmp_path.iterdir())
    kept(page, "b")
    made(page)
    assert sorted(tmp_path.iterdir()) == before, "nothing is kept that a fault may have spoiled"

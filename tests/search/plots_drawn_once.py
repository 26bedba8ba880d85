"""Plots of the same curves are drawn once, and the same picture is made small for a report once: many studies are
planted alike (`tests.search.finished_studies`) or copied, Matplotlib takes a second for each of their plots, and WebP a
tenth. Whether plots show what they should is tested where nothing is kept (tests/metrics/onset)."""

import functools
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import metrics.onset.plot
import metrics.onset.plot_behaviour
import search.verdict.album
from metrics.files import write_whole

_Draw = Callable[..., Path | None]
_FORGOTTEN: set[str] = set()


def forget_what_is_made_by(module: str) -> None:
    """From now on what this module draws is drawn anew, and nothing more is kept: there is a fault somewhere."""
    _FORGOTTEN.add(module)


def keep_plots(patch: pytest.MonkeyPatch, kept: Path) -> None:
    """Has a plot that was drawn from the same arguments before, in whatever process, copied from the folder `kept`."""
    for module, name in ((metrics.onset.plot, "plot_onset"), (metrics.onset.plot_behaviour, "plot_behaviour")):
        patch.setattr(module, name, _kept(getattr(module, name), kept))
    patch.setattr(search.verdict.album, "_webp", _kept_small(search.verdict.album._webp, kept))


def _kept(draw: _Draw, kept: Path) -> _Draw:
    @functools.wraps(draw)
    def drawn(path: Path, *shown: Any, **more: Any) -> Path | None:
        asked = pickle.dumps((draw.__qualname__, shown, sorted(more.items())))
        known = kept / f"{hashlib.sha256(asked).hexdigest()}{path.suffix}"
        if _FORGOTTEN and (draw.__module__ in _FORGOTTEN or not known.is_file()):
            return draw(path, *shown, **more)
        if not known.is_file() and draw(known, *shown, **more) is None:
            return None
        write_whole(path, lambda file: file.write(known.read_bytes()))
        return path

    return drawn


def _kept_small(small: Callable[[Path], bytes], kept: Path) -> Callable[[Path], bytes]:
    def made(path: Path) -> bytes:
        known = kept / f"{hashlib.sha256(path.read_bytes()).hexdigest()}.webp"
        if _FORGOTTEN and (small.__module__ in _FORGOTTEN or not known.is_file()):
            return small(path)
        if not known.is_file():
            data = small(path)
            write_whole(known, lambda file: file.write(data))
        return known.read_bytes()

    return made

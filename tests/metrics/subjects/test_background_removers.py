"""Masks by rembg: which of its models can be named, and what comes of one."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from metrics.errors import MetricsError
from metrics.subjects.background_removers import remover_masks
from metrics.subjects.masks import subject_masks
from tests.metrics.subjects.planted_subjects import planted

IS_NET = "isnet-general-use"
DATA = "@imgly/background-removal-data@1.4.5"
"""Holds IS-Net in chunks (AGPL): fetched for the test that looks at it, and no part of this repository."""


def numbered(field: int, value: int) -> bytes:
    return _number(8 * field) + _number(value)


def held(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return _number(8 * field + 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    last = value < 128
    return bytes([value]) if last else bytes([value % 128 + 128]) + _number(value // 128)


def brightness_model() -> bytes:
    """An ONNX file (as its protobuf is laid out) whose mask is the mean of the colours."""

    def tensor(name: str, shape: Sequence[int]) -> bytes:
        sizes = b"".join(held(1, numbered(1, size)) for size in shape)
        return held(1, name) + held(2, held(1, numbered(1, 1) + held(2, sizes)))

    axes = held(5, held(1, "axes") + numbered(8, 1) + numbered(20, 7))
    node = held(1, "image") + held(2, "mask") + held(4, "ReduceMean") + axes
    graph = held(1, node) + held(2, "brightness")
    graph += held(11, tensor("image", (1, 3, 1024, 1024))) + held(12, tensor("mask", (1, 1, 1024, 1024)))
    return numbered(1, 8) + held(8, held(1, "") + numbered(2, 13)) + held(7, graph)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rembg looks for models, so that it downloads none."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    folder = tmp_path / "models" / IS_NET
    folder.mkdir(parents=True)
    return folder


def test_where_rembg_is_not_installed_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(MetricsError, match="rembg") as refused:
        remover_masks([np.zeros((8, 8, 3), np.uint8)], f"rembg:{IS_NET}")
    assert "pip install" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.services
def test_loading_it_compiles_nothing_and_leaves_others_as_they_were() -> None:
    code = """
import os, sys, numpy
from metrics.errors import MetricsError
from metrics.subjects.background_removers import remover_masks
try:
    remover_masks([numpy.zeros((8, 8, 3), numpy.uint8)], "rembg:none")
except MetricsError:
    pass
import numba
compiled = type(numba.njit(lambda x: x))
matting = [module for name, module in sys.modules.items() if name.startswith("pymatting")]
found = [value for module in matting for value in vars(module).values() if isinstance(value, compiled)]
print(len(matting) > 1, len(found), "NUMBA_DISABLE_JIT" in os.environ)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "0", "False"], done.stderr


@pytest.mark.services
def test_the_named_model_draws_the_masks_and_the_note_says_so(models: Path) -> None:
    (models / f"{IS_NET}.onnx").write_bytes(brightness_model())
    photos = [np.full((40, 60, 3), 20, np.uint8) for _ in range(2)]
    for photo in photos:
        photo[10:30, 20:40] = 230
    found = subject_masks(photos, segmenter=f"rembg:{IS_NET}")
    assert found.sources == ("segmentation", "segmentation")
    for photo, mask in zip(photos, found.masks, strict=True):
        assert mask.shape == photo.shape[:2]
        assert ((mask > 0.5) == (photo[..., 0] > 100)).mean() > 0.97
    assert f"subjects of 2 of 2 photos were cut out by rembg:{IS_NET}" in found.notes
    assert not any("saliency" in note for note in found.notes)


@pytest.mark.services
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("isnet-general", "did you mean isnet-general-use?"),
        ("withoutbg", "that one sends photos to a service"),
        ("sam", "one of rembg:"),
        ("u2net_custom", "one of rembg:"),
    ],
)
def test_a_model_that_finds_no_subject_here_is_refused(name: str, said: str) -> None:
    with pytest.raises(MetricsError) as refused:
        remover_masks([np.zeros((8, 8, 3), np.uint8)], f"rembg:{name}")
    assert str(refused.value).startswith("segmenter: expected one of rembg:")
    assert said in str(refused.value)


@pytest.mark.services
def test_a_damaged_model_is_told_in_one_line(models: Path) -> None:
    (models / f"{IS_NET}.onnx").write_bytes(b"no model")
    with pytest.raises(MetricsError, match="a model that rembg can load") as refused:
        remover_masks([np.zeros((8, 8, 3), np.uint8)], f"rembg:{IS_NET}")
    assert "\n" not in str(refused.value)


@pytest.mark.services
def test_is_net_finds_planted_subjects(models: Path) -> None:
    """Needs npm, for the network's 84 MiB."""
    subprocess.run(["npm", "pack", DATA], cwd=models, check=True, capture_output=True)
    (packed,) = models.glob("*.tgz")
    subprocess.run(["tar", "xzf", packed.name], cwd=models, check=True)
    resources = json.loads((models / "package/dist/resources.json").read_text())["/models/medium"]
    chunks = sorted(resources["chunks"], key=lambda chunk: chunk["offsets"][0])
    network = b"".join((models / "package/dist" / chunk["hash"]).read_bytes() for chunk in chunks)
    assert len(network) == resources["size"]
    (models / f"{IS_NET}.onnx").write_bytes(network)
    photos, truths = planted(2, size=(256, 256), seed=1)
    for mask, truth in zip(remover_masks(photos, f"rembg:{IS_NET}"), truths, strict=True):
        assert ((mask > 0.5) & truth).sum() / ((mask > 0.5) | truth).sum() >= 0.85

"""Devices that do not exist, and bases that cannot be trained, end a command in one line before anything is loaded."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.messages import refusal
from trainer import run
from trainer.devices import (
    _take_back_the_variable,
    check_quantize,
    find_device,
    has_no_exact_form,
    repeat_exactly,
    repeat_nearly,
    why_no_device,
)
from trainer.errors import ConfigError, ModelError

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def _settings(folder: Path, base: Path, photos: Path, **settings: object) -> Path:
    path = folder / "train.yaml"
    values = {"base": str(base), "data": str(photos), "resolution": 64, "epochs": 1, **settings}
    path.write_text(yaml.safe_dump(values))
    return path


def _error(capsys) -> str:
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize("name", ["nope", "gpu", "cuda:", "cuda:-1", "cuda:x", "meta", "", "cpu:0", "CUDA"])
def test_names_that_are_no_devices_are_told_apart(name: str) -> None:
    assert why_no_device(name) == "auto, cpu, cuda, cuda:N (N from 0) or mps"
    with pytest.raises(ConfigError, match="auto, cpu, cuda"):
        find_device(name)


def test_the_cpu_and_auto_are_always_there() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("auto", "cpu", "cuda", "cuda:3", "mps"):
        assert why_no_device(name) is None


def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=refusal("workers.device", "cuda:99")):
        find_device("cuda:99", key="workers.device")


def test_quantised_bases_need_a_gpu() -> None:
    check_quantize(None, torch.device("cpu"))
    check_quantize("nf4", torch.device("cuda"))
    with pytest.raises(ConfigError, match=refusal("quantize", "nf4", "nothing")):
        check_quantize("nf4", torch.device("cpu"))


@pytest.fixture
def not_exactly() -> Iterator[None]:
    """What a test asks of torch in this process is taken back."""
    fills = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = fills


@pytest.mark.parametrize(("before", "after"), [(None, ":4096:8"), (":0:0", ":4096:8"), (":16:8", ":16:8")])
def test_the_same_numbers_each_time_are_asked_for_on_a_gpu_alone(
    before: str | None, after: str, not_exactly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add() -> None:
        torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))

    monkeypatch.setenv(CUBLAS, before or "")
    if before is None:
        monkeypatch.delenv(CUBLAS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # where there is one: test_cuda.py
    repeat_exactly(torch.device("cpu"))
    assert os.environ.get(CUBLAS) == before
    add()
    repeat_exactly(torch.device("cuda"))  # the CPU has operations without such a form, too
    with pytest.raises(RuntimeError) as caught:
        add()
    assert has_no_exact_form(caught.value)
    assert not has_no_exact_form(RuntimeError("CUDA out of memory"))
    assert os.environ[CUBLAS] == after


def test_a_device_that_is_none_is_refused_before_torch_is_loaded(tiny_sd15, tiny_photos, tmp_path) -> None:
    path = _settings(tmp_path, tiny_sd15, tiny_photos)
    code = (
        "import sys; from trainer import run\n"
        f"code = run.main([{str(path)!r}, '--device', 'nope'])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --device: expected auto, cpu, cuda, cuda:N (N from 0) or mps, got 'nope'\n"


def test_a_base_with_a_missing_file_is_refused_before_torch_is_loaded(tiny_sd15, tiny_photos, tmp_path) -> None:
    base = shutil.copytree(tiny_sd15, tmp_path / "base")
    shutil.rmtree(base / "tokenizer")
    code = (
        "import sys; from trainer import run\n"
        f"code = run.main([{str(_settings(tmp_path, base, tiny_photos))!r}])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "the base's tokenizer folder has no vocabulary" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_quantised_run_without_a_gpu_ends_before_the_base_is_loaded(tiny_sd15, tiny_photos, tmp_path, capsys) -> None:
    path = _settings(tmp_path, tiny_sd15, tiny_photos, quantize="nf4")
    assert run.main([str(path), "--device", "cpu"]) == 2
    assert "quantised weights need a CUDA GPU" in _error(capsys)


def test_a_damaged_base_ends_a_run_with_exit_2_and_no_word_of_the_learning_rate(
    tiny_sd15, tiny_photos, tmp_path, capsys
) -> None:
    base = shutil.copytree(tiny_sd15, tmp_path / "base")
    weights = base / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["encoder.conv_in.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, weights, {"format": "pt"})
    assert run.main([str(_settings(tmp_path, base, tiny_photos)), "--device", "cpu"]) == 2
    text = _error(capsys)
    assert "the base's VAE (vae) has NaN in 1 of its tensors: encoder.conv_in.weight" in text
    assert "learning_rate" not in text


@pytest.mark.parametrize(
    ("name", "count", "found"),
    [
        ("cuda", 0, "no CUDA device"),
        ("cuda:0", 0, "no CUDA device"),
        ("cuda:1", 1, "cuda:0"),
        ("cuda:3", 3, "cuda:0 to cuda:2"),
        ("cuda:4", 3, "cuda:0 to cuda:2"),
    ],
)
def test_the_cards_that_there_are_are_told(name: str, count: int, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ConfigError) as caught:
        find_device(name)
    assert caught.value.key == "device"
    assert caught.value.why == f"it has {found}; auto and cpu always work"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without one")
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:2"])
def test_a_card_that_does_not_answer_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(ModelError, match=refusal("--device", name, "a device that works here")) as caught:
        find_device(name, key="--device")
    assert str(caught.value).endswith("; cpu always works")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a machine without one")
def test_an_apple_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="it has no Apple GPU; auto and cpu always work"):
        find_device("mps")


@pytest.mark.parametrize("asks_each_time", [False, True])
def test_the_variable_is_taken_back_where_torch_remembers_it(
    asks_each_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = torch.mm, []

    def product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen.append(os.environ.get(CUBLAS))
        if asks_each_time and CUBLAS not in os.environ:
            raise RuntimeError("set CUBLAS_WORKSPACE_CONFIG")
        return real(one, other)

    monkeypatch.setattr(torch, "mm", product)
    monkeypatch.setenv(CUBLAS, ":4096:8")
    _take_back_the_variable(torch.device("cpu"))
    assert seen == [":4096:8", None]
    assert os.environ.get(CUBLAS) == (":4096:8" if asks_each_time else None)


def test_what_has_no_exact_form_is_computed_after_all_and_named(not_exactly: None) -> None:
    torch.use_deterministic_algorithms(True)
    said = repeat_nearly(RuntimeError("put_ does not have a deterministic implementation, but you set …"))
    assert said.startswith("put_ has no form that gives the same numbers each time")
    assert not torch.are_deterministic_algorithms_enabled()

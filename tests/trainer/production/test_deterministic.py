"""`output.deterministic`: asked of torch before the base is loaded. What has no such form costs a run only a note."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from trainer import run
from trainer.errors import ModelError
from trainer.lora.kohya_file import load_lora
from trainer.production import production
from trainer.production.progress import Watch


def _write(folder: Path, base: Path, photos: Path, **output: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "train.yaml"
    values = {"base": str(base), "data": str(photos), "resolution": 32, "batch_size": 16, "rank": 2, "epochs": 2}
    path.write_text(yaml.safe_dump({**values, "learning_rate": 1e-2, "output": output}))
    return path


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)], ids=["training", "dry run"])
@pytest.mark.parametrize(
    ("output", "strict"), [({}, True), ({"deterministic": True}, True), ({"deterministic": False}, False)]
)
def test_a_training_file_may_do_without(
    output: dict[str, bool], strict: bool, arguments: tuple[str, ...], tiny_sd15, tiny_photos, tmp_path, monkeypatch
) -> None:
    called: list[torch.device] = []

    def stop(*args: Any, **keywords: Any) -> None:
        raise ModelError("far enough")

    monkeypatch.setattr(production, "repeat_exactly", called.append)
    monkeypatch.setattr(production, "load_base", stop)
    path = _write(tmp_path, tiny_sd15, tiny_photos, **output)
    assert run.main([str(path), "--device", "cpu", *arguments]) == run.WRONG_INPUT
    assert called == [torch.device("cpu")] * strict


def test_what_has_no_exact_form_is_computed_and_told(tiny_sd15, tiny_photos, tmp_path, monkeypatch, capsys) -> None:
    path = _write(tmp_path / "plain", tiny_sd15, tiny_photos)
    assert run.main([str(path), "--device", "cpu"]) == run.DONE
    step = Watch.step

    def inexact(self: Watch, pack: Any) -> None:
        if self.run.epoch == 1:  # the first epoch's checkpoint is gone on from
            torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))  # has no exact form, on the CPU either
        step(self, pack)

    # as strict on the CPU as one is on a GPU
    monkeypatch.setattr(production, "repeat_exactly", lambda device: torch.use_deterministic_algorithms(True))
    monkeypatch.setattr(Watch, "step", inexact)
    try:
        path = _write(tmp_path / "inexact", tiny_sd15, tiny_photos)
        assert run.main([str(path), "--device", "cpu"]) == run.DONE
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    said = capsys.readouterr().out
    assert said.count("note: put_ has no form that gives the same numbers each time") == 1
    assert "from epoch 1" in said
    plain, other = (load_lora(tmp_path / name / "train" / "train.safetensors") for name in ("plain", "inexact"))
    assert all(torch.equal(other.modules[site].up, module.up) for site, module in plain.modules.items())

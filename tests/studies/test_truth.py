"""The truth about checkpoints: zero for the base itself, worse for a broken LoRA, in a table that anybody reads."""

import math

import pandas as pd
import pytest
import torch

from studies.demo import truth
from trainer.base_model.load import load_base
from trainer.lora.kohya_file import save_lora
from trainer.lora.lora import LoraModule, LoraWeights

PATH = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"


@pytest.fixture(scope="module")
def base():
    return load_base(truth.BASE)


def _lora(base, size: float) -> LoraWeights:
    torch.manual_seed(0)
    rows, columns = base.denoiser.get_submodule(PATH).weight.shape
    module = LoraModule(down=torch.randn(4, columns) * size, up=torch.randn(rows, 4) * size, alpha=4.0)
    return LoraWeights({("denoiser", PATH): module}, "sd15")


def test_a_lora_that_does_nothing_is_the_base_and_a_wild_one_is_worse(base) -> None:
    loras = {10: _lora(base, 0.0), 20: _lora(base, 1.0)}
    rows = truth.true_losses(base, loras, "duck", images=3, levels=2, precision=None)
    assert rows[10].context_loss == pytest.approx(0, abs=1e-6)
    assert rows[10].memory_loss == pytest.approx(0, abs=1e-6)
    assert min(rows[20].context_loss, rows[20].memory_loss) > 0.05
    assert rows[20].context_error > 0


def test_the_command_reads_checkpoints_and_writes_the_table(base, tmp_path, capsys) -> None:
    for epoch, size in ((10, 0.0), (5, 0.1)):
        (tmp_path / "run" / f"{epoch:04d}").mkdir(parents=True)
        save_lora(tmp_path / "run" / f"{epoch:04d}" / "lora.safetensors", _lora(base, size))
    (tmp_path / "run/0010/state.safetensors").write_bytes(b"not a LoRA")
    out = tmp_path / "truth.csv"
    assert truth.main([str(tmp_path / "run"), "--images", "2", "--levels", "1", "--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert table.epoch.tolist() == [0, 5, 10]
    assert table.context_loss[0] == 0
    assert table.context_loss[1] != 0
    assert math.isnan(table.fidelity_new[0])
    assert str(out) in capsys.readouterr().out


@pytest.mark.slow  # of files that no daily change touches
def test_the_base_obeys_but_does_not_know_the_concept(base) -> None:
    values = truth.true_quality(base, None, "mushroom", pictures=6, precision=None)
    assert values["obedience"] > 0.7
    assert values["fidelity_new"] < 0.5


def test_checkpoints_are_found_by_either_name(tmp_path) -> None:
    for name in ("zor-000004.safetensors", "zor-000012.safetensors"):
        (tmp_path / name).touch()
    assert list(truth.find_checkpoints(tmp_path)) == [4, 12]
    with pytest.raises(FileNotFoundError, match="no checkpoint here"):
        truth.find_checkpoints(tmp_path / "none")

"""Which checkpoint a LoRA file is, from the names and metadata that trainers give it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.trainer.lora.made_loras import write_lora
from trainer.errors import ModelError
from trainer.lora.run_files import run_files, settings_of, weights_digest, why_not_one_run


@pytest.mark.parametrize(
    ("name", "metadata", "epoch", "step"),
    [
        ("my-000010.safetensors", {}, 10, None),  # kohya
        ("my-step00000500.safetensors", {}, None, 500),
        ("my_v2-000010.safetensors", {}, 10, None),
        ("my_000000500.safetensors", {}, None, 500),  # ai-toolkit
        ("my_000000500.safetensors", {"training_info": json.dumps({"step": 500, "epoch": 4})}, None, 500),
        ("2026-01-05_12-30-00-save-500-10-0.safetensors", {}, 10, 500),  # OneTrainer
        ("2026-01-05_12-30-00-save-512-10-12.safetensors", {}, None, 512),
        ("checkpoint-500/pytorch_lora_weights.safetensors", {}, None, 500),  # diffusers
        ("checkpoint-500-rolling/pytorch_lora_weights.safetensors", {}, None, 500),  # SimpleTuner
        ("epoch-5/my.safetensors", {}, 5, None),
        ("epoch_5/adapter_model.safetensors", {}, 5, None),
        ("my_epoch5.safetensors", {}, 5, None),
        ("my-step500.safetensors", {}, None, 500),
        ("my-e5.safetensors", {}, 5, None),
        ("my-000010.safetensors", {"ss_epoch": "10", "ss_steps": "300"}, 10, 300),
        ("my-10.safetensors", {"ss_epoch": "10", "ss_steps": "300"}, 10, 300),
        ("bike5.safetensors", {"ss_epoch": "12", "ss_steps": "360"}, 12, 360),
        ("dog-2.safetensors", {"ss_epoch": "12", "ss_steps": "360"}, 12, 360),
        ("0012/lora.safetensors", {"ss_epoch": "12", "ss_steps": "360"}, 12, 360),
        ("my.safetensors", {"training_info": json.dumps({"step": 500, "epoch": 4})}, None, 500),
        (
            "my-step00000400.safetensors",
            {"ss_epoch": "1", "ss_steps": "400", "ss_num_batches_per_epoch": "210"},
            None,
            400,
        ),
        ("my.safetensors", {"ss_epoch": "5", "ss_steps": "1020", "ss_num_batches_per_epoch": "210"}, None, 1020),
        (
            "my.safetensors",
            {
                "ss_epoch": "5",
                "ss_steps": "525",
                "ss_num_batches_per_epoch": "210",
                "ss_gradient_accumulation_steps": "2",
            },
            5,
            525,
        ),
        ("dog_20260105.safetensors", {"ss_epoch": "6"}, 6, None),
        ("fox_e621.safetensors", {"ss_epoch": "6"}, 6, None),
        ("my-000004.safetensors", {"ss_epoch": "14"}, 14, None),
        ("checkpoint-500/dog-2.safetensors", {}, None, 500),
    ],
)
def test_epoch_and_step(
    tmp_path: Path, name: str, metadata: dict[str, str], epoch: int | None, step: int | None
) -> None:
    write_lora(tmp_path / name, **metadata)
    (file,) = run_files(tmp_path).files
    assert (file.epoch, file.step, file.number) == (epoch, step, None)
    assert file.name == name


@pytest.mark.parametrize(
    ("name", "number"), [("my.safetensors", None), ("bike5.safetensors", None), ("my-7.safetensors", 7)]
)
def test_nothing_is_guessed(tmp_path: Path, name: str, number: int | None) -> None:
    write_lora(tmp_path / name)
    (file,) = run_files(tmp_path).files
    assert (file.epoch, file.step, file.number) == (None, None, number)


def test_an_epoch_has_as_many_steps_as_kohyas_counts_say(tmp_path: Path) -> None:
    write_lora(tmp_path / "my-000010.safetensors", ss_num_batches_per_epoch="61", ss_gradient_accumulation_steps="2")
    write_lora(tmp_path / "my-step00000301.safetensors", ss_epoch="10", ss_steps="301")
    one, other = run_files(tmp_path).files
    assert (one.steps_per_epoch, other.steps_per_epoch) == (31, None)


@pytest.mark.parametrize(
    "names",
    [
        ("2026-01-05_12-30-00-save-500-10-0", "2026-01-05_12-50-00-save-1000-20-0"),
        ("dog-2-000002", "dog-2-000004", "dog-2"),
        ("at-step00000500", "at-step00001000", "last"),
        ("epoch-000002", "epoch-000004", "last"),
        ("dog_20260105-000002", "dog_20260105"),
    ],
)
def test_the_files_of_one_run_are_one_run(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write_lora(tmp_path / f"{name}.safetensors")
    files = run_files(tmp_path).files
    assert why_not_one_run(files) is None
    assert [file.path.stem for file in files if file.is_final] == [
        n for n in names if n in ("dog-2", "last", "dog_20260105")
    ]


def test_what_trainers_leave_beside_their_loras_is_passed_over(tmp_path: Path) -> None:
    write_lora(tmp_path / "my-000002.safetensors")
    write_lora(tmp_path / "my-000002-state" / "model.safetensors")
    write_lora(tmp_path / "checkpoint-40" / "pytorch_lora_weights.safetensors")
    write_lora(tmp_path / "checkpoint-40" / "pytorch_lora_weights_kohya.safetensors")
    save_file({"unet.weight": np.zeros(1)}, tmp_path / "checkpoint-40" / "model.safetensors")
    save_file({"emb_params": np.zeros((1, 4))}, tmp_path / "dog_emb.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    found = run_files(tmp_path)
    assert [file.name for file in found.files] == [
        "checkpoint-40/pytorch_lora_weights.safetensors",
        "my-000002.safetensors",
    ]
    assert found.skipped == ("dog_emb.safetensors",)


def test_metadata_plays_no_part_in_which_weights_a_file_holds(tmp_path: Path) -> None:
    write_lora(tmp_path / "a.safetensors", ss_epoch="3")
    write_lora(tmp_path / "b.safetensors", ss_epoch="4", ss_steps="9")
    write_lora(tmp_path / "c.safetensors", rank=5)
    a, b, c = (weights_digest(tmp_path / f"{name}.safetensors") for name in "abc")
    assert a == b != c


def test_two_runs_in_a_folder_are_told_apart_by_name(tmp_path: Path) -> None:
    write_lora(tmp_path / "a" / "my-000002.safetensors", ss_network_alpha="4")
    write_lora(tmp_path / "a" / "my-000004.safetensors", ss_network_alpha="4")
    write_lora(tmp_path / "a" / "my.safetensors", ss_network_alpha="4")
    assert why_not_one_run(run_files(tmp_path / "a").files) is None
    write_lora(tmp_path / "a" / "my-000006.safetensors", ss_network_alpha="8")
    assert "my-000006.safetensors" in str(why_not_one_run(run_files(tmp_path / "a").files))
    write_lora(tmp_path / "b" / "my-000002.safetensors")
    write_lora(tmp_path / "b" / "my-000004.safetensors", rank=8)
    assert "of other ranks" in str(why_not_one_run(run_files(tmp_path / "b").files))
    write_lora(tmp_path / "c" / "my-000002.safetensors")
    write_lora(tmp_path / "c" / "other-000002.safetensors")
    assert "of two runs" in str(why_not_one_run(run_files(tmp_path / "c").files))


def test_what_every_file_says_alike_is_of_the_run(tmp_path: Path) -> None:
    write_lora(tmp_path / "my-000002.safetensors", ss_seed="1", ss_epoch="2")
    write_lora(tmp_path / "my-000004.safetensors", ss_seed="1", ss_epoch="4")
    assert settings_of(run_files(tmp_path).files) == {"ss_seed": "1"}


def test_folders_that_hold_no_run_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a folder of LoRA files, got nothing"):
        run_files(tmp_path / "none")
    with pytest.raises(ModelError, match="got none"):
        run_files(tmp_path)
    (tmp_path / "my.ckpt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"only my\.ckpt, which can run code"):
        run_files(tmp_path)
    (tmp_path / "my-000002.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"my-000002\.safetensors: not a safetensors file"):
        run_files(tmp_path)
    save_file({"x": np.zeros(1)}, tmp_path / "my-000002.safetensors")
    with pytest.raises(ModelError, match=r"expected LoRA files .*, got only my-000002\.safetensors"):
        run_files(tmp_path)

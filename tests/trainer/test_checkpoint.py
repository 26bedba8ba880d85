"""Checkpoints are complete or absent, and a run that goes on from one ends as if it had never stopped, bit for bit."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer import packs
from tests.trainer.packs import join
from trainer import checkpoint
from trainer.base_model.load import load_base
from trainer.data.dataset import scan_dataset
from trainer.errors import ModelError, TrainerError
from trainer.families.family import Base
from trainer.lora.kohya_file import load_lora
from trainer.packing.pack import Pack
from trainer.packing.training_run import Run

OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "AdamW", "learning_rate": 1e-3, "lr_scheduler": "cosine_with_restarts", "num_cycles": 1.5},
    {
        "optimizer": "AdamW8bit",
        "learning_rate": 1e-3,
        "lr_scheduler": "linear",
        "optimizer_args": {"min_8bit_size": 64},
    },
    {"optimizer": "Lion", "learning_rate": 1e-4, "lr_scheduler": "constant_with_warmup", "warmup_steps": 5},
    {"optimizer": "Lion8bit", "learning_rate": 1e-4, "optimizer_args": {"min_8bit_size": 64}},
    {"optimizer": "Adafactor", "relative_step": True, "lr_scheduler": "adafactor"},
    {"optimizer": "DAdaptAdam", "learning_rate": 1.0, "lr_scheduler": "cosine"},
    {"optimizer": "Prodigy", "learning_rate": 1.0, "lr_scheduler": "polynomial"},
    {"optimizer": "AdamWScheduleFree", "learning_rate": 1e-3, "warmup_steps": 3},
]


@pytest.fixture(scope="module")
def base(tiny_sd15: Path) -> Base:
    return load_base(tiny_sd15)


def new_pack(base: Base, photos: Path, *, batch_size: int = 16, **keywords: Any) -> Pack:
    """A step an epoch."""
    return packs.new_pack(base, scan_dataset(photos), batch_size=batch_size, resolution=(32, 32), seed=7, **keywords)


def join_all(pack: Pack, folder: Path) -> list[Run]:
    return [
        join(pack, run_dir=folder / o["optimizer"], epochs=2, **{"rank": 4, "targets": "attention", **o})
        for o in OPTIMIZERS
    ]


def everything(run: Run) -> dict[str, Any]:
    """What a run would go on from, as the files of a checkpoint have it."""
    optimizer = run.optimizer.state_dict()
    groups = [dict(sorted(group.items())) for group in optimizer["param_groups"]]
    state = {"state": optimizer["state"], "groups": groups, "parameters": dict(run.adapters.named_parameters())}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save_state(Path(folder), state)
        tree = json.loads((Path(folder) / checkpoint.STATE_FILE).read_text())["tree"]
        tensors = load_file(Path(folder) / checkpoint.STATE_TENSORS)
    return {"tree": json.dumps(tree), "tensors": tensors, "facts": (run.epoch, run.step, run.effort, run.last_loss)}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["facts"] == expected["facts"]
    assert found["tree"] == expected["tree"]
    assert found["tensors"].keys() == expected["tensors"].keys()
    for name, value in expected["tensors"].items():
        assert torch.equal(found["tensors"][name], value), name


def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit_for_every_optimizer(
    base: Base, tiny_photos: Path, tmp_path: Path
) -> None:
    options = {"flip": True, "caption_dropout": 0.3, "gradient_accumulation_steps": 3, "batch_size": 4}
    pack = new_pack(base, tiny_photos, **options)
    runs = join_all(pack, tmp_path / "uninterrupted")
    for _ in range(2):
        pack.train_epoch()
    first = new_pack(base, tiny_photos, **options)
    stopped = join_all(first, tmp_path / "stopped")
    first.train_epoch()
    for run in stopped:
        run.save()
    del first, stopped
    second = new_pack(base, tiny_photos, **options)
    resumed = join_all(second, tmp_path / "stopped")
    assert [run.epoch for run in resumed] == [1] * len(resumed)
    second.train_epoch()
    for run, expected in zip(resumed, runs, strict=True):
        assert run.finished
        assert expected.step == 2 * 2
        assert_same(everything(run), everything(expected))


def test_saving_disturbs_nothing(base: Base, tiny_photos: Path, tmp_path: Path) -> None:
    ends = []
    for save in (False, True):
        pack = new_pack(base, tiny_photos)
        run = join(
            pack, run_dir=tmp_path / str(save), rank=4, optimizer="AdamWScheduleFree", learning_rate=1e-3, epochs=3
        )
        for _ in range(3):
            pack.train_epoch()
            if save:
                run.save()
        ends.append(everything(run))
    assert_same(ends[1], ends[0])


def test_text_encoders_resume_exactly_too(tiny_sdxl: Path, tiny_photos: Path, tmp_path: Path) -> None:
    base = load_base(tiny_sdxl)
    ends = []
    for stops in (False, True):
        pack = new_pack(base, tiny_photos, train_text_encoder=True)
        keywords = {
            "run_dir": tmp_path / str(stops),
            "rank": 2,
            "learning_rate": 1e-3,
            "epochs": 2,
            "targets": "attention",
        }
        run = join(pack, **keywords)
        pack.train_epoch()
        if stops:
            run.save()
            pack = new_pack(base, tiny_photos, train_text_encoder=True)
            run = join(pack, **keywords)
        pack.train_epoch()
        ends.append(everything(run))
    assert_same(ends[1], ends[0])
    moved = [p for name, p in run.adapters.named_parameters() if name.startswith("text_encoder_1") and "up" in name]
    assert all(bool(p.any()) for p in moved)


def test_a_checkpoint_holds_the_lora_and_the_newest_two_hold_state(
    base: Base, tiny_photos: Path, tmp_path: Path
) -> None:
    pack = new_pack(base, tiny_photos)
    run = join(pack, run_dir=tmp_path / "0007", rank=4, alpha=2.0, learning_rate=1e-3, epochs=3)
    for _ in range(3):
        pack.train_epoch()
        assert run.save().name == f"{run.epoch:04d}"
    folder = run.run_dir / "checkpoints"
    held = {path.name: sorted(file.name for file in path.iterdir()) for path in checkpoint.checkpoints(folder)}
    full = ["lora.safetensors", "state.json", "state.safetensors"]
    assert held == {"0001": ["lora.safetensors"], "0002": full, "0003": full}
    assert checkpoint.newest_state(folder) == folder / "0003"
    lora = load_lora(folder / "0003" / "lora.safetensors")
    ours = run.lora_weights()
    assert lora.modules.keys() == ours.modules.keys()
    for site, module in ours.modules.items():
        assert lora.modules[site].alpha == 2.0
        torch.testing.assert_close(lora.modules[site].up, module.up, atol=1e-4, rtol=1e-3)


def test_schedule_free_is_saved_in_its_evaluation_mode(base: Base, tiny_photos: Path, tmp_path: Path) -> None:
    pack = new_pack(base, tiny_photos, batch_size=4)
    run = join(pack, run_dir=tmp_path / "0", rank=4, optimizer="AdamWScheduleFree", learning_rate=1e-2, epochs=1)
    pack.train_epoch()
    folder = run.save()
    iterates = {name: parameter.detach().clone() for name, parameter in run.adapters.named_parameters()}
    run.optimizer.eval()
    up = load_file(folder / "lora.safetensors")["lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"].float()
    average = dict(run.adapters.named_parameters())["denoiser.mid_block.attentions.0.proj_in.up"]
    torch.testing.assert_close(up, average.detach(), atol=1e-4, rtol=1e-3)
    assert float((up - iterates["denoiser.mid_block.attentions.0.proj_in.up"]).abs().max()) > 1e-3


def test_a_checkpoint_that_could_not_be_finished_does_not_exist(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "lora.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_checkpoint(tmp_path / "checkpoints", 3, fails)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert checkpoint.newest_state(tmp_path / "checkpoints") is None
    checkpoint.write_checkpoint(tmp_path / "checkpoints", 3, lambda f: (f / "a").write_text("one"))
    checkpoint.write_checkpoint(tmp_path / "checkpoints", 3, lambda f: (f / "a").write_text("two"))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["0003"]
    assert (tmp_path / "checkpoints" / "0003" / "a").read_text() == "two"


def test_what_cannot_be_continued_is_refused_by_name(base: Base, tiny_photos: Path, tmp_path: Path) -> None:
    pack = new_pack(base, tiny_photos)
    run = join(pack, run_dir=tmp_path / "0", rank=4, epochs=3)
    pack.train_epoch()
    path = run.save()
    with pytest.raises(TrainerError, match="made with other LoRA settings"):
        join(new_pack(base, tiny_photos), run_dir=tmp_path / "0", rank=5, epochs=3)
    with pytest.raises(TrainerError, match="made with AdamW, not Lion"):
        join(new_pack(base, tiny_photos), run_dir=tmp_path / "0", rank=4, optimizer="Lion", epochs=3)
    (path / checkpoint.STATE_TENSORS).write_bytes(b"torn")
    with pytest.raises(TrainerError, match=r"state\.safetensors is damaged: the run cannot go on from here"):
        checkpoint.load_state(path)


def damaged_by(kind: str, path: Path) -> None:
    """One kind of damage at rest: by a disk, a sync tool, a person."""
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "flipped":
        path.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    elif kind == "garbage":
        path.write_bytes(bytes(range(256)) * 9)
    elif kind == "other JSON":
        path.write_text('["tree"]')
    else:
        path.unlink()


@pytest.mark.parametrize("file", [checkpoint.STATE_FILE, checkpoint.STATE_TENSORS, checkpoint.LORA_FILE])
@pytest.mark.parametrize("kind", ["truncated", "emptied", "flipped", "garbage", "other JSON", "deleted"])
def test_damage_at_rest_is_seen(file: str, kind: str, tmp_path: Path) -> None:
    from trainer.lora.kohya_file import save_lora
    from trainer.lora.lora import LoraModule, LoraWeights

    def write(folder: Path) -> None:
        module = LoraModule(down=torch.ones(2, 32), up=torch.ones(32, 2), alpha=2.0)
        save_lora(
            folder / checkpoint.LORA_FILE, LoraWeights({("denoiser", "mid_block.attentions.0.proj_in"): module}, "sd15")
        )
        checkpoint.save_state(folder, {"step": 3, "loss": math.nan, "rates": (0.1, None), "weights": torch.ones(64)})

    older, newer = (checkpoint.write_checkpoint(tmp_path, epoch, write) for epoch in (1, 2))
    assert checkpoint.is_whole(newer)
    assert checkpoint.newest_state(tmp_path) == newer
    damaged_by(kind, newer / file)
    said: list[str] = []
    found = checkpoint.newest_state(tmp_path, say=said.append)
    if file == checkpoint.LORA_FILE:
        assert checkpoint.lora_damage(newer) == f"{file} is {'missing' if kind == 'deleted' else 'damaged'}"
        assert not checkpoint.is_whole(newer)
        assert (found, said) == (newer, [])
        return
    assert found == older
    if kind == "deleted" and file == checkpoint.STATE_FILE:  # its state has made room: nothing is wrong with it
        assert said == []
        assert checkpoint.is_whole(newer)
    else:
        assert said == [f"{newer}: {checkpoint.state_damage(newer)}: this checkpoint is passed over"]
        assert not checkpoint.is_whole(newer)
    damaged_by("garbage", older / checkpoint.STATE_FILE)
    assert checkpoint.newest_state(tmp_path) is None


def test_a_run_whose_newest_state_is_damaged_goes_on_from_the_one_before_to_the_same_bits(
    base: Base, tiny_photos: Path, tmp_path: Path
) -> None:
    pack = new_pack(base, tiny_photos)
    run = join(pack, run_dir=tmp_path / "0", rank=4, learning_rate=1e-3, epochs=3)
    for _ in range(2):
        pack.train_epoch()
        newest = run.save()
    pack.train_epoch()
    damaged_by("flipped", newest / checkpoint.STATE_TENSORS)
    again = new_pack(base, tiny_photos)
    resumed = join(again, run_dir=tmp_path / "0", rank=4, learning_rate=1e-3, epochs=3)
    assert resumed.epoch == 1
    assert resumed.passed_over == [f"{newest}: state.safetensors is damaged: this checkpoint is passed over"]
    again.train_epoch()
    resumed.save()
    assert checkpoint.is_whole(newest)
    again.train_epoch()
    assert_same(everything(resumed), everything(run))


def test_a_state_as_the_version_before_wrote_it_is_gone_on_from(base: Base, tiny_photos: Path, tmp_path: Path) -> None:
    pack = new_pack(base, tiny_photos)
    run = join(pack, run_dir=tmp_path / "0", rank=4, learning_rate=1e-3, epochs=2)
    pack.train_epoch()
    file = run.save() / checkpoint.STATE_FILE
    file.write_text(json.dumps(json.loads(file.read_text())["tree"]))
    resumed = join(new_pack(base, tiny_photos), run_dir=tmp_path / "0", rank=4, learning_rate=1e-3, epochs=2)
    assert_same(everything(resumed), everything(run))


def test_a_run_may_branch_from_the_checkpoint_of_another(base: Base, tiny_photos: Path, tmp_path: Path) -> None:
    pack = new_pack(base, tiny_photos)
    trunk = join(pack, run_dir=tmp_path / "trunk", rank=4, learning_rate=1e-3, epochs=3)
    pack.train_epoch()
    start = trunk.save()
    pack.train_epoch()
    other = new_pack(base, tiny_photos)
    branch = join(other, run_dir=tmp_path / "branch", rank=4, learning_rate=1e-3, epochs=9, start_from=start)
    assert (branch.epoch, branch.settings.schedule.epochs) == (1, 9)
    other.train_epoch()
    assert_same(everything(branch), everything(trunk))


def test_a_full_pack_says_so(base: Base, tiny_photos: Path, tmp_path: Path) -> None:
    pack = new_pack(base, tiny_photos, width=1, max_rank=8)
    with pytest.raises(ModelError, match="above the pack's max_rank 8"):
        join(pack, run_dir=tmp_path / "0", rank=16)
    join(pack, run_dir=tmp_path / "0", rank=8)
    with pytest.raises(ModelError, match="its width is 1"):
        join(pack, run_dir=tmp_path / "1", rank=8)


def test_a_state_is_read_as_it_was_written_and_nothing_else_is_kept(tmp_path: Path) -> None:
    shared = torch.arange(3.0)
    state = {
        "none": None, "flag": True, "number": 3, "rate": 0.1, "text": "é", "list": [1, (2.5, [])], "empty": {},
        1: {"a": shared, "b": [shared, torch.ones(2, 2, dtype=torch.int64)]},
    }  # fmt: skip
    checkpoint.save_state(tmp_path, state)
    found = checkpoint.load_state(tmp_path)
    assert torch.equal(found[1]["a"], shared)
    assert found[1]["b"][0] is found[1]["a"], "written once"
    assert torch.equal(found[1]["b"][1], torch.ones(2, 2, dtype=torch.int64))
    assert {key: value for key, value in found.items() if key != 1} == {k: v for k, v in state.items() if k != 1}
    assert len(load_file(tmp_path / checkpoint.STATE_TENSORS)) == 2
    with pytest.raises(TypeError, match=r"state/a/1: a set cannot be kept"):
        checkpoint.save_state(tmp_path, {"a": [1, {2}]})


def test_a_state_without_tensors_is_whole(tmp_path: Path) -> None:
    checkpoint.save_state(tmp_path, {"step": 3})
    assert checkpoint.state_damage(tmp_path) is None
    file = tmp_path / checkpoint.STATE_FILE
    file.write_text(json.dumps(json.loads(file.read_text())["tree"]))  # as earlier versions wrote it
    assert checkpoint.state_damage(tmp_path) is None
    assert checkpoint.load_state(tmp_path) == {"step": 3}


def test_checkpoints_are_folders_with_numbers_by_epoch(tmp_path: Path) -> None:
    assert checkpoint.checkpoints(tmp_path / "none") == []
    for name in ("0002", "0010", "10000", "0001", "a", ".0003", "٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "0004").write_text("")
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["0001", "0002", "0010", "10000"]
    assert checkpoint.checkpoint_path(tmp_path, 12).name == "0012"


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_states_of_the_newest_stay(tmp_path: Path, keep: int) -> None:
    for epoch in range(1, 5):
        folder = tmp_path / f"{epoch:04d}"
        folder.mkdir()
        (folder / checkpoint.LORA_FILE).write_text("")
        if epoch != 2:
            checkpoint.save_state(folder, {"step": epoch})
    checkpoint.drop_old_states(tmp_path, keep=keep)
    left = [path.name for path in checkpoint.checkpoints(tmp_path) if (path / checkpoint.STATE_FILE).exists()]
    assert left == ["0001", "0003", "0004"][-keep:]
    assert [(path / checkpoint.STATE_TENSORS).exists() for path in checkpoint.checkpoints(tmp_path)] == [
        path.name in left for path in checkpoint.checkpoints(tmp_path)
    ]
    assert all((path / checkpoint.LORA_FILE).exists() for path in checkpoint.checkpoints(tmp_path))

"""The export command: every file of the production run is there, loads where it is meant to, and says the same run."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from search.export import export, main
from search.exports.photos import SKIPPED
from search.record.json_files import write_json
from search.record.record import StudyFolder, TrialRecord
from search.verdict.verdict import Verdict, finish
from tests.search.base_predictions import traits
from tests.search.finished_studies import PLANS, make_study
from trainer.data.dataset import scan_dataset
from trainer.production.production_config import load_production


@pytest.fixture(scope="module")
def study(finished_study: StudyFolder) -> StudyFolder:
    return finished_study


@pytest.fixture(scope="module")
def ships(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_photos: Path) -> StudyFolder:
    """A study of one trial with its verdict."""
    folder = make_study(tmp_path_factory.mktemp("ships"), tiny_sd15, tiny_photos, PLANS[:1])
    finish(folder)
    return folder


@pytest.fixture(scope="module")
def ships_nothing(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path, tiny_photos: Path) -> StudyFolder:
    """A study whose only trial learned nothing, with its verdict."""
    folder = make_study(tmp_path_factory.mktemp("nothing"), tiny_sd15, tiny_photos, PLANS[:1], learn=False)
    finish(folder)
    return folder


@pytest.fixture(scope="module")
def exported(study: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("exported")
    assert main([str(study.path), "--to", str(to)]) == 0
    return to


def test_all_files_are_there(exported):
    found = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert found == {
        "train.yaml", "toy.safetensors", "kohya_ss.json", "kohya_ss-dataset.toml",
        "sd-scripts/config.toml", "sd-scripts/dataset.toml", "sd-scripts/train.sh",
        "onetrainer/config.json", "onetrainer/concepts.json",
    }  # fmt: skip


def test_what_other_trainers_lack_is_told_by_name_and_only_where_it_matters(study, tmp_path, capsys):
    assert main([str(study.path), "--to", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "no files for ai-toolkit: lr_scheduler: cosine_with_restarts: ai-toolkit cannot restart the rate" in said
    assert "no files for SimpleTuner: lr_scheduler: cosine_with_restarts: SimpleTuner" in said
    assert "OneTrainer: load it" in said
    assert "ai-toolkit" not in (tmp_path / "sd-scripts" / "config.toml").read_text()


def test_train_yaml_is_the_trials_run_with_its_full_horizon(study, exported):
    record = TrialRecord.load(study.trial(2))
    config, output = load_production(exported / "train.yaml")
    assert config == record.config
    assert config.epochs == 40
    assert output.name == "toy"
    assert output.ship_epoch == record.epoch_shipped
    assert output.stop_at_ship_epoch
    assert output.sample_prompts


def test_no_file_but_the_guis_names_a_place_of_this_machine(exported, tiny_sd15):
    texts = [p for p in exported.rglob("*") if p.suffix in (".yaml", ".toml", ".sh") and "kohya_ss-" not in p.name]
    assert len(texts) == 4
    for path in texts:
        assert str(tiny_sd15.parents[1]) not in path.read_text(), path
    base = yaml.safe_load((exported / "train.yaml").read_text())["base"]
    assert (exported / base).resolve() == tiny_sd15.resolve()


def test_the_rate_that_the_scale_stands_for_is_beside_it(exported):
    (line,) = [x for x in (exported / "train.yaml").read_text().splitlines() if x.startswith("learning_rate_scale")]
    assert "learning rate 0.0006" in line


def test_the_three_trainers_are_told_the_same_run(exported):
    ours, output = load_production(exported / "train.yaml")
    theirs = tomllib.loads((exported / "sd-scripts" / "config.toml").read_text())
    gui = json.loads((exported / "kohya_ss.json").read_text())
    assert theirs["max_train_epochs"] == gui["epoch"] == output.ship_epoch < ours.epochs
    (horizon,) = [x for x in theirs["lr_scheduler_args"] if x.startswith("num_training_steps=")]
    assert int(horizon.split("=")[1]) % ours.epochs == 0, "the schedule is laid out over all epochs"
    assert gui["lr_scheduler_args"].split() == theirs["lr_scheduler_args"]
    assert theirs["network_dim"] == gui["network_dim"] == ours.rank
    assert theirs["network_alpha"] == gui["network_alpha"] == ours.effective_alpha == 4.0
    assert theirs["unet_lr"] == gui["unet_lr"] == ours.effective_learning_rate == pytest.approx(6e-4)
    assert theirs["lr_scheduler"] == gui["lr_scheduler"] == "cosine_with_restarts"
    assert theirs["lr_scheduler_num_cycles"] == gui["lr_scheduler_num_cycles"] == 2
    assert (exported / "sd-scripts" / theirs["dataset_config"]).is_file()
    assert Path(gui["dataset_config"]).is_file()


def _run_train_sh(script: Path, tmp_path: Path, *, cwd: Path, arguments: list[str]) -> list[str]:
    """Runs train.sh with an `accelerate` that notes what it is told and makes the files that sd-scripts would."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "accelerate").write_text(
        f"#!{sys.executable}\n"
        "import sys, tomllib\nfrom pathlib import Path\n"
        f"Path({str(tmp_path / 'told')!r}).write_text('\\0'.join(sys.argv[1:]))\n"
        "config = tomllib.loads(Path(sys.argv[-1].partition('=')[2]).read_text())\n"
        "out, last = Path(config['output_dir']), config['max_train_epochs']\n"
        "out.mkdir()\n"
        "for epoch in range(config['save_every_n_epochs'], last + 1, config['save_every_n_epochs']):\n"
        "    end = '' if epoch == last else f'-{epoch:06d}'\n"
        "    (out / f\"{config['output_name']}{end}.safetensors\").write_text(str(epoch))\n"
    )
    (tools / "accelerate").chmod(0o755)
    path = {"PATH": f"{tools}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", str(script), *arguments], cwd=cwd, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return (tmp_path / "told").read_text().split("\0")


@pytest.mark.parametrize("from_the_checkout", [True, False])
def test_train_sh_runs_the_right_script_on_the_right_file(exported, tmp_path, from_the_checkout):
    checkout = tmp_path / "my sd-scripts"
    checkout.mkdir()
    folder = shutil.copytree(exported, tmp_path / "moved to" / "here") / "sd-scripts"
    where = {"cwd": checkout, "arguments": []} if from_the_checkout else {"cwd": tmp_path, "arguments": [checkout.name]}
    command = _run_train_sh(folder / "train.sh", tmp_path, **where)
    assert command[:1] == ["launch"]
    assert command[-2:] == [str(checkout / "train_network.py"), "--config_file=config.toml"]
    shipped = load_production(exported / "train.yaml")[1].ship_epoch
    assert (folder / "output" / "toy.safetensors").read_text() == str(shipped)


def test_going_on_ends_with_the_file_of_the_epoch_to_ship_too(study, tmp_path):
    done = export(study, tmp_path / "out", go_on=True)
    assert any(f"toy-{done.epoch:06d}.safetensors" in notice for notice in done.notices), "what the GUI cannot do"
    (tmp_path / "run").mkdir()
    _run_train_sh(tmp_path / "out/sd-scripts/train.sh", tmp_path / "run", cwd=tmp_path, arguments=["."])
    output = tmp_path / "out" / "sd-scripts" / "output"
    assert (output / "toy.safetensors").read_text() == str(done.epoch)
    assert (output / "toy-000040.safetensors").read_text() == "40"
    assert load_production(tmp_path / "out" / "train.yaml")[1].stop_at_ship_epoch is False


@pytest.mark.parametrize("name", ["x\ntouch PWNED\nb", "a'; touch PWNED; '", "$(touch PWNED)", "`touch PWNED`", "-rf"])
def test_no_name_becomes_a_command(study, tmp_path, name):
    from search.exports.sdscripts import to_sdscripts
    from search.exports.ship_epoch import Ending
    from search.exports.toml import toml
    from search.exports.train_sh import train_sh
    from trainer.data.dataset import scan_dataset

    config = TrialRecord.load(study.trial(2)).config
    folder = tmp_path / "out"
    ending = Ending(20, go_on=True)
    there = to_sdscripts(config, scan_dataset(config.data), traits=traits(), folder=folder, name=name, ending=ending)
    folder.mkdir()
    (folder / "config.toml").write_text(toml(there.config, comment=f"study {name}"))
    script = folder / "train.sh"
    script.write_text(train_sh(there, about=f"Onset, study {name}.", name=name, config=config, ending=ending))
    _run_train_sh(script, tmp_path, cwd=tmp_path, arguments=["."])
    assert not list(tmp_path.rglob("PWNED"))
    assert (folder / "output" / f"{name}.safetensors").read_text() == "20"


def test_diffusers_loads_the_lora_completely_and_it_changes_the_image(exported, tiny_sd15):
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors import safe_open

    with safe_open(exported / "toy.safetensors", "pt") as file:
        metadata, keys = file.metadata(), list(file.keys())
        assert file.get_tensor(keys[0]).dtype == torch.float16
    assert metadata["ss_output_name"] == "toy"
    assert metadata["sshs_model_hash"][:8] != "e3b0c442", "the hash of nothing"
    pipe = StableDiffusionPipeline.from_pretrained(tiny_sd15, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)

    def draw() -> np.ndarray:
        generator = torch.Generator().manual_seed(3)
        return pipe("sks toy", num_inference_steps=2, generator=generator, height=64, width=64, output_type="np").images

    before = draw()
    pipe.load_lora_weights(exported, weight_name="toy.safetensors")
    adapted = [n for n, _ in pipe.unet.named_modules() if n.endswith("lora_A.default_0")]
    assert len(adapted) == sum(k.startswith("lora_unet_") and k.endswith(".alpha") for k in keys) > 0
    scales = {m.scaling["default_0"] for m in pipe.unet.modules() if getattr(m, "scaling", None)}
    assert scales == {0.5}, "alpha 4 of rank 8 arrives as a scale of one half"
    assert np.abs(draw() - before).max() > 0.02


def test_another_trial_without_a_kept_checkpoint_is_exported_without_a_lora_and_says_so(study, tmp_path):
    done = export(study, tmp_path / "out", trial=3)
    assert done.trial == 3
    assert done.epoch is not None
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert any("no LoRA" in notice for notice in done.notices)
    config = tomllib.loads((tmp_path / "out" / "sd-scripts" / "config.toml").read_text())
    assert config["optimizer_type"] == "Prodigy"
    assert "d_coef=2.0" in config["optimizer_args"]


def test_it_follows_the_verdict_when_there_is_one(ships, tmp_path):
    verdict, runs = Verdict.load(ships.verdict_file), ships.path.parent
    file = runs.parent / "toy.yaml"
    assert main([str(file), "--runs", str(runs), "--to", str(tmp_path / "out")]) == 0
    assert f"trial {verdict.trial}, epoch {verdict.epoch}" in (tmp_path / "out" / "train.yaml").read_text()


def test_a_study_with_nothing_to_ship_says_so_and_exports_no_lora(ships_nothing, tmp_path, capsys):
    assert main([str(ships_nothing.path), "--to", str(tmp_path / "out")]) == 0
    assert "Ship nothing yet" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("*.safetensors"))
    for name in ("train.yaml", "sd-scripts/config.toml", "sd-scripts/train.sh"):
        assert "# Ship nothing yet" in (tmp_path / "out" / name).read_text()
    assert load_production(tmp_path / "out" / "train.yaml")[1].ship_epoch is None


@pytest.mark.parametrize(
    ("changed", "names"),
    [("_OPTIMIZERS", {"AdamW": "AdamNobodyKnows"}), ("SCRIPTS", {"sdxl": "sdxl_train_network.py"})],
)
def test_what_sd_scripts_lacks_costs_its_own_files_alone(study, tmp_path, monkeypatch, changed, names):
    from search.exports import sdscripts

    monkeypatch.setattr(sdscripts, changed, names)
    done = export(study, tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {name for name in found if not name.startswith("onetrainer/")} == {"train.yaml", "toy.safetensors"}
    (said,) = [line for line in done.notices if line.startswith("no files for sd-scripts")]
    assert ("AdamNobodyKnows" if changed == "_OPTIMIZERS" else "sd15") in said
    assert "\n" not in said


def test_what_the_gui_lacks_costs_its_own_file_alone(study, tmp_path, monkeypatch):
    from search.exports import kohya_gui

    options = json.loads(kohya_gui.GUI_OPTIONS_FILE.read_text())
    del options["fields"]["ip_noise_gamma"]  # as a GUI of another day
    (tmp_path / "options.json").write_text(json.dumps(options))
    monkeypatch.setattr(kohya_gui, "GUI_OPTIONS_FILE", tmp_path / "options.json")
    done = export(study, tmp_path / "out")
    assert (tmp_path / "out" / "sd-scripts" / "config.toml").is_file()
    assert not (tmp_path / "out" / "kohya_ss.json").exists()
    (said,) = [line for line in done.notices if line.startswith("no file for the kohya_ss GUI")]
    assert "ip_noise_gamma" in said


def test_an_epoch_that_a_person_names_is_told_as_their_pick(ships_nothing, tmp_path, capsys):
    folder = StudyFolder(shutil.copytree(ships_nothing.path, tmp_path / "runs" / "toy"))
    verdict = Verdict.load(folder.verdict_file)
    kept = folder.checkpoint(0, 4)
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "lora.safetensors").write_bytes(b"")
    assert main([str(folder.path), "--to", str(tmp_path / "out"), "--epoch", "4"]) == 0
    out = capsys.readouterr().out
    assert not verdict.decision.ships
    assert "Epoch 4 of 40 is your own pick. Ship nothing yet" in out
    assert "Ship epoch" not in out + (tmp_path / "out" / "train.yaml").read_text()


def test_the_range_on_all_photos_is_told_by_every_file(ships, tmp_path, capsys):
    verdict = Verdict.load(ships.verdict_file)
    (said,) = [s for s in verdict.sentences if "compare epochs" in s]
    between = re.search(r"epochs \d+ to \d+", said).group()
    assert main([str(ships.path), "--to", str(tmp_path / "out")]) == 0
    assert between in capsys.readouterr().out
    for name in ("train.yaml", "sd-scripts/config.toml", "sd-scripts/train.sh"):
        assert between in (tmp_path / "out" / name).read_text()


def test_prepared_photos_are_what_all_three_trainers_are_told_of(tmp_path, tiny_sd15, capsys):
    from PIL import Image

    from tests import tiny

    data = tiny.make_photos(tmp_path / "photos")
    first = sorted(data.rglob("*.png"))[0]
    Image.open(first).save(first.with_suffix(".gif"))
    first.unlink()
    folder = make_study(tmp_path, tiny_sd15, data, PLANS[:1])
    assert main([str(folder.path), "--to", str(tmp_path / "as-is")]) == 0
    said = capsys.readouterr().out
    assert f"note: sd-scripts {SKIPPED} (1: " in said
    assert "--prepare-photos" in said
    assert f"# sd-scripts {SKIPPED}" in (tmp_path / "as-is" / "sd-scripts" / "config.toml").read_text()
    clean = tmp_path / "clean"
    assert main([str(folder.path), "--to", str(tmp_path / "out"), "--prepare-photos", str(clean)]) == 0
    said = capsys.readouterr().out
    assert SKIPPED not in said
    assert re.search(rf"{re.escape(str(clean))} +the photos", said)
    config, _ = load_production(tmp_path / "out" / "train.yaml")
    assert Path(config.data) == clean
    for name in ("sd-scripts/dataset.toml", "kohya_ss-dataset.toml"):
        file = tmp_path / "out" / name
        subsets = tomllib.loads(file.read_text())["datasets"][0]["subsets"]
        assert {(file.parent / subset["image_dir"]).resolve().parent for subset in subsets} == {clean}
    assert main([str(folder.path), "--to", str(tmp_path / "out"), "--prepare-photos", str(clean)]) == 2


def test_a_project_that_has_moved_is_exported(tmp_path, tiny_sd15):
    from tests import tiny

    project = tmp_path / "before"
    data = tiny.make_photos(project / "data" / "photos")
    shutil.copytree(tiny_sd15, project / "models" / "base")
    make_study(project, project / "models" / "base", data, PLANS[:1])
    project.rename(tmp_path / "after")
    after = tmp_path / "after"
    assert main([str(after / "runs" / "toy"), "--to", str(after / "out")]) == 0
    config, _ = load_production(after / "out" / "train.yaml")
    assert Path(config.data) == after / "data" / "photos"
    assert Path(config.base) == after / "models" / "base"
    after.rename(tmp_path / "again")
    config, _ = load_production(tmp_path / "again" / "out" / "train.yaml")
    assert Path(config.data) == tmp_path / "again" / "data" / "photos"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--trial", "99"], ("99", "a trial that is here (0, 1, 2")),
        (["--trial", "2", "--epoch", "13"], ("13", "an epoch of trial 2 whose LoRA is kept")),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(study, tmp_path, capsys, arguments, named):
    assert main([str(study.path), "--to", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert all(word in error for word in named)
    assert not (tmp_path / "out").exists()


def test_a_study_that_does_not_exist_is_refused_in_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "no.yaml"), "--to", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no.yaml" in error


def test_photos_that_are_gone_are_named(tmp_path, tiny_sd15, capsys):
    from tests import tiny

    data = tiny.make_photos(tmp_path / "photos")
    folder = make_study(tmp_path, tiny_sd15, data, PLANS[:1])
    data.rename(tmp_path / "moved")
    assert main([str(folder.path), "--to", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert str(data) in error
    assert "\n" not in error


def test_what_no_other_tool_can_load_is_said(study, tmp_path):
    done = export(study, tmp_path / "out")
    assert any("sd-scripts cannot load this base" in notice for notice in done.notices)
    assert "# sd-scripts cannot load this base" in (tmp_path / "out" / "sd-scripts" / "config.toml").read_text()


def test_photos_that_are_no_longer_those_of_the_study_are_told(tmp_path, tiny_photos, tiny_sd15):
    folder, digest = make_study(tmp_path, tiny_sd15, tiny_photos, PLANS[:1]), scan_dataset(str(tiny_photos)).digest
    for number, (photos, told) in enumerate(((digest, False), ("another", True), (None, False))):  # None: not known
        write_json(folder.path / "study.json", {"study": "toy", "digest": "", "meaning": {"photos": photos}})
        notices = export(folder, tmp_path / str(number)).notices
        assert len([line for line in notices if line.startswith(f"{tiny_photos}: photos or captions")]) == told

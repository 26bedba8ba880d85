"""The examples in the user guide: study and run files load, snippets run, commands and their options exist."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from metrics.trajectory.readings import CHANNELS
from search.study.kind import SEARCH
from search.study.study import load_study
from tests.trainer.lora.made_loras import write_lora
from trainer.production.production_config import load_production

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    p
    for p in [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "README.ja.md", ROOT / "CONTRIBUTING.md"]
    if p.is_file() and p.name != "log.md"
)


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


_MODULE = re.compile(r"# (\w+\.py)$", re.MULTILINE)
"""The first line of an example that is a file for a study file to name."""
YAML = [
    (page.name, text)
    for page in PAGES
    for text in _blocks(page, "yaml")
    if any(line.strip() and not line.startswith("#") for line in text.splitlines())  # a comment alone sets nothing
]
COMMANDS = [
    (page.name, line.split("#")[0].strip())
    for page in PAGES
    for language in ("sh", "bash", "console")
    for text in _blocks(page, language)
    for line in text.splitlines()
    if re.match(r"\s*(?:\$ )?python -m (?!venv|pip|http\.server)", line)
]


@pytest.mark.parametrize(("page", "text"), YAML, ids=lambda v: v if v.endswith(".md") else "")
def test_yaml_examples_load(page, text, tmp_path, tiny_photos):
    demo = tmp_path / "demo"
    demo.mkdir()
    (demo / "photos").symlink_to(tiny_photos)
    (tmp_path / "photos").symlink_to(tiny_photos)
    (demo / "base").mkdir()
    (demo / "base" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (demo / "clip").symlink_to(ROOT / "studies" / "demo" / "clip")
    for epoch in (2, 4):
        write_lora(tmp_path / "output" / f"dog-{epoch:06d}.safetensors")
    write_lora(tmp_path / "dog.safetensors")
    for other in _blocks(next(p for p in PAGES if p.name == page), "yaml"):  # which the example may extend
        if name := re.match(r"study: (\S+)", other):
            (tmp_path / f"{name[1]}.yaml").write_text(other)
    for code in _blocks(next(p for p in PAGES if p.name == page), "python"):  # a module that the example names
        if name := _MODULE.match(code):
            (tmp_path / name[1]).write_text(code)
    (tmp_path / "example.yaml").write_text(text)
    if re.search(r"^study:", text, re.MULTILINE):
        study = load_study(tmp_path / "example.yaml")
        if study.objective is not None:
            assert study.objective(dict.fromkeys(CHANNELS, 0.5)) == 0.5
        assert study.space.entries or study.kind is not SEARCH
        assert all(study.config(chosen) for chosen in study.space.combinations())
    else:
        load_production(tmp_path / "example.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", [text for page in PAGES for text in _blocks(page, "python") if not _MODULE.match(text)]
)
def test_python_examples_run(text, tmp_path, monkeypatch):
    demo, given = tmp_path / "studies" / "demo", ROOT / "studies" / "demo"
    shutil.copytree(given / "photos", demo / "photos", ignore=shutil.ignore_patterns("[1-9]*.*", "0[4-9].*"))
    (demo / "base").symlink_to(given / "base")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "example", "exec"), {})  # the documentation's own
    assert sorted(path.name for path in tmp_path.rglob("lora.safetensors"))


@cache
def _help(module: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, f"{module}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_exist_with_their_options(page, command):
    module, *words = command.removeprefix("$ ").split()[2:]
    told = _help(module)
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.split('=')[0])}\b", told), f"{module} has no {word}"
        elif word.startswith("studies/"):
            assert (ROOT / word).is_file(), f"{page}: {word} does not exist"


def test_the_page_of_channels_names_every_channel_and_nothing_else():
    metrics = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", metrics, re.MULTILINE)) == {
        name for name, channel in CHANNELS.items() if channel.part_of is None
    }


def test_the_page_of_own_scores_names_every_channel():
    page = (ROOT / "docs" / "objective.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", page[page.index("## The readings") :], re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(CHANNELS)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"

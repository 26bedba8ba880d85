"""The names of another trainer's options, read from a checkout of it: `search/exports/*_options.json`.

    git clone https://github.com/Nerogar/OneTrainer && python -m benchmarks.option_tables onetrainer OneTrainer
    python -m benchmarks.option_tables ai_toolkit ~/ai-toolkit
    python -m benchmarks.option_tables simpletuner ~/SimpleTuner

Its sources are parsed, not run, so none of its packages are needed. What has changed since is printed; exports that
name an option which is gone then fail their tests.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import search.exports

TABLES = Path(search.exports.__file__).parent
Sections = dict[str, list[str]]


def main(arguments: list[str] | None = None) -> int:
    """Writes one table; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=READERS)
    parser.add_argument("checkout", type=Path, help="its folder, as it was cloned")
    options = parser.parse_args(arguments)
    table = read(options.tool, options.checkout)
    file = TABLES / f"{options.tool}_options.json"
    for line in changes(json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}, table):
        print(line)
    file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{file}: {sum(map(len, table['sections'].values()))} names of {table['tool']} {table['version']}")
    return 0


def read(tool: str, checkout: Path) -> dict[str, Any]:
    """The table of a checkout."""
    name, reader = READERS[tool]
    sections, choices = reader(checkout)
    return {
        "tool": name,
        "version": f"{_version(tool, checkout)} (commit {_git(checkout, 'rev-parse', '--short=7', 'HEAD')})",
        "sections": {section: sorted(set(names)) for section, names in sections.items()},
        "choices": {key: sorted(set(values)) for key, values in choices.items()},
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Names that are gone and names that are new, one line a section."""
    for kind in ("sections", "choices"):
        for key, names in after[kind].items():
            old = set(before.get(kind, {}).get(key, ()))
            if gone := sorted(old - set(names)):
                yield f"{key}: gone: {', '.join(gone)}"
            if old and (new := sorted(set(names) - old)):
                yield f"{key}: new: {', '.join(new)}"


def onetrainer(checkout: Path) -> tuple[Sections, Sections]:
    """Its config classes list their fields in `default_values`, with the type of each; enums are the choices."""
    config = _tree(checkout / "modules/util/config/TrainConfig.py")
    concept = _tree(checkout / "modules/util/config/ConceptConfig.py")
    classes = {
        "config": (config, "TrainConfig"),
        "optimizer": (config, "TrainOptimizerConfig"),
        "part": (config, "TrainModelPartConfig"),
        "concept": (concept, "ConceptConfig"),
        "image": (concept, "ConceptImageConfig"),
        "text": (concept, "ConceptTextConfig"),
    }
    sections: Sections = {}
    choices: Sections = {}
    for section, (tree, name) in classes.items():
        sections[section] = []
        for field, kind in _appended(_class(tree, name)):
            sections[section].append(field)
            enum = checkout / f"modules/util/enum/{kind}.py"
            if enum.is_file():
                choices[f"{section}.{field}"] = _members(_class(_tree(enum), kind))
    sections["concept"].append("__version")
    return sections, choices


def ai_toolkit(checkout: Path) -> tuple[Sections, Sections]:
    """Its config classes take each name out of their keywords; a process asks for its own by `get_conf`."""
    modules = _tree(checkout / "toolkit/config_modules.py")
    classes = {
        "network": "NetworkConfig",
        "save": "SaveConfig",
        "train": "TrainConfig",
        "model": "ModelConfig",
        "dataset": "DatasetConfig",
    }
    sections = {section: list(_asked(_class(modules, name), "get")) for section, name in classes.items()}
    processes = [*(checkout / "jobs").rglob("*.py"), *(checkout / "extensions_built_in/sd_trainer").glob("*.py")]
    sections["process"] = ["type", *(name for file in processes for name in _asked(_tree(file), "get_conf"))]
    choices = {
        "train.optimizer": _compared(_tree(checkout / "toolkit/optimizer.py"), "lower_type"),
        "train.lr_scheduler": _compared(_tree(checkout / "toolkit/scheduler.py"), "name"),
        "model.arch": ["sd1", *_literal(modules, "ModelArch")],
    }
    return sections, choices


def simpletuner(checkout: Path) -> tuple[Sections, Sections]:
    """Its options are fields of a registry; a data backend's names are asked of its mapping, or told in its manual."""
    services = checkout / "simpletuner/simpletuner_sdk/server/services/field_registry/sections"
    fields = "\n".join(file.read_text(encoding="utf-8") for file in sorted(services.glob("*.py")))
    config = re.findall(r'arg_name="--(\w+)"', fields)
    backends = checkout / "simpletuner/helpers/data_backend"
    files = [*(backends / "config").glob("*.py"), *backends.glob("*.py"), *(backends / "runtime").rglob("*.py")]
    asked = [name for file in files for name in _asked(_tree(file), "get")]
    manual = (checkout / "documentation/DATALOADER.md").read_text(encoding="utf-8")
    told = re.findall(r"^### `(\w+)`$", manual, re.M) + re.findall(r'^\s+"(\w+)":', manual, re.M)
    optimizers = (checkout / "simpletuner/helpers/training/optimizer_param.py").read_text(encoding="utf-8")
    families = (checkout / "simpletuner/helpers/models").glob("*/model.py")
    choices = {
        "config.optimizer": [
            name for name in re.findall(r'^ +"([\w+-]+)": \{$', optimizers, re.M) if name != "default_settings"
        ],
        "config.model_family": [
            name
            for file in families
            for name in re.findall(r'ModelRegistry\.register\("([\w.-]+)"', file.read_text(encoding="utf-8"))
        ],
    }
    return {"config": config, "backend": [*asked, *told]}, choices


READERS = {
    "onetrainer": ("OneTrainer", onetrainer),
    "ai_toolkit": ("ai-toolkit", ai_toolkit),
    "simpletuner": ("SimpleTuner", simpletuner),
}


def _version(tool: str, checkout: Path) -> str:
    if tool == "ai_toolkit":
        return str(ast.literal_eval((checkout / "version.py").read_text(encoding="utf-8").split("=")[1].strip()))
    if tool == "simpletuner":
        found = re.search(
            r'__version__ = "([^"]+)"', (checkout / "simpletuner/__init__.py").read_text(encoding="utf-8")
        )
        return found[1] if found else "unknown"
    return _git(checkout, "log", "-1", "--format=%cs")  # it has no versions


def _git(checkout: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(checkout), *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _appended(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(field, type) of each `data.append(("field", default, type, nullable))`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            row = node.args[0]
            if isinstance(row, ast.Tuple) and len(row.elts) == 4 and isinstance(row.elts[0], ast.Constant):
                yield str(row.elts[0].value), ast.unparse(row.elts[2])


def _members(tree: ast.ClassDef) -> list[str]:
    return [
        target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
        if isinstance(target, ast.Name)
    ]  # fmt: skip


def _asked(tree: ast.AST, method: str) -> Iterator[str]:
    """Texts that are the first argument of a method's calls."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=called), args=[ast.Constant(value=str(name)), *_]) if (
                called == method
            ):
                yield name


def _compared(tree: ast.AST, name: str) -> list[str]:
    """Texts that a variable is compared with, or asked whether it begins with."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=ast.Name(id=compared)) if compared == name:
                found += node.comparators
            case ast.Call(func=ast.Attribute(attr="startswith", value=ast.Name(id=asked))) if asked == name:
                found += node.args
    return [str(each.value) for each in found if isinstance(each, ast.Constant)]


def _literal(tree: ast.Module, name: str) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return [c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
    raise LookupError(name)


if __name__ == "__main__":
    sys.exit(main())

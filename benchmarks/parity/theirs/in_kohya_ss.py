"""Run by the kohya_ss GUI's interpreter: its form filled from our JSON, and what it would pass on to sd-scripts."""

import importlib
import json
import os
import re
import sys
from pathlib import Path

_NOT_ABOUT_TRAINING = (
    "train_data_dir", "reg_data_dir", "logging_dir", "log_with", "log_prefix", "wandb_run_name", "sample_prompts",
    "sample_sampler", "config_file",
    # said by the dataset file, which goes before them
    "caption_extension", "enable_bucket", "resolution", "train_batch_size",
    # no option of sd-scripts, or its default by another name: 1000 timesteps are all, 75 tokens one CLIP window
    "epoch", "noise_offset_type", "max_timestep", "max_token_length", "dynamo_backend",
)  # fmt: skip


def main() -> None:
    checkout, work = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path[:0] = [str(checkout), str(checkout / "sd-scripts")]
    os.chdir(checkout)
    asked = json.loads((work / "asked.json").read_text(encoding="utf-8"))
    sys.argv = ["kohya_gui"]
    import gradio
    from kohya_gui import lora_gui
    from kohya_gui.class_gui_config import KohyaSSGUIConfig

    with gradio.Blocks():
        lora_gui.lora_tab(headless=True, config=KohyaSSGUIConfig())
    form = {name: component.value for name, component in lora_gui.last_built_field_registry}
    lora_gui.get_executable_path = lambda name: name  # accelerate itself is not started
    found = {
        "fields": {name: str(type(value).__name__) for name, value in form.items()},
        "cases": {case["name"]: _case(lora_gui, form, case, asked["dirty"]) for case in asked["cases"]},
    }
    (work / "found.json").write_text(json.dumps(found, default=str), encoding="utf-8")


def _case(lora_gui, form: dict, case: dict, dirty: dict) -> dict:
    """The form as a user left it, our file opened over it, "print training command" pressed."""
    content = json.loads(Path(case["file"]).read_text(encoding="utf-8"))
    opened = {name: value if content.get(name) is None else content[name] for name, value in {**form, **dirty}.items()}
    told: list[tuple[list[str], str]] = []
    lora_gui.print_command_and_toml = lambda command, file: told.append((list(command), file))
    output = Path(content["output_dir"])
    before = set(output.glob("*.toml"))
    try:
        lora_gui.train_model(headless=True, print_only=True, **opened)
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    if not told:
        return {"refused": "it refuses the file (its log says why)"}
    command, file = told[0]
    (script,) = [word for word in command if re.search(r"train_network\.py$", word)]
    for path in set(output.glob("*.toml")) - before - {Path(file)}:
        path.unlink()
    extra = command[command.index(file) + 1 :]
    gui = _namespace(script, ["--config_file", file, *extra], case["folder"])
    own = _namespace(script, ["--config_file", "config.toml"], case["folder"])
    defaults = _namespace(script, [], case["folder"])
    gui = {name: value for name, value in gui.items() if value != defaults.get(name) or name in own}
    own = {name: value for name, value in own.items() if name in gui or value != defaults.get(name)}
    return {"gui": gui, "file": own, "script": Path(script).name, "not about training": _NOT_ABOUT_TRAINING}


def _namespace(script: str, words: list[str], folder: str) -> dict:
    from library import train_util

    os.chdir(folder)
    parser = importlib.import_module(Path(script).stem).setup_parser()
    sys.argv = [script, *words]
    arguments = parser.parse_args()
    if words:
        arguments = train_util.read_config_from_file(arguments, parser)
    return vars(arguments)


if __name__ == "__main__":
    main()

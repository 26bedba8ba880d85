"""A production run for kohya's trainers: sd-scripts, and the kohya_ss GUI, which calls it."""

import json
from pathlib import Path

from search.errors import SearchError
from search.exports.base import about_base
from search.exports.kohya_gui import absolute, to_kohya_gui
from search.exports.photos import differences
from search.exports.production_run import ProductionRun, TextFile, Translated
from search.exports.sdscripts import SdScripts, to_sdscripts
from search.exports.ship_epoch import saved_as
from search.exports.toml import toml
from search.exports.train_sh import train_sh


def for_kohya(run: ProductionRun, to: Path) -> Translated:
    """The files of both, in a folder of `to` and beside it; what they cannot train is a notice."""
    folder = to / "sd-scripts"
    try:
        there = to_sdscripts(
            run.config, run.dataset, traits=run.traits, folder=folder, name=run.name, ending=run.ending
        )
    except SearchError as error:  # it lacks the optimizer or the family
        return Translated((), (f"no files for sd-scripts and the kohya_ss GUI: {error}",))
    notices = [*there.notices, *_photos(run), *about_base(run.config.base, run.traits), *_differently(run)]
    gui: tuple[TextFile, ...] = ()
    try:
        gui = _for_the_gui(run, there, folder, to)
    except SearchError as error:
        notices.append(f"no file for the kohya_ss GUI: {error}")
    about = run.about_training
    script = train_sh(there, about=about, name=run.name, config=run.config, ending=run.ending)
    run_toml = toml(there.config, comment="\n".join((about, *notices)))
    files = (
        TextFile(folder / "config.toml", run_toml, "sd-scripts: the run"),
        TextFile(folder / "dataset.toml", toml(there.dataset, comment=about), "sd-scripts: the photos"),
        TextFile(folder / "train.sh", script, "sd-scripts: the command"),
    )
    return Translated((*files, *gui), tuple(notices))


def _for_the_gui(run: ProductionRun, there: SdScripts, folder: Path, to: Path) -> tuple[TextFile, ...]:
    photos = to / "kohya_ss-dataset.toml"
    values = to_kohya_gui(
        run.config, there, family=run.traits.family, folder=folder, dataset_file=photos,
        total_steps=run.steps(run.last_epoch),
    )  # fmt: skip
    return (
        TextFile(photos, toml(absolute(there.dataset, folder), comment=run.about_training), "kohya_ss GUI: the photos"),
        TextFile(
            to / "kohya_ss.json",
            json.dumps(values, indent=2, sort_keys=True) + "\n",
            "kohya_ss GUI, LoRA tab: open it there",
        ),
    )


def _photos(run: ProductionRun) -> list[str]:
    """Where sd-scripts reads this set differently, one line each, and what helps."""
    found = [str(difference) for difference in differences(run.dataset)]
    return [*found, "--prepare-photos DIR writes a copy of the photos that both tools read the same"] if found else []


def _differently(run: ProductionRun) -> list[str]:
    """What else goes differently there, for the length of an epoch and of the run."""
    config, ending, said = run.config, run.ending, []
    gathered = config.gradient_accumulation_steps
    if run.batches % gathered:
        said.append(
            f"gradient_accumulation_steps: {gathered}: the photos make {run.batches} batches, so the last step of a "
            "pass has fewer of them. sd-scripts gives that step less weight; we give it as much as the others"
        )
    if ending.needs_copy(config):
        last, ships = run.last_epoch, saved_as(config, run.name, ending.epoch or 0)
        said.append(
            f"kohya_ss.json: the GUI's {run.name}.safetensors is the last epoch, {last}. The epoch to ship is {ships} "
            "beside it"
        )
    return said

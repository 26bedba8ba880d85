"""A production run for other trainers: sd-scripts, kohya_ss, OneTrainer, ai-toolkit and SimpleTuner, or why not.

musubi-tuner trains other families (Wan, HunyuanVideo, FLUX.1 Kontext, Qwen-Image), so nothing is written for it.
"""

from collections.abc import Iterator
from pathlib import Path

from search.errors import SearchError
from search.exports import ai_toolkit, onetrainer, simpletuner
from search.exports.ai_toolkit import for_ai_toolkit
from search.exports.kohya import for_kohya
from search.exports.onetrainer import for_onetrainer
from search.exports.production_run import ProductionRun, TextFile, Translated
from search.exports.simpletuner import for_simpletuner

_TRAINERS = (
    (onetrainer.TOOL, "onetrainer", for_onetrainer),
    (ai_toolkit.TOOL, "ai-toolkit", for_ai_toolkit),
    (simpletuner.TOOL, "simpletuner", for_simpletuner),
)


def other_trainers(run: ProductionRun, to: Path) -> Iterator[Translated]:
    """The run for each of them, in folders of `to`."""
    yield for_kohya(run, to)
    for tool, name, translate in _TRAINERS:
        try:
            found = translate(run, to / name)
        except SearchError as error:
            yield Translated((), (f"no files for {tool}: {error}",))
            continue
        first, *others = found.files.items()
        files = [TextFile(to / name / first[0], first[1], found.command)]
        files += [TextFile(to / name / file, text, f"{tool}: the photos") for file, text in others]
        yield Translated(tuple(files), found.notices)

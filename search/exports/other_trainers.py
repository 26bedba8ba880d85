"""A production run for OneTrainer, ai-toolkit and SimpleTuner: each in a folder of its own, or why there is none.

musubi-tuner trains other families (Wan, HunyuanVideo, FLUX.1 Kontext, Qwen-Image), so nothing is written for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from search.errors import SearchError
from search.exports import ai_toolkit, onetrainer, simpletuner
from search.exports.ai_toolkit import for_ai_toolkit
from search.exports.onetrainer import for_onetrainer
from search.exports.production_run import ForTrainer, ProductionRun
from search.exports.simpletuner import for_simpletuner

_TRAINERS = (
    (onetrainer.TOOL, "onetrainer", for_onetrainer),
    (ai_toolkit.TOOL, "ai-toolkit", for_ai_toolkit),
    (simpletuner.TOOL, "simpletuner", for_simpletuner),
)


@dataclass(frozen=True)
class OtherTrainer:
    """A trainer, the folder for it, and what goes there: None where it cannot train the run, and `why`."""

    tool: str
    folder: Path
    export: ForTrainer | None
    why: str = ""


def other_trainers(run: ProductionRun, to: Path) -> Iterator[OtherTrainer]:
    """The run for each of them, in folders of `to`."""
    for tool, name, translate in _TRAINERS:
        try:
            yield OtherTrainer(tool, to / name, translate(run, to / name))
        except SearchError as error:
            yield OtherTrainer(tool, to / name, None, str(error))

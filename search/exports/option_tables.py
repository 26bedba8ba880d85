"""Names that OneTrainer, ai-toolkit and SimpleTuner give their options, kept with the version they were read from.

None of the three refuses a key that it does not know, so every key that is written is looked up here first.
`python -m benchmarks.option_tables` reads the tables (`*_options.json` beside this file) from a checkout.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from search.errors import SearchError, problem


@dataclass(frozen=True)
class OptionTable:
    """What a tool knows.

    Attributes:
        tool: its name, as it writes it.
        version: and commit.
        sections: of each part of its files, the names.
        choices: of options with a list of values, by "section.name", the values.
    """

    tool: str
    version: str
    sections: Mapping[str, tuple[str, ...]]
    choices: Mapping[str, tuple[str, ...]]

    def check(self, section: str, values: Mapping[str, Any]) -> None:
        """Raises SearchError where a name or a value of `values` is not one of the tool's."""
        for key, value in values.items():
            if key not in self.sections[section]:
                raise SearchError(problem(f"{self.tool}: {section}", key, value, f"an option of {self.tool}"))
            known = self.choices.get(f"{section}.{key}")
            if known is not None and value not in known:
                raise SearchError(problem(f"{self.tool}: {section}", key, value, f"one of {', '.join(known)}"))


@cache
def option_table(name: str) -> OptionTable:
    """The table of `onetrainer`, `ai_toolkit` or `simpletuner`."""
    values = json.loads(Path(__file__).with_name(f"{name}_options.json").read_text(encoding="utf-8"))
    return OptionTable(
        values["tool"],
        values["version"],
        {section: tuple(names) for section, names in values["sections"].items()},
        {key: tuple(known) for key, known in values["choices"].items()},
    )

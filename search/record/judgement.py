"""What a LoRA's block weights win and cost, judged on seeds that the search for them never saw."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from search.record.json_files import read_if_whole, write_json

JUDGEMENT_FILE, SHEET_FILE = "judgement.json", "judgement.png"


@dataclass(frozen=True)
class Change:
    """One channel before and after, and the difference with the interval of a paired bootstrap; above 0 is better."""

    before: float
    after: float
    better_by: float
    low: float
    high: float


@dataclass(frozen=True)
class Judgement:
    """What was found.

    Attributes:
        trial: whose weights were judged; number of those as it is where none did better in the search. Of several the
            best that win, else those that did best in the search.
        among: numbers of the trials that were judged.
        params: its weights, by group of blocks; weights: by block.
        lbw: what stands after `lbw=` in a WebUI's prompt.
        likeness: to the subject. changes: of each channel that decides.
        wins, costs: channels that are surely better or worse.
        plain: strength at which the whole LoRA is as alike as under the weights, as far as that was measured.
        plain_values: channel to what it then reads.
        images, prompts: how many were looked at.
        level: probability inside each interval.
        why_not: why nothing is turned down; "" where the weights win.
    """

    trial: int
    params: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    lbw: str = ""
    likeness: Change | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)
    wins: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()
    plain: float | None = None
    plain_values: Mapping[str, float] = field(default_factory=dict)
    images: int = 0
    prompts: int = 0
    level: float = 0.9
    why_not: str = ""
    among: tuple[int, ...] = ()

    @property
    def turns_down(self) -> bool:
        """Whether the weights are better than the LoRA as it is."""
        return not self.why_not

    def save(self, folder: Path) -> None:
        """Write `judgement.json` into a study's folder."""
        write_json(folder / JUDGEMENT_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Judgement | None":
        """What was found in a study's folder; None where nothing was, or the file is damaged."""
        return read_if_whole(cls, folder / JUDGEMENT_FILE)

"""The sentences of a verdict, part by part."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """A verdict's sentences, in the order in which they are read.

    Attributes:
        do: what to do now. why: what was found. sure: what speaks against it. took: what it cost.
        headline: the first line, where it does not follow from the decision.
    """

    do: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    sure: tuple[str, ...] = ()
    took: tuple[str, ...] = ()
    headline: str = ""

    @property
    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(heading, sentences) of each part that has any."""
        parts = (("What to do", self.do), ("Why", self.why), ("How sure", self.sure), ("What it took", self.took))
        return tuple((heading, sentences) for heading, sentences in parts if sentences)

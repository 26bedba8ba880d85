"""What is said of a data check: which photos and captions to change, before what its short training came to."""

from dataclasses import replace
from typing import TYPE_CHECKING

from search.findings.sentences import headline, short_names, told
from search.record.data_check import DATA_CHECK_PAGE, DataCheck, Finding
from search.verdict.said import Said

if TYPE_CHECKING:
    from search.verdict.verdict import Verdict

_MOST = 8  # findings told beside the page, which tells all


def say_check(check: DataCheck, verdict: "Verdict", said: Said) -> Said:
    """The verdict on photos and captions. `said`: what a search would say of the short training."""
    names = short_names([photo for finding in check.findings for photo in finding.photos])
    change = [finding for finding in check.findings if finding.needs_change]
    know = [finding for finding in check.findings if not finding.needs_change]
    do = _lines(change, names) or ("Leave photos and captions as they are, and go on with a longer training.",)
    found = verdict.decision
    if found.learned is not None:
        trained = f"The short training can learn them: its images show the subject from epoch {found.learned} on."
    elif found.learned_by:
        trained = "The short training can learn them: its losses say so. Its images hardly show the subject yet."
    else:
        trained = (
            f"Up to epoch {found.last}, the images of the short training hardly show the subject. That may only take "
            "more epochs or a higher learning rate."
        )
    test = "This training was a test of photos and captions. "
    test += (
        f"Its best checkpoint is epoch {found.epoch} (score {found.score or 0.0:.3f}), kept in best/."
        if found.ships
        else "It has no checkpoint to use."
    )
    return replace(
        said, headline=f"{headline(check)}.", do=do, why=(*_lines(know, names), trained), sure=(test, *check.unlooked)
    )


def _lines(findings: list[Finding], names: dict[str, str]) -> tuple[str, ...]:
    lines = [f"{words.what} {words.do}" for words in (told(finding, names) for finding in findings[:_MOST])]
    more = len(findings) - _MOST
    return (*lines, *([f"{more} more: see {DATA_CHECK_PAGE}."] if more > 0 else []))

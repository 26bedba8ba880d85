"""What diffusers and transformers warn of while they load is collected: some of it becomes an error, some a notice."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LIBRARIES = ("diffusers", "transformers", "accelerate")
_TOLD_OTHERWISE = ("LOAD REPORT", "were not initialized from the model checkpoint", "were not used when initializing")
_FOR_PROGRAMMERS = ("deprecated", "deprecation")
_IN_OUR_WORDS = {
    "only the non-EMA weights are extracted": "its file has averaged (EMA) weights too; the plain ones are taken"
}


@contextlib.contextmanager
def heard(what: str, notices: list[str]) -> Iterator[None]:
    """Within the block the libraries print nothing; what they warn of is added to `notices`, one line each.

    Missing and unused tensors are left out, since a load's own report says them to the last (`whole.check_tensors`),
    and so are remarks to programmers.

    Args:
        what: begins each notice: the part that is being loaded.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    collector = _Collector()
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    bars = (diffusers_logging, transformers_logging)
    for logger in loggers:
        logger.handlers, logger.propagate = [collector], False
    for library in bars:
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        for library in bars:
            library.enable_progress_bar()
    said = [str(one.message) for one in caught if not issubclass(one.category, _REMARKS)] + collector.said
    for text in dict.fromkeys(" ".join(text.split()) for text in said):
        if any(words in text for words in _TOLD_OTHERWISE) or any(word in text.lower() for word in _FOR_PROGRAMMERS):
            continue
        ours = next((ours for words, ours in _IN_OUR_WORDS.items() if words in text), text)
        notices.append(f"{what}: {ours[:240]}{'…' if len(ours) > 240 else ''}")


_REMARKS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

"""Files of a hub repository: from the cache where they are whole, else downloaded; what goes wrong in one line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

from trainer.errors import ModelError

T = TypeVar("T")

_SECONDS = 8.0
_INSTEAD = "name a diffusers folder or a .safetensors file instead"


def fetch(repository: str, needed: Callable[[Iterable[str]], list[str]], whole: Callable[[Path], bool]) -> Path:
    """The folder of a repository's snapshot in the hub's cache.

    A snapshot that is there and whole is used as it is, without asking the hub: a study goes on with the base that it
    began with. Otherwise the files that `needed` picks from all names are downloaded.

    Raises:
        ModelError: the hub is not asked (HF_HUB_OFFLINE), cannot be reached, knows no such repository, asks for an
            account, or the repository is no diffusers folder.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    cached = _cached(repository)
    if cached is not None and whole(cached):
        return cached
    absent = f"{repository}: no such folder here, and not whole in the hub's cache"
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"{absent}; the hub is not asked, as HF_HUB_OFFLINE is set: {_INSTEAD}")
    try:
        about = _within(2 * _SECONDS, lambda: HfApi().model_info(repository, timeout=_SECONDS))
        names = [file.rfilename for file in about.siblings or []]
        if "model_index.json" not in names:
            single = [name for name in names if name.endswith(".safetensors") and "/" not in name]
            also = f"; download {single[0]} and name that file" if single else ""
            raise ModelError(f"{repository}: this hub repository is no diffusers folder (no model_index.json){also}")
        return Path(snapshot_download(repository, allow_patterns=needed(names)))
    except ModelError:
        raise
    except GatedRepoError:
        raise ModelError(
            f"{repository}: this hub repository asks for an account: accept its terms there, then run `hf auth login`"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(
            f"{repository}: no such folder here, and the hub has no such repository (or it is private)"
        ) from None
    except OfflineModeIsEnabled:
        raise ModelError(f"{absent}; the hub is not asked, as it is switched off: {_INSTEAD}") from None
    except LocalEntryNotFoundError as error:
        raise ModelError(f"{absent}; the hub cannot be reached: {_INSTEAD}") from error
    except HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", "an error")
        raise ModelError(f"{absent}; the hub answers {status}: try again later, or {_INSTEAD}") from error
    except OSError as error:
        if error.errno is None:
            raise ModelError(f"{absent}; the hub cannot be reached ({_brief(error)}): {_INSTEAD}") from error
        raise ModelError(f"{repository}: cannot be downloaded: {_brief(error)}") from error
    except Exception as error:  # whatever the HTTP library of the day raises
        raise ModelError(f"{absent}; the hub cannot be reached ({_brief(error)}): {_INSTEAD}") from error


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns or raises, or TimeoutError: names of hosts are looked up without any limit of time."""
    answer: SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = SimpleQueue()

    def work() -> None:
        try:
            answer.put((ask(), None))
        except BaseException as error:
            answer.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        found, error = answer.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer in {seconds:.0f} s") from None
    if error is not None:
        raise error
    return cast(T, found)


def _cached(repository: str) -> Path | None:
    """The snapshot in the hub's cache that the branch "main" points to, whole or not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True, allow_patterns=["model_index.json"]))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__

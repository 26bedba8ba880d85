"""Which encoder a name can mean, told without loading open_clip, timm or torch."""

import importlib.util
import re
from functools import cache
from pathlib import Path

from metrics.errors import nearest

_HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
_TIMM = re.compile(rf"timm:(?:hf[-_]hub:{_HUB_ID}|[A-Za-z0-9]\w*(?:\.\w+)*)(?:@.+)?", re.ASCII)
_OPEN_CLIP = re.compile(r"([\w.-]+)/([\w.-]+|.*\.(?:safetensors|pt|pth|bin))", re.ASCII)
_FORMS = "an open_clip model as NAME/TAG, hf-hub:ORG/NAME, timm:NAME, or a folder of open_clip's or timm's"


def why_no_encoder(spec: str) -> str | None:
    """What an encoder's name would have to be; None when it may exist (whether its weights do, loading tells).

    Args:
        spec: as `metrics.checkpoint.encoders.load_encoder` takes it; a folder as it can be reached from here.
    """
    if not spec.strip() or not spec.isprintable() or len(spec) > 500:
        return _FORMS
    try:
        folder = Path(spec).is_dir()
    except (OSError, ValueError):
        folder = False
    if folder:
        named = ("open_clip_config.json", "config.json")
        held = any((Path(spec) / name).is_file() for name in named)
        return None if held else f"a folder that holds {' or '.join(named)}: open_clip's or timm's"
    if spec.startswith("timm:"):
        return None if _TIMM.fullmatch(spec) else "timm:NAME, with @FILE.safetensors for weights of your own"
    if spec.startswith("hf-hub:"):
        return None if re.fullmatch(rf"hf-hub:{_HUB_ID}", spec, re.ASCII) else "hf-hub:ORG/NAME"
    found = _OPEN_CLIP.fullmatch(spec)
    known = _open_clip_models()
    if found is None or (known and found[1] not in known):
        name = spec.partition("/")[0]
        return f"{_FORMS}{nearest(name, known)}"
    return None


@cache
def _open_clip_models() -> frozenset[str]:
    """As `open_clip.list_models`: it names a model by a file of settings. Empty when open_clip is laid out anew."""
    package = importlib.util.find_spec("open_clip")
    folders = (package and package.submodule_search_locations) or []
    return frozenset(file.stem for folder in folders for file in Path(folder).glob("model_configs/*.json"))

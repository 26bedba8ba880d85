"""Photos and bases of a study whose project was moved since: found again beside where they were."""

from pathlib import Path


def find_again(path: str, near: Path) -> str:
    """`path`, or, where nothing is there, the same file or folder as seen from the moved project; else unchanged.

    The folders above `near` are tried, the nearest first, with as long an end of `path` as fits: a project moved from
    /a/cats to /b/cats has its /a/cats/data/photos at /b/cats/data/photos.

    Args:
        path: absolute, as a study noted it (a hub id is given back as it is).
        near: the study's folder, or its study file's.
    """
    old = Path(path)
    if not old.is_absolute() or old.exists():
        return path
    parts = old.parts[1:]
    for start in range(len(parts)):
        for above in (near.resolve(), *near.resolve().parents):
            found = above.joinpath(*parts[start:])
            if above != Path(above.anchor) and found.exists():
                return str(found)
    return path

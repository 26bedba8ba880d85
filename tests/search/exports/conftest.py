"""Photos that exports are written of."""

from pathlib import Path

import pytest

from tests.search.exports.exported import make_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_photos`."""
    return make_photos(tmp_path_factory.mktemp("data"))

"""Fixtures of the tests of subjects."""

from collections.abc import Iterator

import pytest

from tests.metrics.subjects.views_made_once import keep_views


@pytest.fixture(scope="session", autouse=True)
def _views_of_the_same_photo_are_made_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        keep_views(patch)
        yield

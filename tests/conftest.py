"""Set-up that all tests share."""

from __future__ import annotations

import pytest

from utils import cuda


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `gpu` where CUDA is not whole, and says what is missing."""
    found = cuda.find()
    if found.missing:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="; ".join(found.missing)))

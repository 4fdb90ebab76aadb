"""Waiting for what another process does."""

from __future__ import annotations

import time
from typing import Callable

PATIENCE_S = 60


def wait_for(condition: Callable[[], object]):
    """The first result of ``condition()`` that is true, asked again and again."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"nothing happened in {PATIENCE_S} s")

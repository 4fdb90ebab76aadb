"""Waiting for what another process does."""

from __future__ import annotations

import time
from typing import Callable

PATIENCE_S = 60


def wait_for(found: Callable[[], object]):
    """What a function finds as soon as it finds something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"nothing happened in {PATIENCE_S} s")

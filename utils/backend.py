"""The public name of `utils.runtime.backend`: ``from utils.backend import jt``."""

from __future__ import annotations

from utils.runtime import backend


def __getattr__(name: str):
    return getattr(backend, name)

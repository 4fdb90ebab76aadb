"""The networks, their losses and their optimizer."""

from __future__ import annotations

from lib.catalog import NETWORKS

__all__ = ["NETWORKS", "PraNet", "build_model"]


def __getattr__(name: str):
    # Jittor is loaded with the first network, not with the list of their names.
    if name in ("PraNet", "build_model"):
        from lib import pranet

        return getattr(pranet, name)
    raise AttributeError(f"module 'lib' has no attribute {name!r}")

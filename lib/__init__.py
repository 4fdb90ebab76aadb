"""The networks, their losses and their optimizer, and a trained network as a function of images."""

from __future__ import annotations

from lib.registry import NETWORKS

__all__ = ["NETWORKS", "PolypSegmenter", "PraNet", "build_model"]


def __getattr__(name: str):
    # Jittor is loaded with the first network, not with the list of their names.
    if name in ("PraNet", "build_model"):
        from lib import assembly

        return getattr(assembly, name)
    if name == "PolypSegmenter":
        from lib.inference import PolypSegmenter

        return PolypSegmenter
    raise AttributeError(f"module 'lib' has no attribute {name!r}")

"""The networks, their losses and their optimizer."""

from lib.pranet import ARCHITECTURES, PraNet, build_model

__all__ = ["ARCHITECTURES", "PraNet", "build_model"]

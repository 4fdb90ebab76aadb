"""Encoders: normalised images (N,3,H,W) to features at 1/4, 1/8, 1/16 and 1/32 of H and W."""

from __future__ import annotations

from lib.encoders.pvt_v2 import PVTv2B2
from lib.encoders.res2net import Res2Net50

ENCODERS = {"Res2Net50-v1b": Res2Net50, "PVTv2-B2": PVTv2B2}

__all__ = ["ENCODERS", "PVTv2B2", "Res2Net50"]

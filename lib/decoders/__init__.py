"""Decoders: four features, from fine to coarse, to the maps of all stages."""

from __future__ import annotations

from lib.decoders.emcad import DualSupervisedEmcadDecoder, EmcadDecoder
from lib.decoders.pranet import DualSupervisedDecoder, ReverseAttentionDecoder

DECODERS = {"RA": ReverseAttentionDecoder, "DSRA": DualSupervisedDecoder, "EMCAD": EmcadDecoder,
            "EMCAD-DSRA": DualSupervisedEmcadDecoder}

__all__ = ["DECODERS", "DualSupervisedDecoder", "DualSupervisedEmcadDecoder", "EmcadDecoder",
           "ReverseAttentionDecoder"]

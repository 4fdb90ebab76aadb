"""Weights: files of several formats, read without running anything, and models that they are loaded into."""

from __future__ import annotations

from utils.checkpoint.formats import Checkpoint, read_checkpoint, read_info, read_weights
from utils.checkpoint.loading import (
    Mismatch,
    check_values,
    load_encoder_weights,
    load_weights,
    save_arrays,
    save_weights,
)

__all__ = ["Checkpoint", "Mismatch", "check_values", "load_encoder_weights", "load_weights",
           "read_checkpoint", "read_info", "read_weights", "save_arrays", "save_weights"]

"""Scores of maps and label maps, by image and over sets."""

from __future__ import annotations

from utils.metrics.binary import BinaryMetrics, PairScores, binary_mask, measure_pair
from utils.metrics.multiclass import LabelMeasures, MulticlassMetrics, ScanScores, measure_scan

Measures = BinaryMetrics  # its former name

__all__ = ["BinaryMetrics", "LabelMeasures", "Measures", "MulticlassMetrics", "PairScores", "ScanScores",
           "binary_mask", "measure_pair", "measure_scan"]

"""Metrics of maps and label maps, their means over sets, and tables of them."""

from __future__ import annotations

from utils.metrics.binary import Measures, PairFigures, binary_mask, measure_pair
from utils.metrics.multiclass import LabelMeasures, ScanFigures, measure_scan

__all__ = ["LabelMeasures", "Measures", "PairFigures", "ScanFigures", "binary_mask", "measure_pair",
           "measure_scan"]

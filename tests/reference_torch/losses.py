"""The losses of one map (V1) and of one pair of maps (V2); logits and masks are (N,num_class,H,W)."""

from __future__ import annotations

import torch.nn.functional as F


def v1_loss(logits, mask):
    """Weighted IoU and plain BCE: the published code means to weight the BCE and does not."""
    weight = _boundary_weight(mask)
    return F.binary_cross_entropy_with_logits(logits, mask) + _weighted_iou(logits, mask, weight).mean()


def v2_loss(fg, bg, mask):
    """Weighted BCE and IoU of the foreground, weighted BCE of the background."""
    weight = _boundary_weight(mask)
    loss = _weighted_bce(fg, mask, weight) + _weighted_iou(fg, mask, weight)
    return (loss + 0.8 * _weighted_bce(bg, 1 - mask, weight)).mean()


def _boundary_weight(mask):
    return 1 + 5 * (F.avg_pool2d(mask, 31, stride=1, padding=15) - mask).abs()


def _weighted_bce(logits, mask, weight):
    bce = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return (weight * bce).sum((2, 3)) / weight.sum((2, 3))


def _weighted_iou(logits, mask, weight):
    found = logits.sigmoid()
    inter = (weight * found * mask).sum((2, 3))
    union = (weight * (found + mask)).sum((2, 3))
    return 1 - (inter + 1) / (union - inter + 1)

"""The losses of one map (V1), of one pair of maps (V2), logits and masks (N,num_class,H,W), and of several
classes, labels (N,H,W)."""

from __future__ import annotations

from itertools import combinations

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


def mutation_loss(fgs, bgs, labels):
    """[cross entropy, Dice] and, with background maps, their BCE, over the sums of every choice of maps."""
    labels = labels.long()
    target = F.one_hot(labels, fgs[0].shape[1]).movedim(-1, 1).to(fgs[0].dtype)
    choices = [choice for count in range(1, len(fgs) + 1) for choice in combinations(range(len(fgs)), count)]
    sums = [sum(fgs[i] for i in choice) for choice in choices]
    terms = [(0.5 if bgs else 0.3) * sum(F.cross_entropy(logits, labels) for logits in sums),
             0.7 * sum(_dice_loss(logits.softmax(1), target) for logits in sums)]
    if bgs:
        terms.append(0.3 * sum(F.binary_cross_entropy_with_logits(sum(bgs[i] for i in choice), 1 - target)
                               for choice in choices))
    return terms


def _dice_loss(prediction, target):
    inter = (prediction * target).sum((0, 2, 3))
    squares = (prediction ** 2 + target ** 2).sum((0, 2, 3))
    return (1 - (2 * inter + 1e-5) / (squares + 1e-5)).mean()


def _boundary_weight(mask):
    return 1 + 5 * (F.avg_pool2d(mask, 31, stride=1, padding=15) - mask).abs()


def _weighted_bce(logits, mask, weight):
    bce = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return (weight * bce).sum((2, 3)) / weight.sum((2, 3))


def _weighted_iou(logits, mask, weight):
    prediction = logits.sigmoid()
    inter = (weight * prediction * mask).sum((2, 3))
    union = (weight * (prediction + mask)).sum((2, 3))
    return 1 - (inter + 1) / (union - inter + 1)

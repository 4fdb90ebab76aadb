"""Deep supervision: the loss of one map in PraNet-V1 and of one pair of maps in PraNet-V2.

Maps are logits (N,num_class,H,W), masks are in [0,1] and of the same shape; both may be soft. Every loss is
the mean over images and classes. Sums over pixels are taken in float64.
"""

from __future__ import annotations

from lib import ops
from utils.backend import jt

BACKGROUND_SHARE = 0.8  # weight of the background map in PraNet-V2


def boundary_weight(mask):
    """1 + 5 |mean over 31x31 - mask|: pixels near a boundary count up to six times (F3Net, AAAI 2020)."""
    return 1.0 + 5.0 * jt.abs(ops.average_pool(mask, 31, stride=1, padding=15) - mask)


def dual_supervision(fg, bg, mask, weight):
    """PraNet-V2: weighted BCE and IoU of the foreground, and weighted BCE of the background on 1 - mask.

    ``weight`` is `boundary_weight` of the mask, for both sides.
    """
    loss = _weighted_bce(fg, mask, weight) + _weighted_iou(fg, mask, weight)
    return (loss + BACKGROUND_SHARE * _weighted_bce(bg, 1.0 - mask, weight)).mean()


def single_supervision(logits, mask, weighted_bce: bool = False):
    """PraNet-V1: BCE and weighted IoU.

    The BCE is the plain mean: the published ``reduce='none'`` is taken as true, so that its weights never
    act. ``weighted_bce`` makes it what the paper says.
    """
    weight = boundary_weight(mask)
    bce = _weighted_bce(logits, mask, weight if weighted_bce else jt.ones_like(mask))
    return (bce + _weighted_iou(logits, mask, weight)).mean()


def _weighted_bce(logits, mask, weight):
    """(N,num_class): sum(w * bce) / sum(w)."""
    # max(x,0) - x*z + log(1 + exp(-|x|)) is BCE with logits that neither overflows nor loses digits.
    bce = jt.maximum(logits, 0.0) - logits * mask + jt.log(1.0 + jt.exp(-jt.abs(logits)))
    return _sum(weight * bce) / _sum(weight)


def _weighted_iou(logits, mask, weight):
    """(N,num_class): 1 - (inter + 1) / (union - inter + 1), inter and union weighted."""
    found = jt.sigmoid(logits)
    inter = _sum(weight * found * mask)
    union = _sum(weight * (found + mask))
    return 1.0 - (inter + 1.0) / (union - inter + 1.0)


def _sum(x):
    return x.float64().sum([2, 3]).float32()

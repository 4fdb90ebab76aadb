"""Deep supervision: the loss of one map in PraNet-V1 and of one pair of maps in PraNet-V2.

Maps are logits (N,num_class,H,W), masks are in [0,1] and of the same shape; both may be soft. Every loss is
the mean over images and classes. ``weight`` is `lib.ops.boundary_weight` of the mask.
"""

from __future__ import annotations

from lib import ops

BACKGROUND_SHARE = 0.8  # weight of the background map in PraNet-V2


def dual_supervision(fg, bg, mask, weight):
    """PraNet-V2: weighted BCE and IoU of the foreground, and weighted BCE of the background on 1 - mask."""
    return ops.structure_loss(fg, bg, mask, weight, BACKGROUND_SHARE)


def single_supervision(logits, mask, weight, weighted_bce: bool = False):
    """PraNet-V1: BCE and weighted IoU.

    The BCE is the plain mean: the published ``reduce='none'`` is taken as true, so that its weights never
    act. ``weighted_bce`` makes it what the paper says.
    """
    return ops.structure_loss(logits, None, mask, weight, weighted_bce=weighted_bce)

"""Losses of deep supervision: of one map in PraNet-V1, of a pair in PraNet-V2, of all maps where there are
several classes.

Maps are logits (N,num_class,H,W). Masks are in [0,1] and of the same shape, and may be soft; their losses are
the mean over images and classes, and ``weight`` is `lib.ops.boundary_weight` of the mask.
"""

from __future__ import annotations

from lib import ops
from utils.errors import UserError
from utils.runtime import collectives

BACKGROUND_WEIGHT = 0.8  # weight of the background map in PraNet-V2

MULTICLASS_TERMS = ("ce", "dice", "background")  # of several classes, the last one with background maps only
MULTICLASS_WEIGHTS = {"single": (0.3, 0.7), "dual": (0.5, 0.7, 0.3)}
DICE_SMOOTH = 1e-5


def v2_loss(fg, bg, mask, weight):
    """The loss of PraNet-V2: weighted BCE and IoU of fg on mask, and weighted BCE of bg on 1 - mask."""
    return ops.structure_loss(fg, bg, mask, weight, BACKGROUND_WEIGHT)


def v1_loss(logits, mask, weight, weighted_bce: bool = False):
    """The loss of PraNet-V1: BCE and weighted IoU.

    The BCE is the plain mean: the published ``reduce='none'`` is taken as true, so that its weights never
    act. ``weighted_bce`` makes it what the paper says.
    """
    return ops.structure_loss(logits, None, mask, weight, weighted_bce=weighted_bce)


def mutation_loss(fgs: list, bgs: list, labels) -> list:
    """The terms `MULTICLASS_TERMS` of the loss of several classes, to be summed, as PraNet-V2 trains EMCAD.

    Each is the sum, over every choice of at least one of the maps, of a weighted loss of the chosen maps'
    sum: cross entropy and Dice of the foregrounds, BCE of the backgrounds on what is not the class. Dice is
    that of the batch, with squares in the denominator, and the mean over all classes, the background among
    them. Where other processes have a part of the batch it is that of all parts.

    Args:
        fgs: maps; bgs: as many background maps, or none.
        labels: int32 (N,H,W), 0 for the background to num_class - 1.

    Raises:
        UserError: the maps have one class.
    """
    batch, classes, height, width = fgs[0].shape
    if classes < 2:
        raise UserError("the loss of several classes needs a network of 2 or more, the background among "
                        "them; build it with num_class, or train it on masks")
    sums = ops.mutation_sums(fgs, bgs, labels)
    pixels = batch * height * width
    entropy, background = sums[:, 0].sum() / pixels, sums[:, 1].sum() / (pixels * classes)
    regions = _over_whole_batch(sums[:, 2:], batch)
    inter, both = regions[:, :classes], regions[:, classes:]
    dice = (1.0 - (2.0 * inter + DICE_SMOOTH) / (both + DICE_SMOOTH)).sum() / classes
    weights = MULTICLASS_WEIGHTS["dual" if bgs else "single"]
    return [(weight * term).float32() for weight, term in zip(weights, (entropy, dice, background))]


def _over_whole_batch(sums, images: int):
    """Sums over this process's images to those over the batch.

    A loss is multiplied by the shard's fraction of the batch, as for a mean, before gradients are added up
    over processes; one of sums over the batch is not to be, hence the division.
    """
    shard = collectives.current_shard(images)
    if not shard.split:
        return sums
    return collectives.all_reduce_batch(sums.detach()) + (sums - sums.detach()) / shard.fraction

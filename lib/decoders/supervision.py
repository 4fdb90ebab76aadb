"""The losses and the final map of a decoder with one map at each stage, or a foreground and a background."""

from __future__ import annotations

from lib import losses, ops


class SingleSupervision:
    """For decoders whose maps end with the finest."""

    multiclass_terms = losses.MULTICLASS_TERMS[:2]  # names of what `multiclass_losses` gives

    def losses(self, maps, mask, weighted_bce: bool = False):
        """The `lib.losses.v1_loss` of each map."""
        weight = ops.boundary_weight(mask)
        return [losses.v1_loss(each, mask, weight, weighted_bce) for each in maps]

    def multiclass_losses(self, maps, labels):
        """See `lib.losses.mutation_loss`."""
        return losses.mutation_loss(maps, [], labels)

    def final_logits(self, maps):
        """The logits to test with: the finest map."""
        return maps[-1]


class DualSupervision:
    """For decoders that give foreground maps, then as many background maps."""

    multiclass_terms = losses.MULTICLASS_TERMS

    def losses(self, maps, mask, weighted_bce: bool = False):
        """The `lib.losses.v2_loss` of each pair of maps, whose BCE is always weighted."""
        fgs, bgs = _halves(maps)
        weight = ops.boundary_weight(mask)
        return [losses.v2_loss(fg, bg, mask, weight) for fg, bg in zip(fgs, bgs)]

    def multiclass_losses(self, maps, labels):
        """See `lib.losses.mutation_loss`."""
        return losses.mutation_loss(*_halves(maps), labels)

    def final_logits(self, maps):
        """The logits to test with: the sum of the foreground maps."""
        fgs, _ = _halves(maps)
        return sum(fgs[1:], fgs[0])


def _halves(maps):
    half = len(maps) // 2
    return maps[:half], maps[half:]

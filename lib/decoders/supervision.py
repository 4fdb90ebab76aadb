"""How a decoder's maps are supervised and read: one map at each stage, or a foreground and a background."""

from __future__ import annotations

from lib import losses, ops


class SingleSupervision:
    """For decoders whose maps end with the finest."""

    class_terms = losses.CLASS_TERMS[:2]  # names of what `class_losses` gives
    weighted_bce = False                  # see `lib.losses.single_supervision`

    def losses(self, maps, mask):
        """The loss of each map."""
        weight = ops.boundary_weight(mask)
        return [losses.single_supervision(each, mask, weight, self.weighted_bce) for each in maps]

    def class_losses(self, maps, labels):
        """See `lib.losses.mutation_supervision`."""
        return losses.mutation_supervision(maps, [], labels)

    def merge(self, maps):
        """The map to test with: the finest."""
        return maps[-1]


class DualSupervision:
    """For decoders that give foreground maps, then as many background maps."""

    class_terms = losses.CLASS_TERMS

    def losses(self, maps, mask):
        """The loss of each pair of maps."""
        fgs, bgs = _halves(maps)
        weight = ops.boundary_weight(mask)
        return [losses.dual_supervision(fg, bg, mask, weight) for fg, bg in zip(fgs, bgs)]

    def class_losses(self, maps, labels):
        """See `lib.losses.mutation_supervision`."""
        return losses.mutation_supervision(*_halves(maps), labels)

    def merge(self, maps):
        """The map to test with: the sum of the foreground maps."""
        fgs, _ = _halves(maps)
        return sum(fgs[1:], fgs[0])


def _halves(maps):
    half = len(maps) // 2
    return maps[:half], maps[half:]

"""Sizes that kernels and Python agree on: `launcher.source` defines them in each kernel that has their names.

Python makes room for what a kernel writes, so that both have to know them from one place.
"""

from __future__ import annotations

ROWS_PER_SUM = 128        # rows of a matrix in a partial sum of parallel.cuh
TENSORS_PER_LAUNCH = 16   # tensors that one launch of updates.cuh changes
LOSS_TILE = 4096          # pixels in a partial sum of structure_loss.cuh
LOSS_SUMS = 6             # weights, weights of the BCE, BCE of fg and bg, inter, union
LOSS_SLOPES = 4           # d loss / d (BCE of fg, of bg, inter, union)
MUTATION_TILE = 1024      # pixels in a partial sum of mutation_sums.cuh
COMMON_SUMS = 2          # cross entropy and BCE of all classes; two sums of each class follow

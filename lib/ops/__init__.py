"""Operations whose rounding, reach or speed Jittor's own do not give.

Each is one function, beside the plain formula that it computes: see `choice`.
"""

from lib.ops.attention import attention, scaled_softmax
from lib.ops.autograd import last_gradients
from lib.ops.class_sums import class_sums
from lib.ops.conv import Geometry, conv2d
from lib.ops.dispatch import plain_formulas, use_plain_formulas
from lib.ops.linear import linear
from lib.ops.norm import batch_norm, layer_norm
from lib.ops.pointwise import add_relu, capped_sum, concat, gelu, split
from lib.ops.pool import average_pool, max_pool
from lib.ops.resize import resize_bilinear, scale_bilinear, upsample_nearest
from lib.ops.reverse_attention import dsra_gain, gate, reverse_attention
from lib.ops.structure_loss import boundary_weight, structure_loss
from lib.ops.transpose import channels_first, channels_last, swap_last
from lib.ops.updates import BETAS, adam_step, average_step

__all__ = ["BETAS", "Geometry", "adam_step", "add_relu", "attention", "average_pool", "average_step",
           "batch_norm", "boundary_weight", "capped_sum", "channels_first", "channels_last", "class_sums",
           "concat", "conv2d", "dsra_gain", "gate", "gelu", "last_gradients", "layer_norm", "linear",
           "max_pool", "plain_formulas", "resize_bilinear", "reverse_attention", "scale_bilinear",
           "scaled_softmax", "split", "structure_loss", "swap_last", "upsample_nearest", "use_plain_formulas"]

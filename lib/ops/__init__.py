"""Operations whose rounding, reach or speed Jittor's own do not give.

Each is one function, beside the plain formula that it computes; `lib.ops.dispatch` says which one runs.
"""

from lib.ops.attention import attention, scaled_softmax
from lib.ops.autograd import grad_and_release
from lib.ops.conv import Geometry, conv2d
from lib.ops.dispatch import plain_ops, use_plain_ops
from lib.ops.linear import linear
from lib.ops.mutation_sums import mutation_sums
from lib.ops.norm import batch_norm, layer_norm
from lib.ops.pointwise import add_relu, clamped_sum, concat, gelu, split
from lib.ops.pool import average_pool, max_pool
from lib.ops.resize import resize_bilinear, scale_bilinear, upsample_nearest
from lib.ops.reverse_attention import dsra_gain, gate, reverse_attention
from lib.ops.structure_loss import boundary_weight, structure_loss
from lib.ops.transpose import channels_first, channels_last, matrix_transpose
from lib.ops.updates import BETAS, adam_step, ema_step

__all__ = ["BETAS", "Geometry", "adam_step", "add_relu", "attention", "average_pool", "batch_norm",
           "boundary_weight", "channels_first", "channels_last", "clamped_sum", "concat", "conv2d",
           "dsra_gain", "ema_step", "gate", "gelu", "grad_and_release", "layer_norm", "linear",
           "matrix_transpose", "max_pool", "mutation_sums", "plain_ops", "resize_bilinear",
           "reverse_attention", "scale_bilinear", "scaled_softmax", "split", "structure_loss",
           "upsample_nearest", "use_plain_ops"]

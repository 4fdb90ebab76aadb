"""Operations whose rounding, reach or speed Jittor's own do not give."""

from lib.ops.attention import attention
from lib.ops.conv import Geometry, conv2d
from lib.ops.linear import linear
from lib.ops.norm import batch_norm, layer_norm
from lib.ops.pool import average_pool
from lib.ops.resize import resize_bilinear, scale_bilinear

__all__ = ["Geometry", "attention", "average_pool", "batch_norm", "conv2d", "layer_norm", "linear",
           "resize_bilinear", "scale_bilinear"]

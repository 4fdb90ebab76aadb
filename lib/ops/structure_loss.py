"""The losses of a map and their weight by pixel. Sums over pixels are taken in float64."""

from __future__ import annotations

from lib.ops import dispatch, launcher, sizes
from lib.ops.autograd import Function
from lib.ops.pool import average_pool
from utils.runtime.backend import jt


def boundary_weight(mask):
    """1 + 5 |mean over 31x31 - mask|: pixels near a boundary count up to six times (F3Net, AAAI 2020).

    mask is float32 (N,C,H,W); zeros outside count in the mean. No gradient.
    """
    mask = mask.detach()
    if not dispatch.fused():
        return 1.0 + 5.0 * jt.abs(average_pool(mask, 31, stride=1, padding=15) - mask)
    batch, channels, height, width = mask.shape
    call = 'boundary_weight(in0_p, out0_p, out1_p, data["planes"], data["height"], data["width"]);'
    return launcher.run("boundary_weight.cuh", call, [mask], [(mask.shape, "float32")] * 2,
                        {"planes": batch * channels, "height": height, "width": width})[0]


def structure_loss(fg, bg, mask, weight, background_weight: float = 0.0, weighted_bce: bool = True):
    """BCE and weighted IoU of the logits fg on mask, and the weighted BCE of bg, if any, on 1 - mask.

    All float32 (N,C,H,W); gradients reach fg and bg alone. Each plane has its own sums; the result (1,) is
    the mean over them:

        sum(w bce) / sum(w) + 1 - (inter + 1) / (union - inter + 1)
        inter = sum(w p m), union = sum(w (p + m)), p = sigmoid(fg), m = mask

    Without ``weighted_bce`` the foreground's BCE is the plain mean.
    """
    if not dispatch.fused():
        return _plain(fg, bg, mask, weight, background_weight, weighted_bce)
    options = {"background_weight": background_weight, "weighted_bce": weighted_bce, "has_bg": bg is not None}
    # In place of a missing bg any map does; it is not read.
    return _StructureLoss(options)(fg, mask if bg is None else bg, mask, weight)


def _plain(fg, bg, mask, weight, background_weight: float, weighted_bce: bool):
    probability = jt.sigmoid(fg)
    inter, union = _sum(weight * probability * mask), _sum(weight * (probability + mask))
    loss = (_weighted_bce(fg, mask, weight if weighted_bce else jt.ones_like(mask))
            + 1.0 - (inter + 1.0) / (union - inter + 1.0))
    if bg is not None:
        loss += background_weight * _weighted_bce(bg, 1.0 - mask, weight)
    return loss.mean()


def _weighted_bce(logits, mask, weight):
    """(N,C): sum(w * bce) / sum(w)."""
    # max(x,0) - x*z + log(1 + exp(-|x|)) is BCE with logits that neither overflows nor loses digits.
    bce = jt.maximum(logits, 0.0) - logits * mask + jt.log(1.0 + jt.exp(-jt.abs(logits)))
    return _sum(weight * bce) / _sum(weight)


def _sum(x):
    return x.float64().sum([2, 3]).float32()


_MAPS = """
    const bool has_bg = data["has_bg"];
    const Maps maps{in0_p, has_bg ? in1_p : nullptr, in2_p, in3_p, (long)data["planes"], (long)data["size"],
                    (float)data["weighted_bce"], (float)data["background_weight"]};
"""


class _StructureLoss(Function):
    def __init__(self, options: dict[str, float]):
        self.options = options

    def execute(self, fg, bg, mask, weight):
        batch, channels, height, width = fg.shape
        planes, size = batch * channels, height * width
        self.data = {**self.options, "planes": planes, "size": size}
        call = _MAPS + "structure_loss(maps, out0_p, out1_p, out2_p, out3_p);"
        outputs = [((1,), "float32"), ((planes, sizes.LOSS_SLOPES), "float64"), ((planes,), "float64"),
                   ((planes, -(-size // sizes.LOSS_TILE), sizes.LOSS_SUMS), "float64")]
        loss, slopes, *_ = launcher.run("structure_loss.cuh", call, [fg, bg, mask, weight], outputs,
                                        self.data)
        self.saved = fg, bg, mask, weight, slopes
        return loss

    def grad(self, grad):
        call = _MAPS + "structure_loss_grad(maps, in4_p, in5_p, out0_p, out1_p);"
        shape = self.saved[0].shape
        has_bg = self.options["has_bg"]
        outputs = [(shape, "float32"), (shape if has_bg else (1,), "float32")]
        grad_fg, grad_bg = launcher.run("structure_loss.cuh", call, [*self.saved, grad], outputs, self.data)
        return grad_fg, grad_bg if has_bg else None, None, None

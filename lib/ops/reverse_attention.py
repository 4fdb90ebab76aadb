"""The two ways in which a stage looks at what the deeper one found: reverse attention and DSRA's gain."""

from __future__ import annotations

from lib.ops import choice, kernel
from lib.ops.resize import resize_bilinear
from utils.backend import jt


def reverse_attention(guide, feature):
    """(1 - sigmoid(guide)) * feature: what the deeper map has not found (PraNet, MICCAI 2020).

    The guide (N,1,h',w') is resized to the feature (N,C,h,w).
    """
    guide = resize_bilinear(guide, feature.shape[2:])
    if not choice.fused():
        return (1.0 - jt.sigmoid(guide)) * feature
    return _ReverseAttention()(guide, feature)


def dsra_gain(fg, guide_fg, guide_bg, use_softmax: bool = True):
    """Raises a stage's own foreground map by what the deeper stage found: R_f = P_f + P_f * gamma.

    gamma = softmax(up(R_f') - up(R_b')) over the classes (PraNet-V2), or the plain difference.
    fg is (N,num_class,h,w); the guides are the deeper stage's maps (N,num_class,h',w').

    **With one class the softmax is identically 1**: the result is 2 P_f and no gradient reaches the guides.
    That is the published binary network, whose weights rely on it.
    """
    if use_softmax and fg.shape[1] == 1:
        return fg + fg
    guide_fg, guide_bg = (resize_bilinear(guide, fg.shape[2:]) for guide in (guide_fg, guide_bg))
    if not choice.fused():
        difference = guide_fg - guide_bg
        return fg + fg * (jt.nn.softmax(difference, dim=1) if use_softmax else difference)
    return _DsraGain(use_softmax)(fg, guide_fg, guide_bg)


def _sizes(feature) -> dict[str, int]:
    batch, channels, height, width = feature.shape
    return {"batch": batch, "channels": channels, "plane": height * width}


_SIZES = 'data["batch"], data["channels"], data["plane"]'


class _ReverseAttention(jt.Function):
    def execute(self, guide, feature):
        call = f"reverse_attention(in0_p, in1_p, out0_p, out1_p, {_SIZES});"
        result, weights = kernel.run("reverse_attention.cuh", call, [guide, feature],
                                     [(feature.shape, "float32"), (guide.shape, "float32")], _sizes(feature))
        self.saved = weights, feature
        return result

    def grad(self, grad):
        weights, feature = self.saved
        call = f"reverse_attention_gradients(in0_p, in1_p, in2_p, out0_p, out1_p, {_SIZES});"
        grad_feature, grad_guide = kernel.run(
            "reverse_attention.cuh", call, [weights, feature, grad],
            [(feature.shape, "float32"), (weights.shape, "float32")], _sizes(feature))
        return grad_guide, grad_feature


class _DsraGain(jt.Function):
    def __init__(self, use_softmax: bool):
        self.use_softmax = use_softmax

    def execute(self, fg, guide_fg, guide_bg):
        self.data = {**_sizes(fg), "softmax": int(self.use_softmax)}
        call = f'dsra_gain(in0_p, in1_p, in2_p, out0_p, out1_p, {_SIZES}, data["softmax"]);'
        result, gamma = kernel.run("dsra_gain.cuh", call, [fg, guide_fg, guide_bg],
                                   [(fg.shape, "float32")] * 2, self.data)
        self.saved = fg, gamma
        return result

    def grad(self, grad):
        fg, gamma = self.saved
        call = f'dsra_gain_gradients(in0_p, in1_p, in2_p, out0_p, out1_p, {_SIZES}, data["softmax"]);'
        grad_fg, grad_difference = kernel.run("dsra_gain.cuh", call, [fg, gamma, grad],
                                              [(fg.shape, "float32")] * 2, self.data)
        return grad_fg, grad_difference, -grad_difference

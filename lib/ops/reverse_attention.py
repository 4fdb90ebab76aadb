"""What the maps of a deeper stage do to a feature or a map: reverse attention, DSRA's gain, a gate."""

from __future__ import annotations

from lib.ops import dispatch, launcher
from lib.ops.autograd import Function
from lib.ops.resize import resize_bilinear
from utils.runtime.backend import jt


def reverse_attention(guide, feature):
    """The feature times the probability of background in the deeper map.

    The guide (N,num_class,h',w') is resized to the feature (N,C,h,w). With one class the probability is
    1 - sigmoid(guide) (PraNet, MICCAI 2020). With more it is softmax(guide)[0] over the classes, the first of
    which is the background: an extension of ours, which for two classes (0, z) is the published one for z.
    """
    guide = resize_bilinear(guide, feature.shape[2:])
    return gate(_background(guide), feature)


def _background(guide):
    """The logit (N,1,h,w) of the background."""
    if guide.shape[1] == 1:
        return -guide
    background, others = guide[:, :1], guide[:, 1:]
    largest = others.max(1, keepdims=True).detach()
    return background - largest - jt.exp(others - largest).sum(1, keepdims=True).log()


def gate(logits, feature):
    """sigmoid(logits) * feature, the logits (N,1,h,w) being those of every channel of (N,C,h,w)."""
    if not dispatch.fused():
        return jt.sigmoid(logits) * feature
    return _Gate()(logits, feature)


def dsra_gain(fg, guide_fg, guide_bg, gain: str = "softmax"):
    """Raises a stage's own foreground map by the deeper stage's maps: R_f = P_f + P_f * gamma.

    fg is (N,num_class,h,w); the guides are the deeper stage's maps (N,num_class,h',w'), resized to it.
    ``gain`` says what gamma is of their difference up(R_f') - up(R_b'): "softmax" over the classes
    (PraNet-V2), "sigmoid", which is the softmax of foreground against background in each class, or
    "difference", the difference itself.

    **With one class the softmax is identically 1**: the result is 2 P_f and no gradient reaches the guides.
    That is the published binary network, whose weights rely on it. The sigmoid looks at the guides there too.
    """
    if gain == "softmax" and fg.shape[1] == 1:
        return fg + fg
    guide_fg, guide_bg = (resize_bilinear(guide, fg.shape[2:]) for guide in (guide_fg, guide_bg))
    if not dispatch.fused():
        return fg + fg * _GAMMA[gain](guide_fg - guide_bg)
    return _DsraGain(gain)(fg, guide_fg, guide_bg)


_GAMMA = {"softmax": lambda difference: jt.nn.softmax(difference, dim=1), "sigmoid": jt.sigmoid,
          "difference": lambda difference: difference}


def _sizes(feature) -> dict[str, int]:
    batch, channels, height, width = feature.shape
    return {"batch": batch, "channels": channels, "plane": height * width}


_SIZES = 'data["batch"], data["channels"], data["plane"]'


class _Gate(Function):
    def execute(self, logits, feature):
        call = f"gate(in0_p, in1_p, out0_p, out1_p, {_SIZES});"
        outputs = [(feature.shape, "float32"), (logits.shape, "float32")]
        result, weights = launcher.run("gate.cuh", call, [logits, feature], outputs, _sizes(feature))
        self.saved = weights, feature
        return result

    def grad(self, grad):
        weights, feature = self.saved
        call = f"gate_grad(in0_p, in1_p, in2_p, out0_p, out1_p, {_SIZES});"
        grad_feature, grad_logits = launcher.run(
            "gate.cuh", call, [weights, feature, grad],
            [(feature.shape, "float32"), (weights.shape, "float32")], _sizes(feature))
        return grad_logits, grad_feature


class _DsraGain(Function):
    def __init__(self, gain: str):
        self.gamma = f"Gamma::{gain}"

    def execute(self, fg, guide_fg, guide_bg):
        self.data = _sizes(fg)
        call = f"dsra_gain<{self.gamma}>(in0_p, in1_p, in2_p, out0_p, out1_p, {_SIZES});"
        result, gamma = launcher.run("dsra_gain.cuh", call, [fg, guide_fg, guide_bg],
                                     [(fg.shape, "float32")] * 2, self.data)
        self.saved = fg, gamma
        return result

    def grad(self, grad):
        fg, gamma = self.saved
        call = f"dsra_gain_grad<{self.gamma}>(in0_p, in1_p, in2_p, out0_p, out1_p, {_SIZES});"
        grad_fg, grad_difference = launcher.run("dsra_gain.cuh", call, [fg, gamma, grad],
                                                [(fg.shape, "float32")] * 2, self.data)
        return grad_fg, grad_difference, -grad_difference

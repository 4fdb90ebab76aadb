"""What the loss of several classes is made of, for every choice of maps at once."""

from __future__ import annotations

from lib.ops import dispatch, launcher, sizes
from lib.ops.autograd import Function
from utils.runtime.backend import jt


def mutation_sums(fgs: list, bgs: list, labels):
    """Sums over all pixels, for each of the 2^M - 1 choices of at least one of M maps, which are added.

    fgs are M float32 (N,C,H,W), at least one, bgs as many or none, labels int32 (N,H,W) from 0 to C-1. With
    p = softmax of the added fgs over the classes, t = the labels as one of C, x = the added bgs, the result
    is float64 (2^M - 1, 2 + 2 C): in each row, over images and pixels, the sums of

        -log p[label],  BCE of all x on 1 - t (0 without bgs),  p t of each class,  p^2 + t of each class

    The choice of row k takes the maps that k + 1 has the bits of. Gradients reach fgs and bgs. A label that
    is no class makes the first sum NaN. Nothing of the size of the maps is stored but the gradients.
    """
    if not dispatch.fused():
        return _plain(fgs, bgs, labels)
    return _MutationSums(len(fgs), bool(bgs))(*fgs, *bgs, labels)


def _plain(fgs: list, bgs: list, labels):
    rows = []
    here = (jt.arange(fgs[0].shape[1]).reshape(1, -1, 1, 1) == labels.unsqueeze(1)).float32()
    known = jt.ternary(here.sum(1, keepdims=True) > 0.0, 0.0, float("nan"))
    for chosen in range(1, 2 ** len(fgs)):
        logits = _add(fgs, chosen)
        probability = jt.nn.softmax(logits, dim=1)
        entropy = known - (jt.nn.log_softmax(logits, dim=1) * here).sum(1, keepdims=True)
        background = _background(_add(bgs, chosen), here) if bgs else jt.float64([0.0])
        rows.append(jt.concat([_sum(entropy, [0, 1, 2, 3]), background, _sum(probability * here, [0, 2, 3]),
                               _sum(probability * probability + here, [0, 2, 3])]))
    return jt.stack(rows)


def _add(maps: list, chosen: int):
    taken = [each for index, each in enumerate(maps) if chosen >> index & 1]
    return sum(taken[1:], taken[0])


def _background(x, here):
    bce = jt.maximum(x, 0.0) - x * (1.0 - here) + jt.log(1.0 + jt.exp(-jt.abs(x)))
    return _sum(bce, [0, 1, 2, 3])


def _sum(x, axes: list[int]):
    return x.float64().sum(axes).reshape(-1)


class _MutationSums(Function):
    def __init__(self, maps: int, has_bg: bool):
        self.maps, self.has_bg = maps, has_bg

    def execute(self, *inputs):
        batch, classes, height, width = inputs[0].shape
        self.inputs, self.data = inputs, {"batch": batch, "plane": height * width}
        self.template = f"<{self.maps}, {classes}>"
        shape = 2 ** self.maps - 1, sizes.COMMON_SUMS + 2 * classes
        partial = batch * -(-height * width // sizes.MUTATION_TILE), *shape
        call = self._source() + "mutation_sums(maps, out0_p, out1_p);"
        outputs = [(shape, "float64"), (partial, "float64")]
        return launcher.run("mutation_sums.cuh", call, list(inputs), outputs, self.data)[0]

    def grad(self, grad):
        count = len(self.inputs) - 1
        call = self._source() + (f"mutation_sums_grad(MutationGrad{self.template}{{maps, in{count + 1}_p, "
                                 f"{self._pointers('out')}}});")
        outputs = [(self.inputs[0].shape, "float32")] * count
        return *launcher.run("mutation_sums.cuh", call, [*self.inputs, grad], outputs, self.data), None

    def _source(self) -> str:
        labels = f"in{len(self.inputs) - 1}_p"
        return (f"const MutationMaps{self.template} maps{{{self._pointers('in')}, {labels}, "
                '(long)data["batch"], (long)data["plane"]};\n')

    def _pointers(self, name: str) -> str:
        """Those of the fgs, then of the bgs."""
        lists = [", ".join(f"{name}{index}_p" for index in range(start, start + self.maps))
                 for start in (0, self.maps)]
        return f"{{{lists[0]}}}, {{{lists[1] if self.has_bg else ''}}}"

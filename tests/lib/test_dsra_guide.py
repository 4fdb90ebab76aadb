"""The code of docs/dsra.md, as it stands there."""

from __future__ import annotations

import re

import numpy as np

from tests.helpers.paths import ROOT

GUIDE = ROOT / "docs" / "dsra.md"


def test_the_guides_network_trains_and_looks_at_its_guides():
    code, = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    namespace: dict = {}
    exec(compile(code, str(GUIDE), "exec"), namespace)
    network, fgs, bgs, jt = (namespace[name] for name in ("network", "fgs", "bgs", "jt"))
    assert [tuple(each.shape) for each in (*fgs, *bgs)] == [(2, 4, 64, 64)] * 8

    first, second = network.stages[0], network.stages[1]
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    fgs, bgs = network(jt.randn(2, 3, 64, 64))
    guide_weights = [first.fg.conv.weight, first.bg.conv.weight]
    for gradient in jt.grad(fgs[1].sum(), guide_weights):  # of the second stage, by the maps of the first
        assert np.abs(gradient.numpy()).max() > 0
    labels = namespace["labels"]
    namespace["optimizer"].step(sum(namespace["losses"].mutation_loss(fgs, bgs, labels)), lr=1e-4)
    for weight in (*guide_weights, second.fg.conv.weight, network.encoder.stages[0].embedding.proj.weight):
        name = next(name for name, value in network.state_dict().items() if value is weight)
        assert not np.array_equal(weight.numpy(), before[name]), name

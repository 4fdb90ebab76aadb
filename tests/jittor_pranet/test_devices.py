"""What must be the same on CPU and GPU, each in a process of its own."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.networks import seeded_network
from tests.jittor_pranet.test_programs import SIZE, run, write_set
from utils.checkpoint import save_weights
from utils.data.image_io import read_grey


@pytest.mark.gpu
@pytest.mark.parametrize("network", ["PraNet-V2", "PVT-PraNet-V2"])
def test_maps_of_both_devices_are_the_same_to_one_grey_level(tmp_path, network, on_cuda):
    write_set(tmp_path / "tests" / "One", 3)
    save_weights(seeded_network(network), tmp_path / "drawn.npz", {"model_type": network})
    for device in ("cpu", "cuda"):
        run("test", "--weights", "drawn.npz", "--test_path", "tests", "--save_path", device,
            "--testsize", SIZE, "--bs", 2, "--device", device, cwd=tmp_path)
    maps = sorted((tmp_path / "cpu").rglob("*.png"))
    assert len(maps) == 3
    for path in maps:
        on_cpu, on_gpu = (np.asarray(read_grey(file), int) for file in
                          (path, tmp_path / "cuda" / path.relative_to(tmp_path / "cpu")))
        assert np.abs(on_cpu - on_gpu).max() <= 1

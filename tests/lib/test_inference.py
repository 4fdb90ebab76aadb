"""A trained network as a function of images: what it takes, what it gives, and a device that is too small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.compare import assert_close
from tests.helpers.networks import seeded_network
from tests.helpers.paths import ROOT
from utils.checkpoint import read_checkpoint, save_arrays, save_weights
from utils.data.polyps import normalise
from utils.data.synthetic import deterministic
from utils.errors import BadFile, UserError
from utils.runtime.backend import jt
from utils.runtime.memory import is_device_full

NAME, SIZE = "PVT-PraNet-V2", 64
# As Jittor's allocator raises it, when it is asked for a variable and when in the middle of an operation.
FULL = ("[f 1123 10:00:00.000000 00 cuda_device_allocator.cc:31] Unable to alloc cuda device memory for size "
        "4294967296")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "last.npz"
    save_weights(seeded_network(NAME), path, {"model_type": NAME})
    return path


@pytest.fixture(scope="module")
def segmenter(weights):
    from lib import PolypSegmenter

    return PolypSegmenter(weights, size=SIZE)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    values = deterministic.images(1, 80)[0].transpose(1, 2, 0) * 40 + 120
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).crop((0, 0, 80, 50))


def test_every_form_of_an_image_gives_the_same_probabilities(segmenter, picture, tmp_path):
    picture.save(tmp_path / "frame.png")
    maps = [segmenter.predict(form) for form in (picture, np.asarray(picture), tmp_path / "frame.png",
                                                 str(tmp_path / "frame.png"), picture.convert("RGBA"))]
    assert maps[0].shape == (50, 80) and maps[0].dtype == np.float32
    assert 0 <= maps[0].min() < maps[0].max() <= 1
    for each in maps[1:]:
        np.testing.assert_array_equal(each, maps[0])


def test_a_checkpoint_that_is_read_already_gives_the_same_network(weights, segmenter, picture):
    checkpoint = read_checkpoint(weights)
    again = type(segmenter)(checkpoint, size=SIZE)
    assert again.model_type == NAME
    np.testing.assert_array_equal(again.predict(picture), segmenter.predict(picture))
    with pytest.raises(UserError, match=r"last\.npz: does not fit"):
        type(segmenter)(checkpoint, "PVT-PraNet-V1", size=SIZE)


def test_flips_average_the_mirror_images(weights, segmenter, picture):
    from lib import PolypSegmenter

    flipping = PolypSegmenter(weights, size=SIZE, flips=True)
    image, mean = normalise(picture, SIZE), 0
    for axes in ((), (1,), (2,), (1, 2)):
        mirrored, = segmenter.maps(np.flip(image, axes)[None].copy(), [(SIZE, SIZE)])
        odds = np.log(mirrored.astype(np.float64) / (1 - mirrored.astype(np.float64)))
        mean = mean + np.flip(odds, (axis - 1 for axis in axes) if axes else ()) / 4
    found, = flipping.maps(image[None], [(SIZE, SIZE)])
    assert_close(found, 1 / (1 + np.exp(-mean)), "float32")
    mirrored, = flipping.maps(image[None, :, :, ::-1].copy(), [(SIZE, SIZE)])
    assert_close(mirrored[:, ::-1], found, "float32", "a mirrored image has the mirrored map")


class SmallDevice:
    """A network on a device that holds ``most`` images at a time; its map is the first channel."""

    def __init__(self, most: int):
        self.most, self.tried = most, []

    def __call__(self, images):
        self.tried.append(images.shape[0])
        if images.shape[0] > self.most:
            raise RuntimeError(FULL)
        return [images[:, :1]]

    def final_logits(self, maps):
        return maps[0]


@pytest.fixture
def small(segmenter, monkeypatch):
    def make(most: int) -> SmallDevice:
        device = SmallDevice(most)
        monkeypatch.setattr(segmenter, "model", device)
        monkeypatch.setattr(segmenter, "max_batch", sys.maxsize)
        return device

    return make


def test_a_full_device_halves_the_batch_says_so_and_loses_nothing(segmenter, small, capsys):
    images = deterministic.images(11, SIZE)
    device = small(3)
    maps = list(segmenter.maps(images, [(SIZE, SIZE)] * 11))
    assert device.tried == [11, 5, 2, 2, 2, 2, 2, 1]
    for found, image in zip(maps, images):
        assert_close(found, 1 / (1 + np.exp(-image[0].astype(np.float64))), "float32")
    assert capsys.readouterr().err.splitlines() == [
        "the device's memory does not hold 11 images at a time; going on with 5",
        "the device's memory does not hold 5 images at a time; going on with 2"]
    list(segmenter.maps(images[:4], [(SIZE, SIZE)] * 4))
    assert device.tried[-2:] == [2, 2], "it is not tried again"


def test_an_image_whose_logits_are_not_finite_is_named(segmenter, small, picture, tmp_path):
    images = deterministic.images(5, SIZE)
    images[1, 0, 3, 4], images[3, 0, 0, 0] = np.nan, np.inf
    small(2)
    names, sizes = [f"{letter}.png" for letter in "abcde"], [(SIZE, SIZE)] * 5
    outcomes = list(segmenter.try_maps(images, sizes, names=names))
    assert [isinstance(each, BadFile) for each in outcomes] == [False, True, False, True, False]
    assert [str(outcomes[index]).split(":")[0] for index in (1, 3)] == ["b.png", "d.png"]
    with pytest.raises(BadFile, match=r"b\.png: what the network gives for it is not finite"):
        list(segmenter.maps(images, sizes, names=names))
    with pytest.raises(BadFile, match=r"image 2 of 5: what the network gives"):
        list(segmenter.maps(images, sizes))


def test_a_picture_whose_logits_are_not_finite_is_no_map(segmenter, picture, monkeypatch, tmp_path):
    monkeypatch.setattr(segmenter, "_logits", lambda images: images[:, :1] * float("nan"))
    picture.save(tmp_path / "frame.png")
    with pytest.raises(BadFile, match=r"frame\.png: what the network gives"):
        segmenter.predict(tmp_path / "frame.png")
    with pytest.raises(BadFile, match="the image: what the network gives"):
        segmenter.predict(picture)


def test_weights_that_are_not_finite_make_no_segmenter(tmp_path):
    from lib import PolypSegmenter

    arrays = {name: value.numpy() for name, value in seeded_network(NAME).state_dict().items()}
    name = next(each for each in arrays if each.endswith("running_var"))
    save_arrays({**arrays, name: -arrays[name] - 1}, tmp_path / "w.npz", {"model_type": NAME})
    with pytest.raises(UserError, match=rf"w\.npz: {name} is a variance below 0"):
        PolypSegmenter(tmp_path / "w.npz")


def test_a_device_too_small_for_one_image_is_a_mistake_to_mend(segmenter, small):
    small(0)
    with pytest.raises(UserError, match="does not hold one image at 64x64 pixels; take a smaller --testsize"):
        list(segmenter.maps(deterministic.images(2, SIZE), [(SIZE, SIZE)] * 2))


def test_other_errors_are_not_taken_for_a_full_device(segmenter, monkeypatch):
    def broken(images):
        raise RuntimeError("shape not match")

    monkeypatch.setattr(segmenter, "_logits", broken)
    with pytest.raises(RuntimeError, match="shape not match"):
        list(segmenter.maps(deterministic.images(2, SIZE), [(SIZE, SIZE)] * 2))
    assert is_device_full(RuntimeError("Execute fused operator(3/9) failed. [Reason]: CUDA error at x.cc:9  "
                                       "code=2( cudaErrorMemoryAllocation ) cudaMalloc(&ptr, size)"))
    assert is_device_full(RuntimeError("Failed reason: mem_info.cc:272\n***\nGPU memory is overflow, please "
                                       "reduce your batch_size or data size!"))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"weights": "gone.npz"}, "gone.npz: cannot be read"),
    ({"size": 100}, "96 or 128 would do"),
    ({"model_type": "PraNet-V3"}, "the known ones are PraNet-V1"),
    ({"model_type": "PVT-PraNet-V1"}, "those of PVT-PraNet-V2, the model is PVT-PraNet-V1"),
])
def test_mistakes_are_named(weights, arguments, message):
    from lib import PolypSegmenter

    with pytest.raises(UserError, match=message):
        PolypSegmenter(**{"weights": weights, **arguments})


@pytest.mark.parametrize("said", [None, 3, ["PraNet-V2"], "PraNet-V9"])
def test_weights_that_do_not_tell_their_network_are_named(tmp_path, said):
    from lib.inference import network_of

    save_arrays({"a": np.zeros(1)}, tmp_path / "w.npz", {"model_type": said})
    with pytest.raises(UserError, match=r"give --model_type|the known ones"):
        network_of(read_checkpoint(tmp_path / "w.npz"))


def test_the_five_lines_of_the_readme_run_from_another_folder(weights, picture, segmenter, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code, = [block for block in blocks if "PolypSegmenter" in block]
    assert len([line for line in code.splitlines() if line.strip()]) == 5
    (tmp_path / "runs" / "v2").mkdir(parents=True)
    (tmp_path / "runs" / "v2" / "best.npz").symlink_to(weights)
    picture.save(tmp_path / "frame.png")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (50, 80) and set(np.unique(mask)) <= {0, 255}
    segmenter_352 = type(segmenter)(weights)
    np.testing.assert_array_equal(mask, 255 * (segmenter_352.predict(picture) > 0.5))


def test_the_size_is_that_of_the_training_or_the_published_one(tmp_path, weights, picture, segmenter, capsys):
    from lib import PolypSegmenter

    save_weights(seeded_network(NAME), tmp_path / "w.npz", {"model_type": NAME, "trainsize": SIZE})
    trained = PolypSegmenter(tmp_path / "w.npz")
    assert trained.size == SIZE and str(trained.usage) == "at 64 pixels as trained"
    np.testing.assert_array_equal(trained.predict(picture), segmenter.predict(picture))
    assert PolypSegmenter(weights).size == 352
    assert not capsys.readouterr().err
    assert PolypSegmenter(tmp_path / "w.npz", size=96).size == 96
    assert capsys.readouterr().err == "warning: --testsize 96: the weights were trained at 64 pixels\n"


def test_the_device_is_the_one_in_use(segmenter):
    assert segmenter.device == ("cuda" if jt.flags.use_cuda else "cpu")

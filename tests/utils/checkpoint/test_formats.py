"""Files of weights: every supported format bit for bit, and files that are not weights, or no longer."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.small_weights import (
    Model,
    assert_same,
    jittor_bytes,
    odd_arrays,
    sample_files,
    some_arrays,
    zeros_like,
)
from utils.checkpoint import load_weights, read_checkpoint, read_info, read_weights, save_weights
from utils.errors import UserError

# ---- Files of PyTorch ----


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(params=["zip", "legacy"])
def torch_save(request, torch):
    def save(content, path):
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return save


def torch_net(torch, seed):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    net(torch.randn(5, 3, 3, 3))  # running statistics of its own
    return net


def as_arrays(state):
    return {name: tensor.detach().numpy() for name, tensor in state.items()}


def test_torch_state_dict(torch, torch_save, tmp_path):
    state = torch_net(torch, 1).state_dict()
    arrays = read_weights(torch_save(state, tmp_path / "net.pth"))
    assert_same(arrays, as_arrays(state))
    assert all(array.flags.writeable and array.flags.c_contiguous for array in arrays.values())


def test_torch_views(torch, torch_save, tmp_path):
    base = torch.arange(60.0).reshape(3, 4, 5)
    views = {
        "whole": base,
        "transposed": base.permute(2, 0, 1),
        "offset": base[1:, 2:, 3],
        "stepped": base[::2, :, ::3],
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "scalar": base[2, 3, 4],
        "empty": base[:0],
        "parameter": torch.nn.Parameter(base[1]),
    }
    assert_same(read_weights(torch_save(views, tmp_path / "views.pth")), as_arrays(views))


def test_torch_types(torch, torch_save, tmp_path):
    names = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
    state = {name: torch.tensor([0, 1, 7]).to(getattr(torch, name)) for name in names}
    assert_same(read_weights(torch_save(state, tmp_path / "types.pth")), as_arrays(state))


def test_torch_bfloat16_is_widened(torch, torch_save, tmp_path):
    tensor = torch.tensor([1.0, -3.140625, 1e-40, float("inf"), 65280.0]).bfloat16()
    arrays = read_weights(torch_save({"a": tensor}, tmp_path / "bf16.pth"))
    assert_same(arrays, {"a": tensor.float().numpy()})


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_torch_wrapped(torch, torch_save, tmp_path, key):
    net = torch_net(torch, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 3, "best": np.float64(0.9), "done": False, "rates": [1e-4, 1e-5],
        "optimizer": optimizer.state_dict(),
        key: OrderedDict((f"module.{name}", tensor) for name, tensor in net.state_dict().items()),
    }
    assert_same(read_weights(torch_save(content, tmp_path / "last.pth")), as_arrays(net.state_dict()))


def test_module_prefix_stays_unless_all_have_it(torch, torch_save, tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert list(read_weights(torch_save(state, tmp_path / "mixed.pth"))) == ["module.a", "b"]


def test_content_decides_not_the_name(torch, torch_save, tmp_path):
    assert list(read_weights(torch_save({"a": torch.ones(1)}, tmp_path / "weights.npz"))) == ["a"]


def test_round_trip_through_torch(torch, torch_save, tmp_path):
    """torch.save -> load -> save -> PyTorch's strict load, in the one line that the README gives."""
    net, other = torch_net(torch, 3), torch_net(torch, 4)
    arrays = as_arrays(net.state_dict())
    model = Model(zeros_like({name: a for name, a in arrays.items() if "num_batches_tracked" not in name}))
    load_weights(model, torch_save(net.state_dict(), tmp_path / "net.pth"))
    path = tmp_path / "last.npz"
    save_weights(model, path, {"seed": 1})
    other.load_state_dict({k: torch.from_numpy(v) for k, v in np.load(path).items()}, strict=True)
    for (name, ours), theirs in zip(other.state_dict().items(), arrays.values()):
        if "num_batches_tracked" not in name:
            np.testing.assert_array_equal(ours.numpy(), theirs, err_msg=name, strict=True)


def test_whole_torch_module_is_refused(torch, torch_save, tmp_path):
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.container\.Sequential|outside its pickle"):
        read_weights(torch_save(torch_net(torch, 5), tmp_path / "module.pth"))


def test_expanded_torch_tensor_is_refused(torch, torch_save, tmp_path):
    with pytest.raises(UserError, match=r"shape \(1000, 3\) in a storage of 3 elements"):
        read_weights(torch_save({"a": torch.ones(3).expand(1000, 3)}, tmp_path / "expanded.pth"))


# ---- Files of Jittor, pickles and NumPy's ----


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("encode", [jittor_bytes, pickle.dumps])
def test_pickled_arrays(tmp_path, encode, protocol):
    arrays = odd_arrays()
    path = tmp_path / "net.pkl"
    path.write_bytes(encode({"model": arrays, "score": np.float32(1)}, protocol=protocol))
    assert_same(read_weights(path), arrays)


def test_pickle_names_of_numpy_2(tmp_path):
    raw = pickle.dumps(some_arrays(), 3).replace(b"cnumpy.core.", b"cnumpy._core.")
    assert b"cnumpy._core.multiarray" in raw
    (tmp_path / "net.pkl").write_bytes(raw)
    assert_same(read_weights(tmp_path / "net.pkl"), some_arrays())


def test_jittor_checksum(tmp_path):
    raw = bytearray(jittor_bytes(some_arrays()))
    raw[len(raw) // 2] ^= 1
    path = tmp_path / "net.pkl"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"net\.pkl: is damaged: its checksum does not match"):
        read_weights(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    arrays = odd_arrays()
    save(tmp_path / "net.npz", **arrays)
    assert_same(read_weights(tmp_path / "net.npz"), arrays)

# ---- Files that are not weights, or no longer ----


OTHER_FILES = {
    "is empty": b"",
    "begins with b'<!DOCTYPE html>'": b"<!DOCTYPE html><html>",
    "holds a list, not arrays by name": pickle.dumps([1, 2]),
    "holds no arrays": pickle.dumps({}),
    "holds 'epoch', a int, where an array is expected": pickle.dumps({"epoch": 3}),
    "not a printable name": pickle.dumps({"a\nb": np.zeros(1)}),
    "key is not": pickle.dumps({3: np.zeros(1)}),
    "big-endian": pickle.dumps({"a": np.zeros(2, ">f4")}),
    "NumPy type other than": pickle.dumps({"a": np.zeros(2, "c8")}),
    "other than plain": pickle.dumps({"a": np.array([None])}),
    "than plain numbers": pickle.dumps({"a": np.zeros(2, "f4,i4")}),
    "pickle them with protocol 4": pickle.dumps({"a": np.zeros(200)}, 2),
    "a dictionary key that is a tuple": pickle.dumps({(1, 2): np.zeros(1)}),
}


@pytest.mark.parametrize("message", OTHER_FILES)
def test_other_files(tmp_path, message):
    path = tmp_path / "net.pth"
    path.write_bytes(OTHER_FILES[message])
    with pytest.raises(UserError) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_and_special_files(tmp_path):
    absent, pipe = tmp_path / "no.pth", tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, message in [(absent, "No such file"), (tmp_path, "folder"), (pipe, "device")]:
        for read in (read_weights, read_info, read_checkpoint):
            with pytest.raises(UserError, match=message):
                read(path)


def test_truncated_files(tmp_path):
    for path in sample_files(tmp_path):
        whole = path.read_bytes()
        assert read_weights(path)
        lengths = {*range(0, len(whole), 7), *range(len(whole) - 30, len(whole))}
        if path.suffix == ".pkl":
            lengths.discard(len(whole) - 28)  # a pickle without its checksum is whole again
        for length in sorted(lengths):
            path.write_bytes(whole[:length])
            with pytest.raises(UserError):
                read_weights(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_raise_or_read(tmp_path, data):
    """Whatever bits flip, nothing but a UserError comes out; where a format has a checksum, always one."""
    files = sample_files(tmp_path)
    path = data.draw(st.sampled_from(files))
    whole = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4, unique=True)):
        whole[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    try:
        arrays = read_weights(path)
    except UserError:
        return
    assert path.name != "a.pkl"
    assert all(isinstance(array, np.ndarray) for array in arrays.values())

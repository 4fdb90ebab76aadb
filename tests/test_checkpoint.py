"""Weights: every supported file bit for bit, the rules of what has to fit, and files that mean harm."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from utils.checkpoint import (
    Mismatch,
    class_count,
    load_encoder_weights,
    load_weights,
    read_info,
    read_weights,
    save_weights,
)
from utils.errors import UserError


class Variable:
    """What the loader uses of a Jittor Var, which has a list for a shape and a name for a type."""

    def __init__(self, array):
        self.array = np.array(array)

    @property
    def shape(self):
        return list(self.array.shape)

    @property
    def dtype(self):
        return self.array.dtype.name

    def numpy(self):
        return self.array

    def update(self, array):
        assert array.shape == self.array.shape and array.dtype == self.array.dtype
        self.array = array


class Model:
    def __init__(self, arrays, optional_keys=None):
        self.variables = {name: Variable(array) for name, array in arrays.items()}
        if optional_keys is not None:
            self.optional_keys = optional_keys

    def state_dict(self):
        return self.variables

    @property
    def arrays(self):
        return {name: variable.array for name, variable in self.variables.items()}


def some_arrays(seed=0):
    draw = np.random.default_rng(seed)
    return {
        "conv1.weight": draw.standard_normal((4, 3, 3, 3), np.float32),
        "bn1.running_var": draw.random(4, np.float32),
        "fc.bias": draw.standard_normal(2, np.float32),
    }


def odd_arrays():
    return {
        **some_arrays(),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.array(3),
        "empty": np.zeros((0, 3), np.int8),
    }


def zeros_like(arrays):
    return {name: np.zeros_like(array) for name, array in arrays.items()}


def assert_same(found, expected):
    """Same names in the same order; same types, shapes and bits."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


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


# ---- Files of Jittor, pickles and our own ----


def jittor_bytes(content, protocol=4):
    """What `jittor.save` writes to a .pkl."""
    raw = pickle.dumps(content, protocol)
    return raw + hashlib.sha1(raw).digest() + b"HCAJSLHD"


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


def test_saved_file(tmp_path):
    first, again = tmp_path / "new" / "last.npz", tmp_path / "again.npz"
    info = {"seed": 7, "config": {"lr": 1e-4, "sizes": [0.75, 1, 1.25], "model": "PraNet-V2"}}
    save_weights(Model(some_arrays()), first, info)
    save_weights(Model(some_arrays()), again, info)
    assert_same(read_weights(first), some_arrays())
    assert_same(dict(np.load(first)), some_arrays())
    assert read_info(first) == info
    assert first.read_bytes() == again.read_bytes()


def test_info_is_optional(tmp_path):
    save_weights(Model(some_arrays()), tmp_path / "last.npz")
    assert read_info(tmp_path / "last.npz") == {}
    (tmp_path / "net.pkl").write_bytes(jittor_bytes(some_arrays()))
    assert read_info(tmp_path / "net.pkl") == {}


def test_info_too_long(tmp_path):
    with pytest.raises(ValueError, match="at most 65535 fit"):
        save_weights(Model(some_arrays()), tmp_path / "last.npz", {"log": "x" * 65536})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("comment", [b"\xff", b"hello", b"[1]", b"[" * 60000])
def test_info_of_another_kind(tmp_path, comment):
    with zipfile.ZipFile(tmp_path / "last.npz", "w") as archive:
        archive.comment = comment
    with pytest.raises(UserError, match=r"last\.npz"):
        read_info(tmp_path / "last.npz")


def test_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.npz"
    save_weights(Model(some_arrays()), path)
    with pytest.raises(ValueError):
        save_weights(Model({"a": np.zeros(3), "b": np.array([object()])}), path)
    assert_same(read_weights(path), some_arrays())
    assert list(tmp_path.iterdir()) == [path]


# ---- What has to fit ----


def test_load_sets_everything():
    model = Model(zeros_like(some_arrays()))
    assert load_weights(model, some_arrays()) == Mismatch()
    assert_same(model.arrays, some_arrays())


def test_load_converts_to_the_models_types():
    model = Model({"a": np.zeros(2, np.float32), "n": np.zeros(1, np.int32)})
    load_weights(model, {"a": np.array([1.5, 2.5]), "n": np.array(3)})
    assert_same(model.arrays, {"a": np.array([1.5, 2.5], np.float32), "n": np.array([3], np.int32)})


def misfit():
    model = Model({**zeros_like(some_arrays()), "lost": np.zeros(1), "fc.bias": np.zeros(3)})
    return model, {**some_arrays(), **{f"odd{i}": np.zeros(1) for i in range(6)}}


def test_strict_names_all_that_does_not_fit_and_loads_nothing():
    model, weights = misfit()
    before = {name: array.copy() for name, array in model.arrays.items()}
    with pytest.raises(UserError) as caught:
        load_weights(model, weights)
    assert str(caught.value) == (
        "the given weights: does not fit the model; give weights that were saved from the same network "
        "(1 missing: lost; 6 unexpected: odd0, odd1, odd2, ...; "
        "1 of another shape: fc.bias (2,) instead of (3,))"
    )
    assert_same(model.arrays, before)


def test_not_strict_loads_what_fits():
    model, weights = misfit()
    mismatch = load_weights(model, weights, strict=False)
    assert mismatch == Mismatch(("lost",), tuple(f"odd{i}" for i in range(6)), {"fc.bias": ((2,), (3,))})
    np.testing.assert_array_equal(model.arrays["conv1.weight"], weights["conv1.weight"])
    np.testing.assert_array_equal(model.arrays["fc.bias"], np.zeros(3))


def test_step_counters_are_passed_over():
    model = Model(zeros_like(some_arrays()))
    load_weights(model, {**some_arrays(), "bn1.num_batches_tracked": np.array(9)})
    assert_same(model.arrays, some_arrays())


@pytest.mark.parametrize("optional", [("fc.",), ("conv.", "fc.")])
def test_optional_names_may_be_absent(optional):
    initial = {**zeros_like(some_arrays()), "fc.bias": np.full(2, 5, np.float32)}
    weights = {name: array for name, array in some_arrays().items() if name != "fc.bias"}
    model = Model(initial, optional)
    load_weights(model, weights)
    assert_same(model.arrays, {**some_arrays(), "fc.bias": initial["fc.bias"]})
    load_weights(model, some_arrays())
    assert_same(model.arrays, some_arrays())
    with pytest.raises(UserError, match=r"1 of another shape: fc\.bias \(7,\) instead of \(2,\)"):
        load_weights(model, {**weights, "fc.bias": np.zeros(7)})


def test_optional_names_are_none_by_default():
    weights = {name: array for name, array in some_arrays().items() if name != "fc.bias"}
    with pytest.raises(UserError, match=r"1 missing: fc\.bias"):
        load_weights(Model(some_arrays()), weights)


def test_encoder_passes_over_the_classifier():
    arrays = {"patch_embed1.proj.weight": np.ones((2, 3), np.float32)}
    encoder = Model(zeros_like(arrays))
    load_encoder_weights(encoder, {**arrays, "head.weight": np.ones(3), "head.bias": np.ones(1)})
    assert_same(encoder.arrays, arrays)
    with pytest.raises(UserError, match="1 unexpected: norm"):
        load_encoder_weights(encoder, {**arrays, "norm": np.ones(1)})
    with pytest.raises(UserError, match=r"1 unexpected: head\.bias"):
        load_weights(encoder, {**arrays, "head.bias": np.ones(1)})


@pytest.mark.parametrize("found, wanted, names, model_names", [
    ("PraNet-V1", "PraNet-V2", ["resnet.conv1.0.weight"], ["backbone.conv1.0.weight"]),
    ("PVT-PraNet-V2", "PVT-PraNet-V1", ["backbone.patch_embed1.proj.weight", "agg1.conv5_fg.weight"],
     ["backbone.patch_embed1.proj.weight", "agg1.conv5.weight"]),
    ("a bare Res2Net encoder", "PraNet-V1", ["conv1.0.weight"], ["resnet.conv1.0.weight"]),
    ("EMCAD-B2-DSRA", "EMCAD-B2", ["out_head1.weight", "decoder.ConvBlock1_fg.conv.weight"],
     ["out_head1.weight", "decoder.sab.conv.weight"]),
    ("a bare PVTv2 encoder", "another", ["patch_embed1.proj.weight"], ["weight"]),
])
def test_weights_of_another_network_are_recognised(found, wanted, names, model_names):
    model = Model({name: np.zeros(1) for name in model_names})
    with pytest.raises(UserError, match=f"weights are those of {found}, the model is {wanted}: choose"):
        load_weights(model, {name: np.zeros(1) for name in names})


@pytest.mark.parametrize(("weights", "classes"), [
    ({"agg1.conv5_fg.bias": np.zeros(4)}, 4),
    ({"out_head1.bias": np.zeros(9), "conv.0.bias": np.zeros(3)}, 9), ({"conv.0.bias": np.zeros(3)}, None),
    ({"agg1.conv5.bias": np.float32(0)}, None)])
def test_classes_are_counted(weights, classes):
    assert class_count(weights) == classes


# ---- With Jittor itself ----


@pytest.fixture(scope="module")
def jt():
    from utils.backend import jt

    return jt


def jittor_net(jt):
    return jt.nn.Sequential(jt.nn.Conv(3, 4, 3), jt.nn.BatchNorm(4), jt.nn.Linear(4, 2))


def test_jittor_files(jt, tmp_path):
    net = jittor_net(jt)
    expected = {name: variable.numpy() for name, variable in net.state_dict().items()}
    jt.save(net.state_dict(), str(tmp_path / "variables.pkl"))
    jt.save({"model": net.state_dict(to="numpy"), "epoch": 3}, str(tmp_path / "arrays.pkl"))
    for path in sorted(tmp_path.iterdir()):
        assert_same(read_weights(path), expected)


def test_jittor_torch_file(jt, torch, tmp_path):
    """`jittor.save` to a .pth needs PyTorch and writes a dialect of its own: numbers for storage keys."""
    net = jittor_net(jt)
    jt.save(net.state_dict(), str(tmp_path / "net.pth"))
    assert_same(read_weights(tmp_path / "net.pth"), {n: v.numpy() for n, v in net.state_dict().items()})


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loading_keeps_what_a_jittor_variable_is(jt, mode):
    net = jittor_net(jt)
    getattr(net, mode)()
    variables = net.state_dict()
    before = {name: (v.shape, v.dtype, v.requires_grad, v.name()) for name, v in variables.items()}
    weights = {name: v.numpy().astype(np.float64) + 1 for name, v in variables.items()}
    load_weights(net, weights)
    assert {name: (v.shape, v.dtype, v.requires_grad, v.name()) for name, v in variables.items()} == before
    assert_same({n: v.numpy() for n, v in variables.items()}, {n: a.astype("f4") for n, a in weights.items()})


def test_jittor_round_trip(jt, tmp_path):
    net, other = jittor_net(jt), jittor_net(jt)
    save_weights(net, tmp_path / "last.npz")
    load_weights(other, tmp_path / "last.npz")
    found = {name: variable.numpy() for name, variable in other.state_dict().items()}
    assert_same(found, {name: variable.numpy() for name, variable in net.state_dict().items()})


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
        for read in (read_weights, read_info):
            with pytest.raises(UserError, match=message):
                read(path)


def test_objects_in_npz(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([Mkdir()]))
    with pytest.raises(UserError, match="an array of object"):
        read_weights(tmp_path / "a.npz")


def whole_files(tmp_path):
    """One small file of each format."""
    save_weights(Model(some_arrays()), tmp_path / "a.npz")
    (tmp_path / "a.pkl").write_bytes(jittor_bytes(some_arrays()))
    storages = {"0": np.arange(6, dtype="<f4").tobytes()}
    torch_zip(tmp_path / "zip.pth", state_pickle(), storages)
    (tmp_path / "legacy.pth").write_bytes(torch_legacy(state_pickle(), storages))
    return sorted(tmp_path.iterdir())


def test_truncated_files(tmp_path):
    for path in whole_files(tmp_path):
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
    files = whole_files(tmp_path)
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


# ---- Files that mean harm ----


class Mkdir:
    """Unpickles as a call of os.mkdir."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def call(module, name, *arguments):
    """Opcodes that call module.name with these strings."""
    return f"c{module}\n{name}\n(".encode() + b"".join(map(text, arguments)) + b"tR"


def number(value):
    raw = pickle.encode_long(value) or b"\0"
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape, strides, offset=0, size=6, kind="torch\nFloatStorage", key="0", last=b""):
    """Opcodes of a PyTorch tensor over the storage ``key``; ``last`` are those of one more argument."""
    storage = [b"(", text("storage"), f"c{kind}\n".encode(), text(key), text("cpu"), number(size), b"tQ"]
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = [*storage, number(offset), numbers(shape), numbers(strides), b"\x89", hooks, last]
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"".join(arguments) + b"tR"


def state_pickle(content=None):
    """A pickle of {'a': content}."""
    return b"\x80\x02}" + text("a") + (content or tensor((2, 3), (3, 1))) + b"s."


def torch_zip(path, data, storages, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("net/data.pkl", data)
        for key, raw in storages.items():
            archive.writestr(f"net/data/{key}", raw)
        for name, raw in members.items():
            archive.writestr(f"net/{name}", raw)
    return path


def torch_legacy(data, storages, little_endian=True):
    system = {"protocol_version": 1001, "little_endian": little_endian}
    before = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    after = b"".join(struct.pack("<q", len(raw) // 4) + raw for raw in storages.values())
    return b"".join(before) + data + pickle.dumps(list(storages), 2) + after


def signed(raw):
    return raw + hashlib.sha1(raw).digest() + b"HCAJSLHD"


CONTAINERS = {
    "zip": lambda path, data: torch_zip(path, data, {}),
    "legacy": lambda path, data: path.write_bytes(torch_legacy(data, {})),
    "jittor": lambda path, data: path.write_bytes(signed(data)),
    "plain": lambda path, data: path.write_bytes(data),
}
NESTED = pickle.dumps(Mkdir(), 2)
# Each makes the folder `harm` if pickle.loads reads it.
LIVE = {
    "reduce": pickle.dumps({"a": Mkdir()}, 2),
    "stack_global": pickle.dumps({"a": Mkdir()}, 4),
    "eval": state_pickle(call("builtins", "eval", "__import__('os').mkdir('harm')")),
    "eval of Python 2": state_pickle(call("__builtin__", "eval", "__import__('os').mkdir('harm')")),
    "numpy": state_pickle(b"cnumpy.testing\nrunstring\n" + text("import os; os.mkdir('harm')") + b"}\x86R"),
    "name of a name": b"\x80\x04" + text("shutil") + text("os.mkdir") + b"\x93" + text("harm") + b"\x85R.",
    "inst": b"\x80\x02(" + text("harm") + b"ios\nmkdir\n.",
    "obj": b"\x80\x02(cos\nmkdir\n" + text("harm") + b"o.",
    "pickle in pickle": b"\x80\x03cpickle\nloads\nC" + bytes([len(NESTED)]) + NESTED + b"\x85R.",
}
# Live under other circumstances, or steps on the way.
CRAFTED = {
    "torch": state_pickle(call("torch.storage", "_load_from_bytes", "x")),
    "hub": state_pickle(call("torch.hub", "load", "someone/repo", "net")),
    "jittor": state_pickle(call("jittor", "load", "x")),
    "extension": b"\x80\x02\x82\x01.",
    "newobj": b"\x80\x02csubprocess\nPopen\n" + text("mkdir harm") + b"\x85\x81.",
    "newobj_ex": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
    "call of a string": b"\x80\x02cnumpy\nndarray\n)R.",
    "call of a storage type": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "state of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}" + text("__doc__") + b")s\x86b.",
    "state of a dictionary": b"\x80\x02}}" + text("__class__") + text("x") + b"sb.",
    "state of a tensor": b"\x80\x02" + tensor((2, 3), (3, 1)) + b"}b.",
    "items of a string": b"\x80\x02" + text("a") + text("b") + text("c") + b"s.",
    "reference": b"\x80\x02(" + text("module") + text("x") + b"tQ.",
    "textual reference": b"\x80\x02Pos.system\n.",
    "long line of digits": b"\x80\x02L" + b"9" * 100_000 + b"L\n.",
    "function for an array": b"\x80\x02}" + text("a") + b"cnumpy\ndtype\ns.",
    "array without content": state_pickle(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n)N\x87R"),
    "stack underflow": b"\x80\x02R.",
    "mark underflow": b"\x80\x02t.",
    "unknown memo": b"\x80\x02h\x07.",
    "no stop": b"\x80\x02}",
    "endless": b"\x80\x02" + b"N" * 1_000_001 + b".",
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("payload", [*LIVE, *CRAFTED])
def test_crafted_pickles_raise_and_do_not_run(tmp_path, monkeypatch, container, payload):
    monkeypatch.chdir(tmp_path)
    CONTAINERS[container](tmp_path / "net.pth", {**LIVE, **CRAFTED}[payload])
    with pytest.raises(UserError, match=r"net\.pth: "):
        read_weights("net.pth")
    assert os.listdir() == ["net.pth"]


@pytest.mark.parametrize("payload", LIVE)
def test_the_live_payloads_do_run_elsewhere(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    pickle.loads(LIVE[payload])
    assert os.listdir() == ["harm"]


def test_refusal_names_what_was_asked_for(tmp_path):
    (tmp_path / "net.pkl").write_bytes(LIVE["eval"])
    with pytest.raises(UserError, match=r"asks for 'builtins\.eval', which no weights need and which"):
        read_weights(tmp_path / "net.pkl")


HUGE = 1 << 62


@pytest.mark.parametrize("crafted", [
    tensor((2, 4), (4, 1)),
    tensor((2, 3), (3, 1), offset=1),
    tensor((2, 3), (4, 1)),
    tensor((HUGE, HUGE), (0, 0)),
    tensor((3, 1), (HUGE, 1)),
    tensor((3,), ((1 << 64) // 4,)),  # three steps of a whole address space: overflows to the same place
    tensor((2,), (-1,), offset=5),
    tensor((-2, -3), (3, 1)),
    tensor((2, 3), (3, 1), offset=-1),
    tensor((2, 3), (3,)),
    tensor((1,) * 100, (1,) * 100),
    tensor((2, 3), (3, 1), size=7),
    tensor((2, 3), (3, 1), size=HUGE),
    tensor((2, 3), (3, 1), size=-6),
    tensor((2, 3), (3, 1), kind="torch\nDoubleStorage"),
    tensor((2, 3), (3, 1), kind="torch\nComplexFloatStorage"),
    tensor((2, 3), (3, 1), key="1"),
    tensor((2, 3), (3, 1), last=b"}" + text("neg") + b"\x88s"),
    b"(" + tensor((6,), (1,)) + tensor((3,), (1,), size=3, kind="torch\nDoubleStorage") + b"t",
])
@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_tensors_that_do_not_fit_their_storage(tmp_path, container, crafted):
    path, storages = tmp_path / "net.pth", {"0": np.arange(6, dtype="<f4").tobytes()}
    if container == "zip":
        torch_zip(path, state_pickle(crafted), storages)
    else:
        path.write_bytes(torch_legacy(state_pickle(crafted), storages))
    with pytest.raises(UserError):
        read_weights(path)


def test_big_endian_torch_files(tmp_path):
    storages = {"0": bytes(24)}
    torch_zip(tmp_path / "zip.pth", state_pickle(), storages, byteorder=b"big")
    (tmp_path / "legacy.pth").write_bytes(torch_legacy(state_pickle(), storages, little_endian=False))
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match="big-endian"):
            read_weights(path)


@pytest.mark.parametrize("shape", [(HUGE,), (3, HUGE), (-1,), (0, HUGE, HUGE), (5,)])
def test_declared_shapes_of_numpy_arrays(tmp_path, shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(16))
    with pytest.raises(UserError):
        read_weights(tmp_path / "a.npz")


def test_zip_bombs(tmp_path):
    bomb = torch_zip(tmp_path / "declared.pth", state_pickle(), {"0": bytes(24)})
    raw = bomb.read_bytes()
    entry = raw.rindex(b"PK\x01\x02")
    bomb.write_bytes(raw[:entry + 24] + struct.pack("<I", 0xFFFFFFF0) + raw[entry + 28:])
    with pytest.raises(UserError, match=r"unpacks to 429\d+ bytes, at most 1073741824 are expected"):
        read_weights(bomb)
    hidden = torch_zip(tmp_path / "hidden.pth", state_pickle(), {"0": bytes(1 << 26)}, zipfile.ZIP_DEFLATED)
    raw = hidden.read_bytes()
    entry = raw.rindex(b"PK\x01\x02")
    hidden.write_bytes(raw[:entry + 24] + struct.pack("<I", 24) + raw[entry + 28:])  # declares 24 bytes
    with pytest.raises(UserError):
        read_weights(hidden)


def test_many_tensors_of_one_storage_are_bounded(tmp_path):
    """A few hundred tensors of a megabyte each cost nothing in the file."""
    elements = 1 << 20
    tensors = b"".join(text(f"a{i}") + tensor((elements,), (1,), size=elements) for i in range(300))
    torch_zip(tmp_path / "net.pth", b"\x80\x02}(" + tensors + b"u.", {"0": bytes(4 * elements)})
    with pytest.raises(UserError, match="more than 1073741824 bytes of arrays"):
        read_weights(tmp_path / "net.pth")


def nested(opcodes, times=200):
    """A tuple of two of itself, many times over: small in memory, endless to walk."""
    return b"\x80\x02)" + b"q\x00h\x00\x86" * times + opcodes + b"."


@pytest.mark.parametrize("opcodes", [
    b"q\x01}h\x01Ns",
    b"q\x01cnumpy\ndtype\nh\x01\x85R",
    b"q\x01cnumpy.core.multiarray\nscalar\nh\x01h\x01\x86R",
    b"q\x01cnumpy.core.multiarray\n_reconstruct\n)NN\x87R(K\x01h\x01h\x01h\x01h\x01tb",
    b"q\x01cnumpy.core.multiarray\n_reconstruct\nh\x01NN\x87R(K\x01)cnumpy\ndtype\n" + text("f4")
    + b"\x85Rh\x01h\x01tb",
    b"q\x01cnumpy\ndtype\n" + text("f4") + b"\x85R(K\x03h\x01h\x01h\x01h\x01tb",
    b"q\x01(h\x01h\x01h\x01h\x01h\x01tQ",
    b"q\x01ctorch._utils\n_rebuild_tensor\n(h\x01h\x01h\x01h\x01tR",
    b"q\x01ctorch._utils\n_rebuild_parameter\n(h\x01h\x01h\x01tRb",
    b"q\x01h\x01h\x01b",
    b"q\x01h\x01\x93",
    b"q\x01c_codecs\nencode\nh\x01h\x01\x86R",
    b"q\x01(" + text("storage") + b"h\x01" + text("0") + text("cpu") + b"K\x06tQ",
    b"q\x01(" + text("storage") + b"ctorch\nFloatStorage\nh\x01" + text("cpu") + b"K\x06tQ",
    b"q\x01}" + text("a") + b"h\x01s",
    b"q\x01ccollections\nOrderedDict\n]h\x01N\x86a\x85R",
])
def test_nested_tuples_take_no_time(tmp_path, opcodes):
    torch_zip(tmp_path / "net.pth", nested(opcodes), {"0": bytes(24)})
    with pytest.raises(UserError):
        read_weights(tmp_path / "net.pth")


def test_other_archives(tmp_path):
    for members in ([], ["a.txt"], ["a.npy", "b.txt"], ["a/data.pkl", "b/data.pkl"]):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in members:
                archive.writestr(name, json.dumps(name))
        with pytest.raises(UserError, match="neither PyTorch's nor NumPy's"):
            read_weights(tmp_path / "a.zip")


def test_other_compression(tmp_path):
    torch_zip(tmp_path / "net.pth", state_pickle(), {"0": bytes(24)}, zipfile.ZIP_LZMA)
    with pytest.raises(UserError, match="compressed in a way"):
        read_weights(tmp_path / "net.pth")

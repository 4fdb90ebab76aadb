"""Files of weights that mean harm: nothing of theirs is run, and reading them stays within bounds."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import resource
import struct
import time
import zipfile

import numpy as np
import pytest

from tests.helpers.memory import extra_memory
from tests.helpers.small_weights import number, signed, state_pickle, tensor, text, torch_legacy, torch_zip
from utils.checkpoint.formats import read_weights
from utils.errors import UserError


class Mkdir:
    """Unpickles as a call of os.mkdir."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


def call(module, name, *arguments):
    """Opcodes that call module.name with these strings."""
    return f"c{module}\n{name}\n(".encode() + b"".join(map(text, arguments)) + b"tR"


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


def test_objects_in_npz(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([Mkdir()]))
    with pytest.raises(UserError, match="an array of object"):
        read_weights(tmp_path / "a.npz")


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


def test_members_unpack_to_no_more_than_they_are_needed_for(tmp_path):
    half = bytes(1 << 29)
    torch_zip(tmp_path / "order.pth", state_pickle(), {"0": bytes(24)}, zipfile.ZIP_DEFLATED, byteorder=half)
    torch_zip(tmp_path / "names.pth", b"\x80\x02X" + struct.pack("<I", len(half)) + half + b".", {},
              zipfile.ZIP_DEFLATED)
    torch_zip(tmp_path / "storage.pth", state_pickle(), {"0": half}, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "header.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\2\0" + struct.pack("<I", len(half)) + half)
    said = {"order.pth": "byteorder' to 536870912 bytes, at most 6", "names.pth": "at most 67108864",
            "storage.pth": "at most 24", "header.npz": "a header of 536870912 bytes, at most 10000"}
    del half
    for name, part in said.items():
        grown, error = extra_memory(functools.partial(read_weights, tmp_path / name))
        assert f"{name}: " in error and part in error and grown < 60 << 20, (name, error, grown)


def test_numbers_that_are_widened_count_as_they_become(tmp_path, monkeypatch):
    kind = "torch\nBFloat16Storage"
    torch_zip(tmp_path / "net.pth", state_pickle(tensor((2, 3), (3, 1), kind=kind)), {"0": bytes(12)})
    monkeypatch.setattr("utils.checkpoint.formats.MAX_BYTES", 10_000)
    read_weights(tmp_path / "net.pth")
    torch_zip(tmp_path / "net.pth", state_pickle(tensor((2, 2000), (2000, 1), size=4000, kind=kind)),
              {"0": bytes(8000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="more than 10000 bytes of arrays: 16000"):
        read_weights(tmp_path / "net.pth")


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


@pytest.mark.parametrize("opcodes", [
    b"}(" + b"".join(number(key * ((1 << 61) - 1)) + b"N" for key in range(1, 40_000)) + b"u",
    b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(6)
    + b"N" * 100_000 + b"tq\x01" + b"h\x01Q" * 40_000,
    b"Nr\xff\xff\xff\xff",
    b"\x96" + struct.pack("<Q", 1 << 40),
], ids=["keys of one hash", "one long reference many times", "largest memo index", "declared bytearray"])
def test_small_pickles_take_no_time_or_memory(tmp_path, opcodes):
    torch_zip(tmp_path / "net.pth", b"\x80\x05" + opcodes + b".", {"0": bytes(24)})
    start, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError):
        read_weights(tmp_path / "net.pth")
    assert time.monotonic() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # kB


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

"""Small weights for tests of reading and loading: arrays, a model, and files of each format byte by byte."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile

import numpy as np

from utils.checkpoint import save_arrays


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
    rng = np.random.default_rng(seed)
    return {
        "conv1.weight": rng.standard_normal((4, 3, 3, 3), np.float32),
        "bn1.running_var": rng.random(4, np.float32),
        "fc.bias": rng.standard_normal(2, np.float32),
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


def assert_same(arrays, expected):
    """Same names in the same order; same types, shapes and bits."""
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name, strict=True)


# ---- Files, byte by byte ----


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


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
    """A pickle with the checksum that Jittor gives it."""
    return raw + hashlib.sha1(raw).digest() + b"HCAJSLHD"


def jittor_bytes(content, protocol=4):
    """What `jittor.save` writes to a .pkl."""
    return signed(pickle.dumps(content, protocol))


def safetensors(header, data=bytes(24), length=None):
    """A file of safetensors; ``header`` is its JSON, or what JSON is to be made of."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def place(begin=0, end=24, shape=(2, 3), dtype="F32"):
    """What a header of safetensors tells of an array."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def sample_files(tmp_path):
    """One small file of each format."""
    save_arrays(some_arrays(), tmp_path / "a.npz")
    (tmp_path / "a.pkl").write_bytes(jittor_bytes(some_arrays()))
    storages = {"0": np.arange(6, dtype="<f4").tobytes()}
    torch_zip(tmp_path / "zip.pth", state_pickle(), storages)
    (tmp_path / "a.safetensors").write_bytes(safetensors({"a": place()}))
    (tmp_path / "legacy.pth").write_bytes(torch_legacy(state_pickle(), storages))
    return sorted(tmp_path.iterdir())

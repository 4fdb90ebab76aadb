"""Files of safetensors, written and read bit for bit; damaged and hostile ones are refused within bounds."""

from __future__ import annotations

import functools
import io
import json
import struct
import time
import zipfile

import numpy as np
import pytest

from tests.helpers.memory import extra_memory
from tests.helpers.small_weights import assert_same, odd_arrays, place, safetensors, some_arrays, torch_zip
from utils.checkpoint import read_checkpoint, read_info, read_weights
from utils.checkpoint.safetensors import KINDS, MAX_HEADER, write
from utils.errors import UserError

HUGE = 1 << 62


def written(arrays) -> bytes:
    stream = io.BytesIO()
    write(stream, arrays)
    return stream.getvalue()


def ordered(arrays):
    """As they are written: wide types first."""
    return dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_there_and_back(tmp_path, name):
    types = {kind: np.array([0, 1, 1], kind) for kind in KINDS.values() if kind != "bfloat16"}
    arrays = {**odd_arrays(), **types, "Gewicht.ä": np.float32([1.5, np.inf, -0.0])}
    (tmp_path / name).write_bytes(written(arrays))
    found = read_weights(tmp_path / name)
    assert_same(found, ordered(arrays))
    assert all(array.flags.writeable and array.flags.c_contiguous for array in found.values())
    assert read_info(tmp_path / name) == {}


def test_headers_of_every_length_are_told_from_pickles_and_archives(tmp_path):
    for length in range(30, 300):
        header = json.dumps({"a": place()}).encode()
        (tmp_path / "net.pth").write_bytes(safetensors(header.ljust(max(length, len(header)))))
        assert_same(read_weights(tmp_path / "net.pth"), {"a": np.zeros((2, 3), np.float32)})
    header = json.dumps({"a": place()}).encode()
    (tmp_path / "net.pth").write_bytes(safetensors(header.ljust(0x4B50)))  # begins with PK
    assert list(read_weights(tmp_path / "net.pth")) == ["a"]


def test_only_plain_numbers_are_written():
    with pytest.raises(ValueError, match="a: an array of complex64, not of plain numbers"):
        written({"a": np.zeros(2, np.complex64)})
    assert written({"a": np.zeros(2, ">f4")}) == written({"a": np.zeros(2, "<f4")})


def test_the_package_reads_what_we_write_and_we_what_it_writes(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    arrays = {name: array for name, array in odd_arrays().items() if name != "fortran"}
    arrays["fortran"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    (tmp_path / "ours.safetensors").write_bytes(written(arrays))
    found = package.load_file(tmp_path / "ours.safetensors")
    assert_same({name: found[name] for name in arrays}, arrays)
    arrays["fortran"] = np.ascontiguousarray(arrays["fortran"])
    package.save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    found = read_weights(tmp_path / "theirs.safetensors")
    assert_same({name: found[name] for name in arrays}, arrays)


def test_pytorch_reads_what_we_write_and_we_what_it_writes(tmp_path):
    torch, package = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    net, other = (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)) for _ in range(2))
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    (tmp_path / "ours.safetensors").write_bytes(written(state))
    package.load_model(other, str(tmp_path / "ours.safetensors"), strict=True)
    assert_same({name: tensor.numpy() for name, tensor in other.state_dict().items()}, state)
    wide = {"a": torch.tensor([1.0, -3.140625, 1e-40, float("inf"), 65280.0]).bfloat16(), "b": torch.ones(3)}
    package.save_file(wide, tmp_path / "theirs.safetensors")
    found = read_weights(tmp_path / "theirs.safetensors")
    assert_same({name: found[name] for name in wide}, {name: wide[name].float().numpy() for name in wide})


def test_metadata_says_nothing(tmp_path):
    """Neither in the header nor in an archive's comment behind the data."""
    path = tmp_path / "net.safetensors"
    path.write_bytes(safetensors({"__metadata__": {"num_class": "1e9"}, "a": place()}))
    checkpoint = read_checkpoint(path)
    assert (checkpoint.info, list(checkpoint.arrays)) == ({}, ["a"])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.comment = b'{"num_class": 9}'
    tail = archive.getvalue()
    path.write_bytes(safetensors({"a": place(0, len(tail), [len(tail)], "U8")}, tail))
    assert zipfile.is_zipfile(path) and read_info(path) == {}


ONE = json.dumps({"a": place()}).encode()
BAD = {
    "fewer than its header of 4000": safetensors({"a": place()}, length=4000),
    f"a header of {1 << 31} bytes, at most {MAX_HEADER}": safetensors({"a": place()}, length=1 << 31),
    "as no file of weights does": safetensors({"a": place()}, length=1 << 40),
    "is not JSON": safetensors(b'{"a": }'),
    "that is not JSON": safetensors(b"{\xff}"),
    "header that is not JSON;": safetensors(b'{"a": {}} {}'),
    "one name twice": safetensors(b'{"a": {}, "\\u0061": {}}'),
    "with one name twice": safetensors(b'{"a": {"dtype": "F32", "dtype": "F32"}}'),
    "a number of 5000 digits": safetensors(b'{"a": ' + b"9" * 5000 + b"}"),
    "not a whole one": safetensors(b'{"a": 1e999}'),
    "nested more than 20 deep": safetensors(b'{"a":' * 100_000),
    "holds no arrays": safetensors({}, b""),
    "arrays; a whole": safetensors({"__metadata__": {}}, b""),
    "not a printable name": safetensors({"a\nb": place()}),
    "name; a whole": safetensors(b'{"\\ud800": ' + json.dumps(place()).encode() + b"}"),
    "something other than dtype": safetensors({"a": [1]}),
    "other than dtype": safetensors({"a": {**place(), "stride": [3, 1]}}),
    "not of plain numbers": safetensors({"a": place(dtype="F8_E4M3")}),
    "of plain numbers (F16": safetensors({"a": place(dtype=["F32"])}),
    "not lists of whole numbers": safetensors({"a": place(shape=[2, True])}),
    "lists of whole numbers": safetensors({"a": place(shape=6)}),
    "not of natural numbers": safetensors({"a": place(shape=[-2, -3])}),
    "whose place is not of natural": safetensors({"a": place(-24, 0)}),
    "shape is not a tuple of sizes": safetensors({"a": place(shape=[1] * 40)}),
    "of shape (2, 3) and F64 in 24 bytes": safetensors({"a": place(dtype="F64")}),
    "of shape (2, 3) and F32 in -24 bytes": safetensors({"a": place(24, 0)}),
    f"({HUGE}, {HUGE}) and F32 in 24 bytes": safetensors({"a": place(shape=[HUGE, HUGE])}),
    "a gap": safetensors({"a": place(4, 28)}, bytes(28)),
    "overlap": safetensors({"a": place(), "b": place()}),
    "overlap or": safetensors({"a": place(), "b": place(20, 44)}, bytes(44)),
    "has 120 bytes, its header tells of 112": safetensors(ONE.ljust(80), bytes(32)),
    "has 88 bytes, its header tells of 112": safetensors(ONE.ljust(80), b""),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_files_are_one_line(tmp_path, message):
    path = tmp_path / "net.safetensors"
    path.write_bytes(BAD[message])
    with pytest.raises(UserError) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


LARGEST = {
    "names": lambda: b"{" + b'"":[],' * (MAX_HEADER // 7),
    "lists": lambda: b'{"a":[' + b"[]," * (MAX_HEADER // 3 - 9),
    "objects": lambda: b'{"a":[' + b"{}," * (MAX_HEADER // 3 - 9),
    "digits": lambda: b'{"a":' + b"9" * (MAX_HEADER - 9),
    "escapes": lambda: b'{"a":"' + b"\\u0061" * (MAX_HEADER // 6 - 9),
    "numbers": lambda: b"{" + b",".join(b'"%d":0' % number for number in range(MAX_HEADER // 11)) + b"}",
    "empty arrays": lambda: json.dumps({str(i): place(0, 0, [0]) for i in range(MAX_HEADER // 80)}).encode(),
}


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_headers_take_little_time_and_memory(tmp_path, kind):
    header = LARGEST[kind]()
    assert len(header) <= MAX_HEADER
    (tmp_path / "net.safetensors").write_bytes(safetensors(header))
    start = time.monotonic()
    grown, error = extra_memory(functools.partial(read_weights, tmp_path / "net.safetensors"))
    assert "UserError" in error and grown < 250 << 20, (error[:300], grown)
    assert time.monotonic() - start < 5


def test_nothing_is_allotted_by_what_a_header_declares(tmp_path):
    path = tmp_path / "net.safetensors"
    declared = safetensors({"a": place(0, 1 << 29, [1 << 29], "U8")})
    for content in (declared, struct.pack("<Q", MAX_HEADER) + b"{"):
        path.write_bytes(content)
        grown, error = extra_memory(functools.partial(read_weights, path))
        assert "UserError" in error and grown < 20 << 20, (error, grown)


def test_numbers_that_are_widened_count_as_they_become(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.checkpoint.formats.MAX_BYTES", 10_000)
    path = tmp_path / "net.safetensors"
    path.write_bytes(safetensors({"a": place(0, 4000, [2000], "BF16")}, bytes(4000)))
    read_weights(path)
    path.write_bytes(safetensors({"a": place(0, 8000, [4000], "BF16")}, bytes(8000)))
    with pytest.raises(UserError, match="more than 10000 bytes of arrays: 16000"):
        read_weights(path)


def test_other_formats_are_still_told(tmp_path):
    torch_zip(tmp_path / "net.safetensors", b"\x80\x02}.", {})
    with pytest.raises(UserError, match="holds no arrays"):
        read_weights(tmp_path / "net.safetensors")
    np.savez(tmp_path / "net.npz", **some_arrays())
    (tmp_path / "net.npz").rename(tmp_path / "net.safetensors")
    assert_same(read_weights(tmp_path / "net.safetensors"), some_arrays())

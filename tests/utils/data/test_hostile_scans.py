"""Scans from strangers: what is damaged, lies or leads elsewhere is named, never followed."""

from __future__ import annotations

import gzip
import io
import os
import re
import sys
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.damage import damage
from tests.helpers.memory import extra_memory
from tests.helpers.saved_scans import (
    FOUR_CLASSES,
    LABELS,
    VOLUME,
    alone,
    save_h5,
    save_nifti,
    save_npz,
)
from utils.data.scan_files import image_shape
from utils.data.scans import (
    find_scans,
    read_labels,
    read_scan,
)
from utils.errors import UserError


def npy(shape: str, dtype: str = "<f4", content: bytes = b"") -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


@pytest.mark.parametrize("content, said", [
    (b"", "the file is empty"),
    (b"no archive", "not a zip file"),
    (zipped(image=npy("(99999, 99999, 99999)")), "declares an array of shape"),
    (zipped(image=npy("(2, 2)", "|O", b"x" * 32)), "not of plain numbers"),
    (zipped(image=npy("(2, 2)", ">f4", b"x" * 16)), "big-endian"),
    (zipped(label=npy("(2, 2)", "|u1", b"abcd")), "holds no image"),
    (zipped(image=npy("(0, 2)")), "none of them 0"),
    (zipped(image=npy("(1, 1, 1)", "<f4", bytes(4)), spacing=npy("(1,)", "<f4", bytes(4))), "3 figures"),
])
def test_npz_files_that_are_none(tmp_path, content, said):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_scan(alone(path), FOUR_CLASSES)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.data.scan_files.MAX_BYTES", 1000)
    path = save_npz(tmp_path / "a.npz", image=np.zeros((1, 40, 40), np.float32))
    with pytest.raises(UserError, match="an array of 6528 bytes, at most 1000"):
        read_scan(alone(path), FOUR_CLASSES)
    for path in (save_h5(tmp_path / "a.h5", image=np.zeros((1, 40, 40), np.float32)),
                 save_nifti(tmp_path / "a.nii.gz", np.zeros((1, 40, 40), np.float32))):
        with pytest.raises(UserError, match="an array of 6400 bytes, at most 1000"):
            read_scan(alone(path), FOUR_CLASSES)


SMALL = 60 << 20  # bytes that a refusal may take


def test_limits_count_the_floats_that_are_made_of_an_image(tmp_path, monkeypatch):
    image = np.ones((1, 40, 40), np.uint8)
    files = (save_npz(tmp_path / "a.npz", image=image), save_h5(tmp_path / "a.h5", image=image),
             save_nifti(tmp_path / "a.nii.gz", image))
    monkeypatch.setattr("utils.data.scan_files.MAX_BYTES", 6399)
    for path in files:
        with pytest.raises(UserError, match=f"{path}: .* an array of 6400 bytes, at most 6399 are expected: "
                                            "cut it into parts"):
            read_scan(alone(path), FOUR_CLASSES)


def test_a_nifti_of_many_voxels_is_refused_by_its_header(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.uint8))
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:48] = np.array([1024, 1024, 1024], "<i2").tobytes()
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(UserError, match="an array of 4294967296 bytes, at most 2147483648"):
        read_scan(alone(path), FOUR_CLASSES)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_nifti_takes_little_more_than_its_floats(tmp_path, scaled):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((512, 512, 96), np.uint8), np.eye(4))
    if scaled:
        image.header.set_slope_inter(0.5, 0.25)
    nibabel.save(image, tmp_path / "a.nii")
    scan = replace(alone(tmp_path / "a.nii"), label=None)
    grown, error = extra_memory(lambda: read_scan(scan, FOUR_CLASSES))
    assert not error and grown < 12 * 512 * 512 * 96


@pytest.mark.parametrize("shape, said", [
    ((2048, 1024, 1024), "an array of 8589934592 bytes, at most 2147483648"),
    ((512, 1024, 1024), r"declares an array of 536870912 bytes, a file of \d+ holds at most"),
])
def test_an_h5_file_that_holds_nothing_of_what_it_declares(tmp_path, shape, said):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key in ("image", "img", "label", "spacing"):
            file.create_dataset(key, shape, np.uint8, fillvalue=1)
    assert os.path.getsize(tmp_path / "a.h5") < 2500
    grown, error = extra_memory(lambda: read_scan(alone(tmp_path / "a.h5"), FOUR_CLASSES))
    assert re.search(f"a.h5: cannot be read .*{said}", error) and grown < SMALL


@pytest.mark.parametrize("chunk, times", [((1, 40, 40), 1), ((1, 2048, 512), 1), ((1, 40, 40), 2)])
def test_chunks_of_an_h5_file_unpack_to_no_more_than_their_part(tmp_path, monkeypatch, chunk, times):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr("utils.data.scan_files.MAX_BYTES", 1 << 28)
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(20)) + packer.flush()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        options.set_chunk(chunk)
        for _ in range(times):
            options.set_deflate(9)
        space = h5py.h5s.create_simple(chunk)
        dataset = h5py.h5d.create(file.id, b"image", h5py.h5t.NATIVE_FLOAT, space, options)
        dataset.write_direct_chunk((0, 0, 0), bomb if times == 1 else zlib.compress(bomb, 9))
    assert os.path.getsize(tmp_path / "a.h5") < 400_000
    grown, error = extra_memory(lambda: read_scan(alone(tmp_path / "a.h5"), FOUR_CLASSES))
    assert re.search("has a chunk (of|that unpacks)|packs its chunks twice", error) and grown < SMALL


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0", b"\3\0"])
def test_headers_of_npz_members_are_bounded(tmp_path, version):
    length = 60_000 if version == b"\1\0" else 200 << 20
    head = b"\x93NUMPY" + version + length.to_bytes(2 if version == b"\1\0" else 4, "little")
    (tmp_path / "a.npz").write_bytes(zipped(image=head + bytes(length)))
    for read in (lambda: read_scan(alone(tmp_path / "a.npz"), FOUR_CLASSES), lambda: find_scans(tmp_path)):
        grown, error = extra_memory(read)
        assert re.search(rf"a.npz: .*a header of {length} bytes, at most 10000", error) and grown < SMALL


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(UserError, match="folder or a device"):
        find_scans(tmp_path)


@pytest.mark.parametrize("place, value, said", [
    (42, np.array([-7, 6, 4], "<i2"), "has the shape"), (42, np.array([0, 6, 4], "<i2"), "has the shape"),
    (42, np.array([32767, 32767, 32767], "<i2"), "at most"), (42, np.array([8, 6, 4], "<i2"), "breaks off"),
    (40, np.array([4, 7, 6, 4, 2], "<i2"), "expected a volume of three axes"),
    (70, np.array([128, 24], "<i2"), "not of plain numbers"), (70, np.array([999], "<i2"), "cannot be read"),
    (108, np.array([1e30], "<f4"), "voxels begin at"), (108, np.array([np.nan], "<f4"), "cannot be read"),
    (344, np.array([0], "<i4"), "begins as no NIfTI file")])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_headers_of_nifti_that_lie(tmp_path, suffix, place, value, said):
    path = save_nifti(tmp_path / f"a{suffix}", VOLUME.transpose(1, 2, 0))
    opened = gzip.open if suffix.endswith(".gz") else open
    with opened(path, "rb") as file:
        raw = bytearray(file.read())
    raw[place:place + value.nbytes] = value.tobytes()
    with opened(path, "wb") as file:
        file.write(raw)
    with pytest.raises(UserError, match=said):
        read_scan(alone(path), FOUR_CLASSES)


def plant_external_link(h5py, file) -> None:
    file["image"] = h5py.ExternalLink("other.h5", "/image")


def plant_soft_link(h5py, file) -> None:
    file["image"] = h5py.SoftLink("/label")


def plant_virtual(h5py, file) -> None:
    layout = h5py.VirtualLayout(VOLUME.shape, np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "image", VOLUME.shape)
    file.create_virtual_dataset("image", layout)


def plant_external_content(h5py, file) -> None:
    file.create_dataset("image", VOLUME.shape, np.float32, external=[("other.h5", 2048, VOLUME.nbytes)])


def plant_group(h5py, file) -> None:
    file.create_group("image")


def plant_strings(h5py, file) -> None:
    file.create_dataset("image", data=["a", "b"], dtype=h5py.string_dtype())


def plant_records(h5py, file) -> None:
    file["image"] = np.zeros((4, 7, 6), [("a", "f4"), ("b", "u1")])


@pytest.mark.parametrize("plant", [plant_external_link, plant_soft_link, plant_virtual,
                                   plant_external_content, plant_group, plant_strings, plant_records])
def test_h5_files_lead_nowhere_else_and_hold_numbers(tmp_path, monkeypatch, plant):
    h5py = pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    save_h5(tmp_path / "other.h5", image=VOLUME)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["label"] = LABELS
        plant(h5py, file)
    with pytest.raises(UserError, match=r"a\.h5: cannot be read as .*(a link for 'image'|array)"):
        read_scan(alone(tmp_path / "a.h5"), FOUR_CLASSES)
    with pytest.raises(UserError, match=r"a\.h5"):
        image_shape("h5", tmp_path / "a.h5")


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".nii", ".nii.gz"])
def test_damaged_files_are_read_or_named_never_worse(tmp_path, suffix):
    path, rng = tmp_path / f"a{suffix}", np.random.default_rng(5)
    if suffix == ".npz":
        save_npz(path, image=VOLUME, label=LABELS, spacing=np.ones(3))
    elif suffix == ".h5":
        save_h5(path, image=VOLUME, label=LABELS)
    else:
        save_nifti(path, VOLUME)
    whole = path.read_bytes()
    refused = 0
    for _ in range(150):
        if suffix == ".nii.gz":  # behind the checksum
            path.write_bytes(gzip.compress(damage(gzip.decompress(whole), rng)))
        else:
            path.write_bytes(damage(whole, rng))
        for read in (lambda: read_scan(alone(path), FOUR_CLASSES), lambda: read_labels(path),
                     lambda: image_shape(alone(path).kind, path)):
            try:
                read()
            except UserError as error:
                assert str(error).startswith(f"{path}: ")
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("module, name", [("h5py", "a.h5"), ("nibabel", "a.nii.gz")])
def test_without_the_extra_the_command_that_installs_it_is_told(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(UserError, match=rf"needs {module}; install it: .* -r requirements-volumes\.txt"):
        read_scan(alone(tmp_path / name), FOUR_CLASSES)

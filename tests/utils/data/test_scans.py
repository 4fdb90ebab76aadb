"""Scans of all formats: the same arrays from any file, label maps written back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.compare import assert_close
from tests.helpers.saved_scans import (
    AFFINE,
    FOUR_CLASSES,
    LABELS,
    RNG,
    VOLUME,
    alone,
    only,
    save_case,
    save_h5,
    save_nifti,
    save_npz,
    save_picture,
)
from utils.data.scans import (
    PALETTE,
    LabelError,
    ScaleError,
    Scan,
    ScanOptions,
    ShapeError,
    find_scans,
    read_labels,
    read_scan,
    write_labels,
)
from utils.errors import UserError

# Formats

def test_a_volume_is_the_same_whatever_file_it_is_in(tmp_path):
    save_npz(tmp_path / "npz" / "a.npz", image=VOLUME, label=LABELS, spacing=np.array([3, 0.75, 0.5]))
    (tmp_path / "h5").mkdir()
    save_h5(tmp_path / "h5" / "a.npy.h5", image=VOLUME, label=LABELS, spacing=np.array([3, 0.75, 0.5]))
    save_case(tmp_path / "nifti", VOLUME.transpose(1, 2, 0), LABELS.transpose(1, 2, 0), "a")
    for kind in ("npz", "h5", "nifti"):
        scan = only(tmp_path / kind)
        pixels = read_scan(scan, FOUR_CLASSES)
        assert (scan.name, scan.kind, scan.is_volume, len(pixels.image)) == ("a", kind, True, 4)
        assert pixels.image.dtype == np.float32 and pixels.labels.dtype == np.uint8
        np.testing.assert_array_equal(pixels.image, VOLUME[:, None])
        np.testing.assert_array_equal(pixels.labels, LABELS)
        assert pixels.spacing == (3, 0.75, 0.5)


@pytest.mark.parametrize("key", ["image", "img"])
def test_a_slice_has_depth_1(tmp_path, key):
    save_npz(tmp_path / "a.npz", **{key: VOLUME[0], "label": LABELS[0].astype(np.int64)})
    scan = only(tmp_path)
    pixels = read_scan(scan, ScanOptions(4, axis=1))
    assert not scan.is_volume and len(read_scan(scan, FOUR_CLASSES).image) == 1
    np.testing.assert_array_equal(pixels.image, VOLUME[:1, None])
    np.testing.assert_array_equal(pixels.labels, LABELS[:1])
    assert pixels.spacing is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_slicing_axis_comes_first_and_the_others_keep_their_order(tmp_path, axis):
    save_npz(tmp_path / "npz" / "a.npz", image=VOLUME, label=LABELS, spacing=np.array([1.0, 2, 3]))
    others = [each for each in range(3) if each != axis]
    options = ScanOptions(4, axis)
    scan = only(tmp_path / "npz")
    pixels = read_scan(scan, options)
    np.testing.assert_array_equal(pixels.image[:, 0], VOLUME.transpose(axis, *others))
    np.testing.assert_array_equal(pixels.labels, LABELS.transpose(axis, *others))
    assert pixels.spacing == (1 + axis, *(1 + other for other in others))
    assert len(read_scan(scan, options).image) == VOLUME.shape[axis]


def test_pictures_grey_and_coloured_with_indices_or_a_palette(tmp_path):
    grey = np.uint8(VOLUME[0] * 255)
    colours = RNG.integers(0, 256, (7, 6, 3), np.uint8)
    save_picture(tmp_path / "images" / "a.png", grey)
    save_picture(tmp_path / "images" / "b.png", colours)
    save_picture(tmp_path / "labels" / "a.png", LABELS[0])
    save_picture(tmp_path / "labels" / "b.png", LABELS[1], palette=True)
    first, second = (read_scan(scan, FOUR_CLASSES) for scan in find_scans(tmp_path))
    assert_close(first.image, grey[None, None] / 255, "float32")
    assert_close(second.image, colours.transpose(2, 0, 1)[None] / 255, "float32")
    np.testing.assert_array_equal(first.labels, LABELS[:1])
    np.testing.assert_array_equal(second.labels, LABELS[1:2])


def test_pictures_of_16_bits_need_a_window(tmp_path):
    save_picture(tmp_path / "images" / "a.png", np.arange(42, dtype=np.uint16).reshape(7, 6) * 100)
    save_picture(tmp_path / "labels" / "a.png", LABELS[0].astype(np.uint16))
    scan = only(tmp_path)
    with pytest.raises(ScaleError, match="from 0 to 4100, expected 0 to 1; say by --window LOW HIGH"):
        read_scan(scan, FOUR_CLASSES)
    pixels = read_scan(scan, ScanOptions(4, window=(100, 4100)))
    assert_close(pixels.image.ravel(), np.clip((np.arange(42) - 1) / 40, 0, 1), "float32")
    np.testing.assert_array_equal(pixels.labels[0], LABELS[0])


@pytest.mark.parametrize("name, pixels, said", [
    ("a.jpg", LABELS[0], "is a JPEG, which changes class indices"),
    ("a.png", PALETTE[LABELS[0]], "pixels of mode RGB, expected class indices")])
def test_labels_that_hold_no_indices_are_refused(tmp_path, name, pixels, said):
    save_picture(tmp_path / "images" / "a.png", LABELS[0])
    path = save_picture(tmp_path / "labels" / name, pixels)
    with pytest.raises(UserError) as caught:
        read_scan(only(tmp_path), FOUR_CLASSES)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


def test_without_a_folder_of_labels_there_are_none(tmp_path):
    save_picture(tmp_path / "images" / "a.png", LABELS[0])
    assert only(tmp_path).label is None
    assert read_scan(only(tmp_path), FOUR_CLASSES).labels is None


def test_the_header_of_a_nifti_scales_its_voxels(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(voxels, np.diag([2e-3, 3e-3, 4e-3, 1]))
    image.header.set_slope_inter(10, -100)
    image.header.set_xyzt_units("meter")
    raw = bytearray(image.to_bytes())
    raw[112:120] = np.array([10, -100], "<f4").tobytes()  # nibabel scales what it saves by itself
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii").write_bytes(raw)
    pixels = read_scan(only(tmp_path), ScanOptions(2, window=(-100, 130)))
    assert_close(pixels.image[:, 0], voxels.transpose(2, 0, 1) / 23, "float32")
    assert_close(pixels.spacing, (4, 2, 3), "float32")


@pytest.mark.parametrize("change", ["big-endian", "version 2", "axis of one"])
def test_variants_of_nifti(tmp_path, change):
    nibabel = pytest.importorskip("nibabel")
    stored = VOLUME.transpose(1, 2, 0)
    path = tmp_path / "images" / "a.nii"
    if change == "big-endian":
        path.parent.mkdir()
        header = nibabel.Nifti1Header(endianness=">")
        header.set_data_dtype(">f4")
        path.write_bytes(nibabel.Nifti1Image(stored, AFFINE, header).to_bytes())
        assert path.read_bytes()[:4] == b"\0\0\x01\x5c"
    else:
        stored = stored[..., None] if change == "axis of one" else stored
        save_nifti(path, stored, version=2 if change == "version 2" else 1)
    np.testing.assert_array_equal(read_scan(only(tmp_path), FOUR_CLASSES).image, VOLUME[:, None])


# Scale and labels

def test_a_window_scales_and_clips(tmp_path):
    scan = alone(save_npz(tmp_path / "a.npz", image=np.array([[[-1000, -125, 75, 275, 3000]]], np.int16)))
    image = read_scan(scan, ScanOptions(9, window=(-125.0, 275.0))).image
    assert_close(image.ravel(), [0, 0, 0.5, 1, 1], "float32")
    with pytest.raises(ScaleError, match="from -1000 to 3000"):
        read_scan(scan, ScanOptions(9))


def test_raw_labels_of_synapse(tmp_path):
    raw = np.arange(14, dtype=np.float32).reshape(1, 2, 7)
    scan = alone(save_npz(tmp_path / "a.npz", image=VOLUME[:1, :2].repeat(2, 2)[..., :7], label=raw))
    labels = read_scan(scan, ScanOptions(9, label_map="synapse")).labels
    assert labels.ravel().tolist() == [0, 1, 2, 3, 4, 0, 6, 7, 8, 0, 0, 5, 0, 0]
    with pytest.raises(LabelError, match=r"9, 10, 11, 12, 13 \(in 5 pixels\), expected 0 to 8.*--label_map"):
        read_scan(scan, ScanOptions(9))


@pytest.mark.parametrize("value, said", [(4, "holds the label 4 "), (-1, "holds the label -1 "),
                                         (300, "holds the label 300 "), (0.5, "holds fractions"),
                                         (np.nan, "holds fractions"), (np.inf, "holds the label inf ")])
def test_labels_that_are_no_classes_are_told(tmp_path, value, said):
    label = LABELS.astype(np.float32)
    label[1, 2, 3] = value
    path = save_npz(tmp_path / "a.npz", image=VOLUME, label=label)
    with pytest.raises(LabelError) as caught:
        read_scan(alone(path), FOUR_CLASSES)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_infinite_grey_levels_are_refused_with_a_window_too(tmp_path, bad):
    image = VOLUME.copy()
    image[0, 0, 0] = bad
    path = save_npz(tmp_path / "a.npz", image=image, label=LABELS)
    with pytest.raises(UserError, match="NaN or infinite"):
        read_scan(alone(path), ScanOptions(4, window=(0, 1)))


def test_image_and_label_of_different_size(tmp_path):
    path = save_npz(tmp_path / "a.npz", image=VOLUME, label=LABELS[:, :6])
    with pytest.raises(ShapeError, match=r"shape \(4, 6, 6\), its image \(4, 7, 6\)"):
        read_scan(alone(path), FOUR_CLASSES)


# Finding

@pytest.mark.parametrize("name, group", [
    ("case0005_slice012", "case0005"), ("case_029_sliceES_5", "case_029"), ("case_002_volume_ED", "case_002"),
    ("patient001_frame01_slice_3", "patient001"), ("liver_12", "liver_12"), ("slice_3", "slice_3")])
def test_the_group_is_the_patient(name, group):
    assert Scan(name, "npz", Path(), None, False).group == group


def test_a_list_chooses_by_name(tmp_path):
    for name in ("b_slice1", "a_slice2", "c_slice3"):
        save_npz(tmp_path / "set" / f"{name}.npz", image=VOLUME[0], label=LABELS[0])
    names = tmp_path / "list.txt"
    names.write_text("c_slice3\n\n# no name\na_slice2.npz\n")
    assert [scan.name for scan in find_scans(tmp_path / "set", names)] == ["a_slice2", "c_slice3"]
    names.write_text("c_slice3\n../set/a_slice2\nd\n")
    with pytest.raises(UserError, match=r"not there: \.\./set/a_slice2, d; expected names like a_slice2"):
        find_scans(tmp_path / "set", names)
    names.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        find_scans(tmp_path / "set", names)
    with pytest.raises(UserError, match="cannot be read as a list"):
        find_scans(tmp_path / "set", tmp_path / "none.txt")


def test_nnunets_names(tmp_path):
    save_nifti(tmp_path / "imagesTr" / "liver_1_0000.nii.gz", VOLUME)
    save_nifti(tmp_path / "labelsTr" / "liver_1.nii.gz", LABELS)
    save_nifti(tmp_path / "imagesTs" / "liver_2_0000.nii.gz", VOLUME)
    assert (only(tmp_path).name, only(tmp_path).label.name) == ("liver_1", "liver_1.nii.gz")
    assert (only(tmp_path / "imagesTs").name, only(tmp_path / "imagesTs").label) == ("liver_2", None)
    save_nifti(tmp_path / "imagesTr" / "liver_1_0001.nii.gz", VOLUME)
    with pytest.raises(UserError, match=r"liver_1_0001\.nii\.gz: has no label"):
        find_scans(tmp_path)


def test_a_number_of_four_digits_is_no_modality_elsewhere(tmp_path):
    save_nifti(tmp_path / "images" / "patient_0000.nii.gz", VOLUME)
    save_nifti(tmp_path / "labels" / "patient_0000.nii.gz", LABELS)
    assert (only(tmp_path).name, only(tmp_path).label.name) == ("patient_0000", "patient_0000.nii.gz")


def test_what_is_wrong_with_a_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_scans(tmp_path / "none")
    with pytest.raises(UserError, match=r"expected \.npz or \.h5 files, or the folders images and labels"):
        find_scans(tmp_path)
    save_picture(tmp_path / "images" / "a.png", LABELS[0])
    save_picture(tmp_path / "masks" / "a.png", LABELS[0])
    with pytest.raises(UserError, match="holds images and masks, as for one class"):
        find_scans(tmp_path)
    save_picture(tmp_path / "labels" / "b.png", LABELS[0])
    save_picture(tmp_path / "images" / "a.bmp", LABELS[0])
    with pytest.raises(UserError) as caught:
        find_scans(tmp_path)
    for said in ("a.bmp: has no label", "a.png: is called as a.bmp", "b.png: has no image"):
        assert said in str(caught.value)


# Writing

@pytest.mark.parametrize("nifti", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("source", ["npz", "nifti"])
def test_label_maps_are_read_back_as_written(tmp_path, source, axis, nifti):
    if nifti or source == "nifti":
        nibabel = pytest.importorskip("nibabel")
    if source == "npz":
        save_npz(tmp_path / "in" / "a.npz", image=VOLUME, label=LABELS, spacing=np.array([3, 0.75, 0.5]))
    else:
        save_case(tmp_path / "in", VOLUME, LABELS, "a")
    scan = only(tmp_path / "in")
    pixels = read_scan(scan, ScanOptions(4, axis))
    path = write_labels(tmp_path / "out", scan, pixels.labels, pixels, nifti)
    assert path == tmp_path / "out" / ("a.nii.gz" if nifti else "a.npz")
    np.testing.assert_array_equal(read_labels(path, axis), pixels.labels)
    if not nifti:
        np.testing.assert_array_equal(np.load(path)["spacing"], pixels.spacing)
        return
    written = nibabel.load(path)
    assert written.get_data_dtype() == np.uint8
    if source == "nifti":
        given = nibabel.load(scan.label)
        np.testing.assert_array_equal(written.affine, given.affine)
        np.testing.assert_array_equal(np.asarray(written.dataobj), LABELS)
        assert written.header.get_zooms() == given.header.get_zooms()
    else:
        along = dict(zip(written.shape, written.header.get_zooms()))
        assert [along[size] for size in VOLUME.shape] == [3, 0.75, 0.5]


def test_slices_and_pictures_are_written_as_they_were(tmp_path):
    save_npz(tmp_path / "in" / "a.npz", image=VOLUME[0], label=LABELS[0])
    save_picture(tmp_path / "pictures" / "images" / "b.jpg", np.uint8(VOLUME[0] * 255))
    for folder, name in (("in", "a.npz"), ("pictures", "b.png")):
        scan = only(tmp_path / folder)
        path = write_labels(tmp_path / "out", scan, LABELS[:1], read_scan(scan, FOUR_CLASSES))
        assert path.name == name
        np.testing.assert_array_equal(read_labels(path), LABELS[:1])
    assert np.load(tmp_path / "out" / "a.npz")["label"].shape == (7, 6)
    with Image.open(tmp_path / "out" / "b.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), PALETTE[LABELS[0]])


def test_the_palette_gives_each_class_a_colour_of_its_own():
    assert PALETTE.shape == (256, 3) and PALETTE.dtype == np.uint8
    assert PALETTE[0].tolist() == [0, 0, 0]
    assert len(np.unique(PALETTE, axis=0)) == 256
    # As eyes without green cones see them (Vienot 1999), the first nine lie apart still.
    linear = (PALETTE[:9] / 255) ** 2.2
    red_green = linear @ [0.29275, 0.70725, 0]
    blue = linear @ [-0.02234, 0.02234, 1]
    seen = np.clip(np.stack([red_green, blue], 1), 0, 1) ** (1 / 2.2)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=2) + np.eye(9)
    assert apart.min() > 0.08

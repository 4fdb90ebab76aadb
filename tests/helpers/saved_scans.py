"""Scans to test with, written in all formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.data.scan_files import kind_of
from utils.data.scans import (
    PALETTE,
    Scan,
    ScanOptions,
    find_scans,
)

RNG = np.random.default_rng(0)
VOLUME = RNG.random((4, 7, 6)).astype(np.float32)
LABELS = RNG.integers(0, 4, VOLUME.shape).astype(np.uint8)
AFFINE = np.array([[-0.75, 0, 0, 10], [0, 0.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])
FOUR_CLASSES = ScanOptions(4)


def save_npz(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def save_h5(path: Path, **arrays: np.ndarray) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip")
    return path


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, version: int = 1) -> Path:
    nibabel = pytest.importorskip("nibabel")
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image)(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def save_picture(path: Path, array: np.ndarray, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette(PALETTE.tobytes())
    picture.save(path)
    return path


def save_case(folder: Path, image: np.ndarray, labels: np.ndarray | None, name: str = "case") -> Path:
    """A NIfTI and its label."""
    save_nifti(folder / "images" / f"{name}.nii.gz", image)
    if labels is not None:
        save_nifti(folder / "labels" / f"{name}.nii.gz", labels)
    return folder


def only(folder: Path) -> Scan:
    scan, = find_scans(folder)
    return scan


def alone(path: Path) -> Scan:
    """A scan of one file, without looking into it."""
    kind, name = kind_of(path)
    return Scan(name, kind, path, path, True)

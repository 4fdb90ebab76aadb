"""Where the scans of a multi-class set lie: pictures, slices and volumes with their label maps, by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from utils.data import scan_files
from utils.data.image_io import describe, list_folder, name_some, read_list
from utils.errors import UserError

FOLDERS = {"images": "labels", "imagesTr": "labelsTr", "imagesTs": "labelsTs"}  # the last two are nnU-Net's
FIRST_MODALITY = re.compile("(.+)_0000")  # nnU-Net's; others end in _0001 and so on
PART_OF_PATIENT = re.compile("(.+?)[_-](?:slice|volume|frame)")


def hint_of_scans(folder: Path) -> str:
    """What to say of a folder that was expected to hold images with masks, if it seems to hold scans."""
    inside = [folder, *(path for path in list_folder(folder) if path.is_dir())]
    for each in inside:
        kinds = {kind[0] for path in list_folder(each) if (kind := scan_files.kind_of(path))}
        labelled = any((each / name).is_dir() and not (each / "masks").is_dir() for name in FOLDERS.values())
        if labelled or kinds - {"picture"}:
            return "; these seem to be scans with label maps: give --task multiclass --num_class N"
    return ""


@dataclass(frozen=True)
class Scan:
    """Where a scan lies.

    Attributes:
        name: of its files without suffix, unique in its set.
        kind: a key of `scan_files.SUFFIXES`.
        image, label: files; the same one where it holds both, None where no label is given.
        is_volume: it has a slicing axis; a picture or a single slice has none.
    """

    name: str
    kind: str
    image: Path
    label: Path | None
    is_volume: bool

    @property
    def group(self) -> str:
        """The patient, as the name tells: what must not be split between training and validation.

        case0005_slice012, case_029_volume_ED and patient001_frame01 are of case0005, case_029 and
        patient001; any other name is a patient of its own.
        """
        match = PART_OF_PATIENT.match(self.name)
        return match[1] if match else self.name


@dataclass(frozen=True)
class Defect:
    """Why a file of a set cannot be used: ``kind`` is one of a few, ``detail`` says what to do."""

    kind: str
    path: Path
    detail: str


def find_scans(folder: str | os.PathLike, list_file: str | os.PathLike | None = None) -> list[Scan]:
    """The scans of a folder, sorted by name.

    It holds .npz or .h5 files, each with image and label; or images/ with pictures or NIfTI volumes, and
    labels/ with label maps of the same names (nnU-Net's imagesTr, labelsTr and _0000 as well). Without
    labels/ the scans have no labels.

    Args:
        list_file: text with a name in each line, of those that are wanted; None takes all.

    Raises:
        UserError: the folder is missing or holds no scan, a name of the list is not there, or files are
            damaged, without partner or of the same name; up to five are named.
    """
    scans, defects = look_for_scans(folder, list_file)
    if defects:
        raise UserError(name_some([f"{defect.path}: {defect.detail}" for defect in defects], between=" | "))
    return scans


def look_for_scans(folder: str | os.PathLike, list_file: str | os.PathLike | None = None,
                   ) -> tuple[list[Scan], list[Defect]]:
    """As `find_scans`, but tells the files that cannot be used apart from the scans."""
    root = Path(folder)
    inside = list_folder(root)
    both = [file for file in _files(inside) if file.kind in scan_files.WITH_LABELS]
    if both:
        images, labels = both, {file.name: file for file in both}
        where = root
    else:
        images_folder, where = _image_folders(root, inside)
        images = _files(list_folder(images_folder))
        if images_folder.absolute().name != "images":  # elsewhere _0000 may be a number
            images = _without_modality(images)
        if not images:
            raise UserError(f"{images_folder}: holds no picture and no NIfTI volume; it holds "
                            f"{describe(list_folder(images_folder))}")
        labels = {file.name: file for file in _files(list_folder(where))} if where.is_dir() else None
    if list_file is not None:
        images, labels = _listed(images, labels, Path(list_file))
    return _scans(images, labels, where)


@dataclass(frozen=True)
class _File:
    kind: str
    name: str
    path: Path


def _files(paths: Iterable[Path]) -> list[_File]:
    """Those of a known kind."""
    kinds = ((scan_files.kind_of(path), path) for path in paths)
    return [_File(*kind, path) for kind, path in kinds if kind]


def _image_folders(root: Path, inside: list[Path]) -> tuple[Path, Path]:
    """The folders of images and labels; ``root`` may be that of the images itself. Labels may be missing."""
    for images, labels in FOLDERS.items():
        if (root / images).is_dir():
            if (root / "masks").is_dir() and not (root / labels).is_dir():
                raise UserError(f"{root}: holds images and masks, as for one class; label maps of several "
                                f"classes are expected in {root / labels}")
            return root / images, root / labels
    here = root.absolute()
    if here.name in FOLDERS and _files(inside):
        return root, here.parent / FOLDERS[here.name]
    hint = "".join(f"; did you mean {path}?" for path in inside if path.name == "TrainDataset")
    raise UserError(f"{root}: expected .npz or .h5 files, or the folders images and labels in it; it holds "
                    f"{describe(inside)}{hint}")


def _without_modality(images: list[_File]) -> list[_File]:
    """nnU-Net's volumes by the names of their cases."""
    def case(file: _File) -> str:
        match = FIRST_MODALITY.fullmatch(file.name) if file.kind == "nifti" else None
        return match[1] if match else file.name

    return [_File(file.kind, case(file), file.path) for file in images]


def _listed(images: list[_File], labels: dict[str, _File] | None, path: Path,
            ) -> tuple[list[_File], dict[str, _File] | None]:
    """What the names in a list leave of both."""
    names = {(scan_files.kind_of(Path(line)) or (None, line))[1] for line in read_list(path)}
    available = {file.name for file in images}
    missing = sorted(names - available)
    if missing or not names:
        what = f"names scans that are not there: {name_some(missing)}" if missing else "is empty"
        raise UserError(f"{path}: {what}; expected names like {name_some(sorted(available), limit=2)}")
    return ([file for file in images if file.name in names],
            labels and {name: file for name, file in labels.items() if name in names})


def _scans(images: list[_File], labels: dict[str, _File] | None, where: Path,
           ) -> tuple[list[Scan], list[Defect]]:
    """The scans, and what cannot be used. ``labels`` lie in ``where``; None where none are given at all."""
    scans: dict[str, Scan] = {}
    taken: dict[str, _File] = {}
    defects = []
    for file in images:
        first = taken.setdefault(file.name, file)
        label = labels and labels.get(file.name)
        if first is not file:
            defects.append(Defect("same name", file.path, f"is called as {first.path.name}; keep one"))
        elif labels is not None and label is None:
            defects.append(Defect("image without label", file.path,
                                  f"has no label in {where}; add it, or take the image out"))
        else:
            try:
                scans[file.name] = Scan(file.name, file.kind, file.path, label and label.path,
                                        _is_volume(file))
            except UserError as error:
                defects.append(Defect("unreadable", file.path, str(error).removeprefix(f"{file.path}: ")))
    defects += [Defect("label without image", file.path, "has no image; add it, or take the label out")
                for name, file in (labels or {}).items() if name not in taken]
    return [scans[name] for name in sorted(scans)], defects


def _is_volume(file: _File) -> bool:
    return file.kind == "nifti" or (
        file.kind != "picture" and len(scan_files.image_shape(file.kind, file.path)) == 3)

"""Looks through a set of scans with label maps and lists everything that is wrong or remarkable with it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from utils.data import scan_files
from utils.data.checks.polyps import Findings
from utils.data.image_io import list_folder, name_some
from utils.data.scan_folders import Scan, look_for_scans
from utils.data.scans import MAX_CLASSES, LabelError, ScaleError, ScanOptions, ShapeError, read_scan
from utils.errors import UserError
from utils.parallel import WORKERS, prefetch
from utils.progress import track

ERRORS = {
    "image without label": "give it a label, or take it out",
    "label without image": "give it an image, or take it out",
    "same name": "images and labels are paired by name, so keep one",
    "unreadable": "replace it, or take it out",
    "wrong shape": "give image and label the same axes and size",
    "unscaled image": "say by --window LOW HIGH which grey levels become 0 and 1",
    "unknown label": "give the number of classes by --num_class, or mend the label",
    "colour among grey": "the images of a set must all be grey, or all in colour",
    "no class in any label": "expected labels from 1 up",
}
WARNINGS = {
    "no scan file": "left out",
    "class in no label": "nothing of it can be learned or measured",
    "empty label": "shows background alone",
    "constant image": "has one grey level everywhere",
    "without spacing": "others have one; distances of it are in voxels alone",
    "label elsewhere": "lies elsewhere in space than its image, as the files' headers say",
    "image twice": "has slices with the same pixels as others of the set",
    "image of another set": "has the same pixels: what is trained on must not be tested on",
    "patient of another set": "by the name: whom is trained on must not be tested on",
}
"""Kinds of findings in their order, and what they mean. Errors stop training or evaluation."""

KINDS_OF_ERRORS = ((ShapeError, "wrong shape"), (LabelError, "unknown label"), (ScaleError, "unscaled image"))
APART_MM = 0.1  # what a label may lie beside its image, for rounded headers
LISTS = (".txt",)


@dataclass
class ScanSurvey(Findings):
    """What a set of scans consists of.

    Attributes:
        scans, slices: their number.
        groups: the scans of each patient.
        sizes: how many scans have which, as "DxHxW", "HxW" of pictures and slices.
        spacings: how many scans have which, in mm along D, H, W; None for those without.
        voxels, scans_with: of each class, how many voxels it has and how many scans show it.
        digests: of the pixels of every slice that is not constant, by the scan's image.
    """

    errors, warnings = ERRORS, WARNINGS
    classes: int
    scans: int = 0
    slices: int = 0
    groups: dict[str, list[Path]] = field(default_factory=dict)
    sizes: Counter = field(default_factory=Counter)
    spacings: Counter = field(default_factory=Counter)
    voxels: np.ndarray = field(init=False)
    scans_with: np.ndarray = field(init=False)
    digests: dict[Path, list[str]] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        self.voxels, self.scans_with = np.zeros((2, self.classes), np.int64)


@dataclass(frozen=True)
class Content:
    """What was read of a scan. ``counts`` are the voxels of all possible labels, None without label."""

    shape: tuple[int, ...]
    is_colour: bool
    spacing: tuple[float, float, float] | None
    counts: np.ndarray | None
    digests: list[str]
    problems: list[tuple[str, str]]


def survey_scans(folder: Path, options: ScanOptions, list_file: str | os.PathLike | None = None,
                 training: bool = False) -> ScanSurvey:
    """Reads every scan of a folder and goes on past all defects.

    Args:
        list_file: as of `find_scans`.
        training: labels are a must, and one of them has to show a class.

    Raises:
        UserError: there is no scan, or a name of the list is missing.
    """
    scans, defects = look_for_scans(folder, list_file)
    survey = ScanSurvey(Path(folder), options.num_class, len(scans))
    for defect in defects:
        alone = defect.kind.endswith(("without label", "without image"))
        survey.add(defect.kind, defect.path, "" if alone else defect.detail.split("; ")[0])
    for path in sorted({path for scan in scans for path in list_folder(scan.image.parent)}):
        if path.is_file() and not scan_files.kind_of(path) and path.suffix not in LISTS:
            survey.add("no scan file", path)
    contents = prefetch(lambda scan: _content(scan, options), scans, WORKERS, ahead=2 * WORKERS)
    read = list(zip(scans, track(contents, len(scans), f"checking {survey.root.name}", "scans")))
    for scan, content in read:
        survey.groups.setdefault(scan.group, []).append(scan.image)
        for kind, detail in content.problems:
            survey.add(kind, scan.label if "label" in kind else scan.image, detail)
        if content.shape:
            _note(survey, scan, content, training)
    _compare(survey, [(scan, content) for scan, content in read if content.shape], training)
    return survey


def find_scan_copies(surveys: list[ScanSurvey]) -> None:
    """Adds scans that share slices or patients with an earlier set, or slices with others of their own."""
    seen: dict[str, tuple[int, Path]] = {}
    patients: dict[str, Path] = {}
    for number, survey in enumerate(surveys):
        for path, digests in survey.digests.items():
            firsts = Counter(seen.setdefault(digest, (number, path)) for digest in digests)
            for (first, original), count in firsts.items():
                place = os.path.relpath(original, surveys[first].root.parent)
                where = f"{count} of {len(digests)} slices as in {place}"
                if first != number:
                    survey.add("image of another set", path, where)
                elif original != path:
                    survey.add("image twice", path, where)
        for group, paths in survey.groups.items():
            first = patients.setdefault(group, survey.root)
            if first is not survey.root:
                survey.add("patient of another set", paths[0], f"{group}, as in {first.name}")


def _content(scan: Scan, options: ScanOptions) -> Content:
    """Everything about a scan; without a shape where it cannot be read."""
    problems: list[tuple[str, str]] = []
    options = replace(options, num_class=MAX_CLASSES)  # unknown labels are counted and then told
    try:
        try:
            pixels = read_scan(scan, options)
        except ScaleError as error:
            problems.append(("unscaled image", _reason(error, scan)))
            pixels = read_scan(scan, replace(options, window=(0.0, 1.0)))
        if scan.kind == "nifti" and scan.label is not None:
            problems += _apart(scan, scan_files.image_shape(scan.kind, scan.image))
    except UserError as error:
        kind = next((kind for type_, kind in KINDS_OF_ERRORS if isinstance(error, type_)), "unreadable")
        return Content((), False, None, None, [], [*problems, (kind, _reason(error, scan))])
    slices = [each for each in pixels.image if each.min() < each.max()]
    if not slices and not problems:
        problems.append(("constant image", ""))
    labels = pixels.labels
    counts = None if labels is None else np.bincount(labels.ravel(), minlength=MAX_CLASSES)
    digests = [hashlib.sha256(repr(each.shape).encode() + each.tobytes()).hexdigest() for each in slices]
    depth, channels, *size = pixels.image.shape
    shape = (depth, *size) if scan.is_volume else tuple(size)
    return Content(shape, channels == 3, pixels.spacing, counts, digests, problems)


def _reason(error: UserError, scan: Scan) -> str:
    """What an error says, without the file and the advice."""
    text = str(error)
    for path in (scan.image, scan.label):
        text = text.removeprefix(f"{path}: ")
    return text.split("; ")[0]


def _apart(scan: Scan, shape: tuple[int, ...]) -> list[tuple[str, str]]:
    """Whether the headers of a NIfTI and its label put the last voxel of a ``shape`` at different places."""
    image, label = scan_files.nifti_affine(scan.image), scan_files.nifti_affine(scan.label)
    apart = np.abs((image - label) @ np.diag([*shape, 1])).sum(1).max()
    return [("label elsewhere", f"by up to {apart:.3g} mm")] if apart > APART_MM else []


def _note(survey: ScanSurvey, scan: Scan, content: Content, training: bool) -> None:
    """Adds a scan to the counts."""
    survey.slices += content.shape[0] if scan.is_volume else 1
    survey.sizes["x".join(map(str, content.shape))] += 1
    survey.spacings[content.spacing and tuple(round(size, 3) for size in content.spacing)] += 1
    survey.digests[scan.image] = content.digests
    if content.counts is None:
        if training:
            survey.add("image without label", scan.image)
        return
    known = content.counts[:survey.classes]
    survey.voxels += known
    survey.scans_with += known > 0
    unknown = np.flatnonzero(content.counts[survey.classes:]) + survey.classes
    if len(unknown):
        survey.add("unknown label", scan.label, f"{name_some(list(map(str, unknown)))} in "
                                               f"{content.counts[unknown].sum()} voxels")
    elif not known[1:].any():
        survey.add("empty label", scan.label)


def _compare(survey: ScanSurvey, read: list[tuple[Scan, Content]], training: bool) -> None:
    """Adds what shows when the scans of a set are held against each other."""
    for scan, content in read:
        if content.is_colour and not all(other.is_colour for _, other in read):
            survey.add("colour among grey", scan.image)
        if content.spacing is None and set(survey.spacings) != {None}:
            survey.add("without spacing", scan.image)
    if not survey.scans_with.any():
        return
    if not survey.scans_with[1:].any():
        if training:
            survey.add("no class in any label", survey.root)
        return
    for number in np.flatnonzero(survey.scans_with == 0):
        survey.add("class in no label", survey.root, f"class {number}")

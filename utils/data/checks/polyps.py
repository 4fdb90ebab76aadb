"""Looks through a data set and lists everything that is wrong or remarkable with it."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np

from utils.data.image_io import IMAGE_SUFFIXES, describe, list_folder, read_grey, read_levels, read_rgb
from utils.errors import UserError
from utils.parallel import WORKERS, prefetch
from utils.progress import track

ERRORS = {
    "image without mask": "give it a mask, or take it out",
    "mask without image": "give it an image, or take it out",
    "same stem": "images and masks are paired by stem, so keep one",
    "unreadable": "replace it, or take the pair out",
    "mask of another size": "give image and mask the same size",
    "no polyp in any mask": "labels 0 and 1 must be multiplied by 255",
}
WARNINGS = {
    "no image file": "left out",
    "coloured mask": "training takes its brightness, evaluate refuses it",
    "grey mask": "has levels besides 0 and 255: training takes them as is, evaluate cuts at mid-grey",
    "faint mask": "has a mark, but none above mid-grey",
    "empty mask": "a frame without polyp",
    "full mask": "polyp everywhere",
    "image twice": "has the same pixels as another of the set",
    "image of another set": "has the same pixels: what is trained on must not be tested on",
}
"""Kinds of findings in their order, and what they mean. Errors stop training or evaluation."""

SOURCES = {"Kvasir": re.compile("c[0-9a-z]{24}"), "CVC-ClinicDB": re.compile(r"\d+")}
"""The sources of the benchmark's training set by the files' stems; not all of Kvasir's begin with cju."""


@dataclass(frozen=True)
class Finding:
    """One thing about one file, its path given from the set's folder."""

    file: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.file} ({self.detail})" if self.detail else self.file


@dataclass
class Findings:
    """The findings in the set of a folder.

    Attributes:
        errors, warnings: kinds of findings and what they mean.
        findings: by kind, every kind that there is, in the order of both.
    """

    errors: ClassVar[dict[str, str]]
    warnings: ClassVar[dict[str, str]]
    root: Path
    findings: dict[str, list[Finding]] = field(init=False)

    def __post_init__(self):
        self.findings = {kind: [] for kind in (*self.errors, *self.warnings)}

    @property
    def error_count(self) -> int:
        """The number of findings that stop training or evaluation."""
        return sum(len(self.findings[kind]) for kind in self.errors)

    def add(self, kind: str, path: Path, detail: str = "") -> None:
        self.findings[kind].append(Finding(os.path.relpath(path, self.root), detail))


@dataclass
class Survey(Findings):
    """What a set of images and masks consists of.

    Attributes:
        sources, sizes: how many images each has; sizes as "WIDTHxHEIGHT", sources of a training set alone.
        pixels: digest of the pixels of every readable image, by its path from the set's folder.
    """

    errors, warnings = ERRORS, WARNINGS
    images: int
    masks: int
    sources: Counter = field(default_factory=Counter)
    sizes: Counter = field(default_factory=Counter)
    pixels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """What was read of a file: (width, height); of an image its digest; of a mask its histogram."""

    size: tuple[int, int]
    digest: str = ""
    levels: np.ndarray | None = None
    colours: str = ""


def survey_pairs(root: Path, training: bool = False) -> Survey:
    """Reads every file of ``root``/images and ``root``/masks and goes on past all defects.

    Args:
        training: masks are a must, and one of them has to show a polyp. A set to test on may do without.

    Raises:
        UserError: one of the folders is missing, or there is no image.
    """
    with_masks = training or (root / "masks").is_dir()
    inside = [list_folder(root / "images"), list_folder(root / "masks") if with_masks else []]
    images, masks = map(_by_stem, inside)
    if not images:
        raise UserError(f"{root / 'images'}: holds no image; it holds {describe(inside[0])}")
    survey = Survey(root, sum(map(len, images.values())), sum(map(len, masks.values())))
    if training:
        survey.sources.update(map(source_of, images))
    for path in chain(*inside):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            survey.add("no image file", path)
    for files in (images, masks):
        for path, *others in files.values():
            for other in others:
                survey.add("same stem", other, f"as {path.name}")
    if with_masks:
        _compare_stems(survey, images, masks)
    pictures = _read_all(survey, images, masks)
    _check_masks(survey, images, masks, pictures)
    if training:
        _require_a_polyp(survey, [pictures[path] for path, *_ in masks.values() if path in pictures])
    return survey


def find_copies(surveys: Iterable[Survey]) -> None:
    """Adds the images that a set holds twice, and those that are in an earlier set already."""
    seen: dict[str, tuple[Survey, str]] = {}
    for survey in surveys:
        for file, digest in survey.pixels.items():
            first, original = seen.setdefault(digest, (survey, file))
            if first is not survey:
                survey.add("image of another set", survey.root / file, f"{first.root.name}/{original}")
            elif original != file:
                survey.add("image twice", survey.root / file, f"as {original}")


def source_of(stem: str) -> str:
    """The data set that an image of the benchmark's training set is from; else what its name begins with."""
    for source, pattern in SOURCES.items():
        if pattern.fullmatch(stem):
            return source
    return re.split(r"\d", stem, maxsplit=1)[0].strip("_- ") or "other"


def _by_stem(paths: list[Path]) -> dict[str, list[Path]]:
    files = defaultdict(list)
    for path in paths:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            files[path.stem].append(path)
    return files


def _compare_stems(survey: Survey, images: dict[str, list[Path]], masks: dict[str, list[Path]]) -> None:
    for kind, files, others in (("image without mask", images, masks), ("mask without image", masks, images)):
        for stem, paths in files.items():
            if stem not in others:
                survey.add(kind, paths[0])


def _read_all(survey: Survey, images: dict[str, list[Path]], masks: dict[str, list[Path]],
              ) -> dict[Path, Picture]:
    """What every readable file shows; the others are findings. The images' sizes and digests are noted."""
    jobs = [(read, path) for read, files in ((_read_image, images), (_read_mask, masks))
            for path in chain(*files.values())]
    pictures = {}
    results = prefetch(_attempt, jobs, WORKERS, ahead=4 * WORKERS)
    for (_, path), picture in zip(jobs, track(results, len(jobs), f"checking {survey.root.name}", "files")):
        if isinstance(picture, str):
            survey.add("unreadable", path, picture)
            continue
        pictures[path] = picture
        if picture.digest:
            survey.sizes["{}x{}".format(*picture.size)] += 1
            survey.pixels[str(path.relative_to(survey.root))] = picture.digest
    return pictures


def _attempt(job) -> Picture | str:
    """The picture, or why it cannot be read."""
    read, path = job
    try:
        return read(path)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ").split("; ")[0]


def _read_image(path: Path) -> Picture:
    image = read_rgb(path)
    return Picture(image.size, hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest())


def _read_mask(path: Path) -> Picture:
    grey, colours = read_grey(path), ""  # as training takes it
    try:
        read_levels(path)  # as evaluate takes it
    except UserError as error:
        colours = str(error).removeprefix(f"{path}: ").split(", ")[0]
    return Picture(grey.size, levels=np.array(grey.histogram()), colours=colours)


def _check_masks(survey: Survey, images: dict[str, list[Path]], masks: dict[str, list[Path]],
                 pictures: dict[Path, Picture]) -> None:
    for stem, (path, *_) in masks.items():
        mask = pictures.get(path)
        if mask is None:
            continue
        image = pictures.get(images[stem][0]) if stem in images else None
        if image is not None and image.size != mask.size:
            survey.add("mask of another size", path, "{}x{}, its image {}x{}".format(*mask.size, *image.size))
        if mask.colours:
            survey.add("coloured mask", path, mask.colours)
        between, total = int(mask.levels[1:255].sum()), int(mask.levels.sum())
        if between:
            levels = np.count_nonzero(mask.levels[1:255])
            survey.add("grey mask", path, f"{levels} levels in {100 * between / total:.1f} % of it")
        if mask.levels[0] == total:
            survey.add("empty mask", path)
        elif _brightest(mask) < 128:
            survey.add("faint mask", path, f"up to {_brightest(mask)} of 255")
        elif not mask.levels[:128].any():
            survey.add("full mask", path)


def _require_a_polyp(survey: Survey, masks: list[Picture]) -> None:
    """Adds a finding where training would learn that there are no polyps."""
    brightest = max(map(_brightest, masks), default=255)
    if brightest < 128:
        survey.add("no polyp in any mask", survey.root / "masks", f"none is brighter than {brightest} of 255")


def _brightest(mask: Picture) -> int:
    return int(np.flatnonzero(mask.levels)[-1])

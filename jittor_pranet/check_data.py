"""The program `check-data`: lists what is wrong or remarkable with data sets before hours are spent on them.

Exit code: 0 if the sets can be used, 1 if a finding stops training or evaluation, 2 for a wrong path.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from jittor_pranet.cli.scan_options import add_scan_arguments, scan_options_of
from jittor_pranet.cli.task_flags import check_task_flags
from utils.data.checks.polyps import Findings, Survey, find_copies, survey
from utils.data.checks.scans import ScanSurvey, find_scan_copies, survey_scans
from utils.data.image_io import name_some
from utils.data.polyps import find_test_sets, training_folder
from utils.data.scan_sets import scan_set_folders
from utils.files import atomic_write

FORMAT = 1  # of the JSON


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = argparse.SUPPRESS  # keeps "(default: None)" out of the help
    parser.add_argument("--task", choices=("binary", "multiclass"), default="binary",
                        help="images with masks, or scans with label maps")
    parser.add_argument("--train_path", required=True, metavar="DIR", default=default,
                        help="folder with images/ and masks/, paired by the files' stems; multiclass: with "
                             "scans")
    parser.add_argument("--test_path", metavar="DIR", default=None,
                        help="folder with one folder per test set, each with images/, or of scans: to be "
                             "looked through too, and for images that are trained on")
    parser.add_argument("--json", type=Path, metavar="FILE", default=None,
                        help="write all findings to FILE; the lines on the screen name the first few")
    multiclass = parser.add_argument_group("multiclass")
    add_scan_arguments(multiclass)
    multiclass.add_argument("--train_list", metavar="FILE", default=None,
                            help="text file with the names of the scans to take; all if left out")
    multiclass.add_argument("--test_list", metavar="FILE", default=None, help="the same of --test_path")


def run(args: argparse.Namespace) -> int:
    surveys = scan_surveys(args) if args.task == "multiclass" else pair_surveys(args)
    for found in surveys:
        print("\n".join(lines(found)))
    stops = sum(found.stops for found in surveys)
    if args.json:
        text = json.dumps({"format": FORMAT, "stops": stops, "sets": list(map(as_dict, surveys))}, indent=1)
        with atomic_write(args.json) as file:
            file.write(text.encode())
    print(f"\nstopping training or evaluation: {stops} findings, marked !" if stops else
          "\nnothing stops training or evaluation")
    return 1 if stops else 0


def pair_surveys(args: argparse.Namespace) -> list[Survey]:
    """The training set and the test sets of images and masks."""
    check_task_flags("check-data", args.task, vars(args))
    surveys = [survey(training_folder(args.train_path), training=True)]
    if args.test_path:
        surveys += [survey(images.parent) for images in find_test_sets(args.test_path).values()]
    find_copies(surveys)
    return surveys


def scan_surveys(args: argparse.Namespace) -> list[ScanSurvey]:
    """The training set and the test sets of scans."""
    options = scan_options_of(args)
    surveys = [survey_scans(Path(args.train_path), options, args.train_list, training=True)]
    if args.test_path:
        surveys += [survey_scans(folder, options, args.test_list)
                    for folder in scan_set_folders(args.test_path).values()]
    find_scan_copies(surveys)
    return surveys


def lines(found: Findings) -> list[str]:
    """A set in words, a line for each kind of finding."""
    def line(mark: str, kind: str, text: str) -> str:
        return f"{mark} {kind:<23}{text}"

    headline, *facts = scan_facts(found) if isinstance(found, ScanSurvey) else pair_facts(found)
    told = [f"\n{found.root}: {headline}", *(line(" ", *fact) for fact in facts)]
    for mark, kinds in (("!", found.stopping), (" ", found.remarkable)):
        for kind, meaning in kinds.items():
            if found.findings[kind]:
                names = name_some([str(finding) for finding in found.findings[kind]], most=3)
                told.append(line(mark, kind, f"{len(found.findings[kind])}: {names}; {meaning}"))
    return told


def pair_facts(found: Survey) -> list:
    """What a set of images and masks consists of: a headline, then what and which."""
    sources = [("sources", counted(found.sources))] if found.sources else []
    return [f"{found.images} images, {found.masks} masks", *sources, ("sizes", counted(found.sizes))]


def scan_facts(found: ScanSurvey) -> list:
    """What a set of scans consists of: a headline, then what and which."""
    spacings = Counter({"x".join(f"{size:g}" for size in spacing) + " mm" if spacing else "none": count
                        for spacing, count in found.spacings.items()})
    longest = max((max(spacing) / min(spacing) for spacing in found.spacings if spacing), default=1)
    spread = f"; one side of a voxel up to {longest:.1f} times another" if longest > 1 else ""
    total = max(found.voxels.sum(), 1)
    classes = [f"{number}: {100 * voxels / total:.2f} % in {shown} scans"
               for number, (voxels, shown) in enumerate(zip(found.voxels, found.shown))]
    return [f"{found.scans} scans, {found.slices} slices, {len(found.groups)} patients by name",
            ("sizes", counted(found.sizes)), ("spacing", counted(spacings) + spread),
            ("classes", "; ".join(classes))]


def counted(counter: Counter) -> str:
    return name_some([f"{name} ({count})" for name, count in counter.most_common()])


def as_dict(found: Findings) -> dict:
    """A set for scripts, with every kind of finding, also those that there are none of."""
    if isinstance(found, ScanSurvey):
        content = {"scans": found.scans, "slices": found.slices, "patients": len(found.groups),
                   "spacings": [{"mm": spacing, "scans": count} for spacing, count in found.spacings.items()],
                   "voxels": found.voxels.tolist(), "scans_with_class": found.shown.tolist()}
    else:
        content = {"images": found.images, "masks": found.masks, "sources": dict(found.sources)}
    return {"path": str(found.root), "stops": found.stops, "sizes": dict(found.sizes), **content,
            "findings": {kind: [asdict(finding) for finding in findings]
                         for kind, findings in found.findings.items()}}

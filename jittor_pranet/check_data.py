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
from utils.data.checks.polyps import Findings, Survey, find_copies, survey_pairs
from utils.data.checks.scans import ScanSurvey, find_scan_copies, survey_scans
from utils.data.image_io import name_some
from utils.data.polyps import find_test_sets, training_folder
from utils.data.scan_sets import scan_set_folders
from utils.data.scans import ScanOptions
from utils.errors import UserError
from utils.files import atomic_write
from utils.outputs import check_output_file

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
    parser.add_argument("--overwrite", action="store_true", help="write over the file of --json")
    multiclass = parser.add_argument_group("multiclass")
    add_scan_arguments(multiclass)
    multiclass.add_argument("--train_list", metavar="FILE", default=None,
                            help="text file with the names of the scans to take; all if left out")
    multiclass.add_argument("--test_list", metavar="FILE", default=None, help="the same of --test_path")


def run(args: argparse.Namespace) -> int:
    check_task_flags("check-data", args.task, vars(args))
    if args.test_list and not args.test_path:
        raise UserError("--test_list: names scans of --test_path, which is not given")
    if args.json:
        check_output_file(args.json, filter(None, [args.train_path, args.test_path]), args.overwrite)
    if args.task == "multiclass":
        surveys = scan_surveys(args.train_path, args.test_path, scan_options_of(args), args.train_list,
                               args.test_list)
    else:
        surveys = pair_surveys(args.train_path, args.test_path)
    for each in surveys:
        print("\n".join(lines(each)))
    stops = sum(each.error_count for each in surveys)
    if args.json:
        text = json.dumps({"format": FORMAT, "stops": stops, "sets": list(map(as_dict, surveys))}, indent=1)
        with atomic_write(args.json) as file:
            file.write(text.encode())
    print(f"\nstopping training or evaluation: {stops} findings, marked !" if stops else
          "\nnothing stops training or evaluation")
    return 1 if stops else 0


def pair_surveys(train_path: str, test_path: str | None) -> list[Survey]:
    """The training set and the test sets of images and masks."""
    surveys = [survey_pairs(training_folder(train_path), training=True)]
    if test_path:
        surveys += [survey_pairs(images.parent) for images in find_test_sets(test_path).values()]
    find_copies(surveys)
    return surveys


def scan_surveys(train_path: str, test_path: str | None, options: ScanOptions, train_list: str | None,
                 test_list: str | None) -> list[ScanSurvey]:
    """The training set and the test sets of scans."""
    surveys = [survey_scans(Path(train_path), options, train_list, training=True)]
    if test_path:
        surveys += [survey_scans(folder, options, test_list)
                    for folder in scan_set_folders(test_path).values()]
    find_scan_copies(surveys)
    return surveys


def lines(survey: Findings) -> list[str]:
    """A set in words, a line for each kind of finding."""
    def line(mark: str, kind: str, text: str) -> str:
        return f"{mark} {kind:<23}{text}"

    headline, *facts = scan_facts(survey) if isinstance(survey, ScanSurvey) else pair_facts(survey)
    rows = [f"\n{survey.root}: {headline}", *(line(" ", *fact) for fact in facts)]
    for mark, kinds in (("!", survey.errors), (" ", survey.warnings)):
        for kind, meaning in kinds.items():
            if survey.findings[kind]:
                names = name_some([str(finding) for finding in survey.findings[kind]], limit=3)
                rows.append(line(mark, kind, f"{len(survey.findings[kind])}: {names}; {meaning}"))
    return rows


def pair_facts(survey: Survey) -> list:
    """What a set of images and masks consists of: a headline, then what and which."""
    sources = [("sources", counted(survey.sources))] if survey.sources else []
    return [f"{survey.images} images, {survey.masks} masks", *sources, ("sizes", counted(survey.sizes))]


def scan_facts(survey: ScanSurvey) -> list:
    """What a set of scans consists of: a headline, then what and which."""
    spacings = Counter({"x".join(f"{size:g}" for size in spacing) + " mm" if spacing else "none": count
                        for spacing, count in survey.spacings.items()})
    longest = max((max(spacing) / min(spacing) for spacing in survey.spacings if spacing), default=1)
    spread = f"; one side of a voxel up to {longest:.1f} times another" if longest > 1 else ""
    total = max(survey.voxels.sum(), 1)
    classes = [f"{number}: {100 * voxels / total:.2f} % in {shown} scans"
               for number, (voxels, shown) in enumerate(zip(survey.voxels, survey.scans_with))]
    return [f"{survey.scans} scans, {survey.slices} slices, {len(survey.groups)} patients by name",
            ("sizes", counted(survey.sizes)), ("spacing", counted(spacings) + spread),
            ("classes", "; ".join(classes))]


def counted(counter: Counter) -> str:
    return name_some([f"{name} ({count})" for name, count in counter.most_common()])


def as_dict(survey: Findings) -> dict:
    """A set for scripts, with every kind of finding, also those that there are none of."""
    if isinstance(survey, ScanSurvey):
        content = {"scans": survey.scans, "slices": survey.slices, "patients": len(survey.groups),
                   "spacings": [{"mm": spacing, "scans": count}
                                for spacing, count in survey.spacings.items()],
                   "voxels": survey.voxels.tolist(), "scans_with_class": survey.scans_with.tolist()}
    else:
        content = {"images": survey.images, "masks": survey.masks, "sources": dict(survey.sources)}
    return {"path": str(survey.root), "stops": survey.error_count, "sizes": dict(survey.sizes), **content,
            "findings": {kind: [asdict(finding) for finding in findings]
                         for kind, findings in survey.findings.items()}}

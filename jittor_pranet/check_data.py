"""The program `check-data`: lists what is wrong or remarkable with data sets before hours are spent on them.

Exit code: 0 if the sets can be used, 1 if a finding stops training or evaluation, 2 for a wrong path.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from utils.dataset import find_test_sets, training_folder
from utils.files import write_whole
from utils.image_io import name_some
from utils.survey import REMARKABLE, STOPPING, Survey, find_copies, survey

FORMAT = 1  # of the JSON


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = argparse.SUPPRESS  # keeps "(default: None)" out of the help
    parser.add_argument("--train_path", required=True, metavar="DIR", default=default,
                        help="folder with images/ and masks/, paired by the files' stems")
    parser.add_argument("--test_path", metavar="DIR", default=None,
                        help="folder with one folder per test set, each with images/: to be looked through "
                             "too, and for images that are trained on")
    parser.add_argument("--json", type=Path, metavar="FILE", default=None,
                        help="write all findings to FILE; the lines on the screen name the first few")


def run(args: argparse.Namespace) -> int:
    surveys = [survey(training_folder(args.train_path), training=True)]
    if args.test_path:
        surveys += [survey(images.parent) for images in find_test_sets(args.test_path).values()]
    find_copies(surveys)
    for found in surveys:
        print("\n".join(lines(found)))
    stops = sum(found.stops for found in surveys)
    if args.json:
        text = json.dumps({"format": FORMAT, "stops": stops, "sets": list(map(as_dict, surveys))}, indent=1)
        with write_whole(args.json) as file:
            file.write(text.encode())
    print(f"\nstopping training or evaluation: {stops} findings, marked !" if stops else
          "\nnothing stops training or evaluation")
    return 1 if stops else 0


def lines(found: Survey) -> list[str]:
    """A set in words, a line for each kind of finding."""
    def line(mark: str, kind: str, text: str) -> str:
        return f"{mark} {kind:<21}{text}"

    told = [f"\n{found.root}: {found.images} images, {found.masks} masks",
            line(" ", "sizes", counted(found.sizes))]
    if found.sources:
        told.insert(1, line(" ", "sources", counted(found.sources)))
    for mark, kinds in (("!", STOPPING), (" ", REMARKABLE)):
        for kind, meaning in kinds.items():
            if found.findings[kind]:
                names = name_some([str(finding) for finding in found.findings[kind]], most=3)
                told.append(line(mark, kind, f"{len(found.findings[kind])}: {names}; {meaning}"))
    return told


def counted(counter: Counter) -> str:
    return name_some([f"{name} ({count})" for name, count in counter.most_common()])


def as_dict(found: Survey) -> dict:
    """A set for scripts, with every kind of finding, also those that there are none of."""
    return {"path": str(found.root), "images": found.images, "masks": found.masks, "stops": found.stops,
            "sources": dict(found.sources), "sizes": dict(found.sizes),
            "findings": {kind: [asdict(finding) for finding in findings]
                         for kind, findings in found.findings.items()}}

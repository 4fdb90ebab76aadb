"""The program `evaluate`: measures the maps of one or more methods and writes their scores."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jittor_pranet.cli.arguments import whole
from jittor_pranet.cli.scan_options import add_scan_arguments, scan_options_of
from jittor_pranet.cli.task_flags import check_task_flags
from jittor_pranet.evaluation.binary import BinaryTask
from jittor_pranet.evaluation.multiclass import MulticlassTask
from jittor_pranet.evaluation.task import Task
from jittor_pranet.evaluation.writer import FILES, write_results
from utils.errors import UserError
from utils.metrics.binary import MASK_RULES
from utils.metrics.multiclass import ABSENT_RULES
from utils.outputs import output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", choices=("binary", "multiclass"), default="binary",
        help="maps of one class, or label maps of several")
    add("--pred_root", type=Path, action="append", required=True, metavar="DIR",
        help="folder with a folder of maps per test set; give it again for each further method")
    add("--gt_root", type=Path, required=True, metavar="DIR",
        help="folder of the test sets: <set>/masks; multiclass: of sets of scans, or one itself")
    add("--datasets", nargs="+", metavar="SET", help="sets to measure; all in --gt_root if left out")
    add("--result_path", "--out", type=Path, metavar="DIR",
        help="folder for the scores; results/evaluation/<methods> if left out")
    add("--workers", type=whole(0), default=0, metavar="N",
        help="processes; 0 chooses by the number of images and CPUs")
    add("--compare", action="store_true", help="add the paper's scores and the difference to them")
    add("--thumbnails", type=whole(0), default=24, metavar="N",
        help="images that the report shows of each set and method, the worst first")
    add("--allow_missing", action="store_true",
        help="leave out maps that are missing, extra, unreadable or of another size, and say so")
    parser.add_argument_group("--task binary").add_argument(
        "--mask_rule", choices=MASK_RULES, default=None,
        help="mask levels that are polyp: mid, above 127, if left out; published, above 0, as in that code")
    group = parser.add_argument_group("--task multiclass")
    add_scan_arguments(group)
    group.add_argument("--absent", choices=ABSENT_RULES, default=None,
                       help="what counts where a class is not in both maps: sound if left out, see "
                            "docs/evaluation.md, or as published")
    group.add_argument("--test_list", type=Path, default=None, metavar="FILE",
                       help="text file with the names of the scans to measure; all if left out")
    group.add_argument("--class_names", nargs="+", default=None, metavar="NAME",
                       help="names of the classes but the background; their numbers if left out")


def run(args: argparse.Namespace) -> int:
    check_task_flags("evaluate", args.task, vars(args))
    methods = name_methods(args.pred_root)
    folder = args.result_path or Path("results", "evaluation", "+".join(methods))
    task = _task(args)
    maps = [root / name for root in methods.values() for name in task.folders]
    with output_folder(folder, FILES, [*task.folders.values(), *maps], "evaluate"):
        scores = task.evaluate(methods, args.workers, args.allow_missing)
        tables = task.tables(scores)
        if args.compare:
            tables += [task.paper_table(scores, method) for method in methods]
        notes = task.notes(scores)
        files = write_results(folder, task, scores, methods, tables, notes, args.thumbnails)

    print("\n\n".join(table.text() for table in tables))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"\nwritten to {folder}: {', '.join(files)}")
    return 0


def name_methods(roots: list[Path]) -> dict[str, Path]:
    """Names each folder of maps by its last part, or by all of its path where two end alike.

    Raises:
        UserError: a folder is given twice.
    """
    resolved = [root.resolve() for root in roots]
    for place, root in enumerate(resolved):
        if root in resolved[:place]:
            raise UserError(f"--pred_root {roots[place]}: is given twice; give each method once")
    names = [root.name for root in resolved]
    if len(set(names)) < len(names):
        names = [str(root).strip("/").replace("/", "_") for root in resolved]
    return dict(zip(names, roots))


def _task(args: argparse.Namespace) -> Task:
    if args.task == "multiclass":
        return MulticlassTask(args.gt_root, args.datasets, args.test_list, scan_options_of(args),
                              args.class_names, args.absent or "sound")
    return BinaryTask(args.gt_root, args.datasets, args.mask_rule or "mid")

"""The program `evaluate`: measures the maps of one or more methods and writes the figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jittor_pranet.cli.arguments import whole
from jittor_pranet.cli.scan_options import add_scan_arguments
from jittor_pranet.cli.task_flags import check_task_flags
from jittor_pranet.evaluation.results import name_methods, write_csv, write_summary
from jittor_pranet.reports.binary import write_report
from utils.files import atomic_write
from utils.metrics.binary import MASK_RULES, METRICS, THRESHOLDS
from utils.metrics.evaluation import evaluate, find_datasets
from utils.metrics.multiclass import ABSENT_RULES
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table, notes, paper_table, results_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", choices=("binary", "multiclass"), default="binary",
        help="maps of one class, or label maps of several")
    add("--pred_root", type=Path, action="append", required=True, metavar="DIR",
        help="folder with a folder of maps per test set; give it again for each further method")
    add("--gt_root", type=Path, required=True, metavar="DIR",
        help="folder of the test sets: <set>/masks; multiclass: of sets of scans, or one itself")
    add("--datasets", nargs="+", metavar="SET", help="sets to measure; all in --gt_root if left out")
    add("--result_path", type=Path, metavar="DIR",
        help="folder for the figures; results/evaluation/<methods> if left out")
    add("--workers", type=whole(0), default=0, metavar="N",
        help="processes; 0 chooses by the number of images and CPUs")
    add("--compare", action="store_true", help="add the paper's figures and the difference to them")
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
    if args.task == "multiclass":
        from jittor_pranet.evaluation.multiclass import measure
    else:
        measure = measure_maps
    tables, remarks, files = measure(args, methods, folder)

    print("\n\n".join(table.text() for table in tables))
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(f"\nwritten to {folder}: {', '.join(files)}")
    return 0


def measure_maps(args: argparse.Namespace, methods: dict[str, Path], folder: Path,
                 ) -> tuple[list[Table], list[str], list[str]]:
    """Measures maps of one class and writes the figures. Returns tables, remarks, names of the files."""
    datasets, mask_rule = find_datasets(args.gt_root, args.datasets), args.mask_rule or "mid"
    scores = evaluate(methods, args.gt_root, datasets, mask_rule, args.workers, args.allow_missing)

    tables = [results_table(scores, mask_rule)]
    if args.compare:
        tables += [paper_table(scores, method) for method in methods]
    remarks = notes(scores)
    files = write_results(folder, scores, methods, mask_rule)
    write_report(folder / "report.html", scores, tables, remarks, args.gt_root, args.thumbnails)
    return tables, remarks, [*files, "report.html"]


# ---------------------------------------------------------------- files


def write_results(folder: Path, scores: list[SetScores], methods: dict[str, Path],
                  mask_rule: str) -> list[str]:
    """Writes the figures in place of older ones. Returns the files' names."""
    write_summary(folder / "summary.json", scores, methods, set_summary, mask_rule=mask_rule)
    write_csv(folder / "summary.csv", ["method", "dataset", *set_summary(scores[0])],
              ({"method": entry.method, "dataset": entry.dataset, **set_summary(entry)} for entry in scores))
    write_csv(folder / "per_image.csv", ["method", "dataset", "image", *METRICS, "brightest", "undefined"],
              (row for entry in scores for row in _image_rows(entry)))
    curves = {f"{entry.method}/{entry.dataset}/{name}": curve
              for entry in scores for name, curve in entry.metrics.curves().items()}
    with atomic_write(folder / "curves.npz") as file:
        np.savez(file, thresholds=THRESHOLDS, **curves)
    return ["summary.json", "summary.csv", "per_image.csv", "curves.npz"]


def set_summary(entry: SetScores) -> dict[str, float | int]:
    """The set's figures (fractions of 1), images scored, masks there are, images with undefined figures."""
    undefined = {f"undefined_{name}": count for name, count in entry.metrics.undefined.items()}
    return {**entry.metrics.result(), "images": entry.metrics.images, "masks": entry.truths, **undefined}


def _image_rows(entry: SetScores) -> Iterable[dict]:
    for pair, figures in zip(entry.pairs, entry.figures):
        yield {"method": entry.method, "dataset": entry.dataset, "image": pair.map.name,
               **figures.result(), "brightest": figures.brightest, "undefined": " ".join(figures.undefined)}

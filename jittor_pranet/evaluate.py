"""The program `evaluate`: measures the maps of one or more methods and writes the figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jittor_pranet.options import whole
from jittor_pranet.report import write_report
from jittor_pranet.results import name_methods, write_csv, write_summary
from utils.evaluation import evaluate, find_datasets
from utils.files import write_whole
from utils.metrics import MASK_RULES, MEASURES, THRESHOLDS
from utils.scoring import SetScores
from utils.tables import notes, paper_table, results_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--pred_root", type=Path, action="append", required=True, metavar="DIR",
        help="folder with a folder of maps per test set; give it again for each further method")
    add("--gt_root", type=Path, required=True, metavar="DIR", help="folder of the test sets: <set>/masks")
    add("--datasets", nargs="+", metavar="SET", help="sets to measure; all in --gt_root if left out")
    add("--result_path", type=Path, metavar="DIR",
        help="folder for the figures; results/evaluation/<methods> if left out")
    add("--mask_rule", choices=MASK_RULES, default="mid",
        help="mask levels that are polyp: above 127, or as in the published code above 0")
    add("--workers", type=whole(0), default=0, metavar="N",
        help="processes; 0 chooses by the number of images and CPUs")
    add("--compare", action="store_true", help="add the paper's Table 1 and the difference to it")
    add("--thumbnails", type=whole(0), default=24, metavar="N",
        help="images that the report shows of each set and method, the worst first")
    add("--allow_missing", action="store_true",
        help="leave out maps that are missing, extra, unreadable or of another size, and say so")


def run(args: argparse.Namespace) -> int:
    methods = name_methods(args.pred_root)
    result_path = args.result_path or Path("results", "evaluation", "+".join(methods))
    datasets = find_datasets(args.gt_root, args.datasets)
    scores = evaluate(methods, args.gt_root, datasets, args.mask_rule, args.workers, args.allow_missing)

    tables = [results_table(scores, args.mask_rule)]
    if args.compare:
        tables += [paper_table(scores, method) for method in methods]
    remarks = notes(scores)
    write_results(result_path, scores, methods, args.mask_rule)
    write_report(result_path / "report.html", scores, tables, remarks, args.gt_root, args.thumbnails)

    print("\n\n".join(table.text() for table in tables))
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(f"\nwritten to {result_path}: summary.json, summary.csv, per_image.csv, curves.npz, report.html")
    return 0


# ---------------------------------------------------------------- files


def write_results(folder: Path, scores: list[SetScores], methods: dict[str, Path], mask_rule: str) -> None:
    """Writes summary.json, summary.csv, per_image.csv and curves.npz in place of older ones."""
    write_summary(folder / "summary.json", scores, methods, set_summary, mask_rule=mask_rule)
    write_csv(folder / "summary.csv", ["method", "dataset", *set_summary(scores[0])],
              ({"method": entry.method, "dataset": entry.dataset, **set_summary(entry)} for entry in scores))
    write_csv(folder / "per_image.csv", ["method", "dataset", "image", *MEASURES, "brightest", "undefined"],
              (row for entry in scores for row in _image_rows(entry)))
    curves = {f"{entry.method}/{entry.dataset}/{name}": curve
              for entry in scores for name, curve in entry.measures.curves().items()}
    with write_whole(folder / "curves.npz") as file:
        np.savez(file, thresholds=THRESHOLDS, **curves)


def set_summary(entry: SetScores) -> dict[str, float | int]:
    """The set's figures (fractions of 1), images scored, masks there are, images with undefined figures."""
    undefined = {f"undefined_{name}": count for name, count in entry.measures.undefined.items()}
    return {**entry.measures.result(), "images": entry.measures.images, "masks": entry.truths, **undefined}


def _image_rows(entry: SetScores) -> Iterable[dict]:
    for pair, figures in zip(entry.pairs, entry.figures):
        yield {"method": entry.method, "dataset": entry.dataset, "image": pair.map.name,
               **figures.result(), "brightest": figures.brightest, "undefined": " ".join(figures.undefined)}

"""Times each operation of lib.ops beside PyTorch's and beside the machine's copying of memory."""

from __future__ import annotations

import argparse

from jittor_pranet.benchmarks.comparison import OURS, Contest, Outcome
from jittor_pranet.benchmarks.op_tasks import op_tasks
from jittor_pranet.benchmarks.report import print_header, print_row
from jittor_pranet.benchmarks.roofline import copy_rate
from jittor_pranet.benchmarks.timing import paired_ratio, quartiles
from utils.progress import Progress

HEADER = ("operation", "pass", "program", "ms", "quartiles", "ours takes", "of the copy rate", "differs by")


def run(args: argparse.Namespace) -> int:
    tasks = op_tasks()
    contest = Contest.of(args)
    failed = False
    with Progress(len(tasks) * contest.turns, "timing", "turn") as progress, contest.contenders() as started:
        contest.introduce(started)
        rate = contest.report.content["copied_gb_per_s"] = copy_rate(started)
        print(f"copying: {rate:.1f} GB/s, read and written")
        print_header(*HEADER)
        for task in tasks:
            outcomes = contest.compete(started, task, progress)
            contest.report.row({"operation": task.case, "pass": task.direction,
                                "contenders": {name: each.as_json(outcomes[OURS])
                                               for name, each in outcomes.items()}})
            for name, outcome in outcomes.items():
                print_row(task.case, task.direction, name, *_cells(task, outcome, outcomes[OURS], rate))
            failed |= any(outcome.failure for outcome in outcomes.values())
    contest.report.complete()
    return int(failed)


def _cells(task, outcome: Outcome, ours: Outcome, rate: float) -> list[str]:
    """What stands behind the contender's name."""
    if outcome.failure:
        return [outcome.failure, "", "", "", ""]
    low, median, high = (f"{1e3 * seconds:.3g}" for seconds in quartiles(outcome.seconds))
    takes = differs = ""
    if outcome is not ours and not ours.failure:
        takes = f"{paired_ratio(ours.seconds, outcome.seconds):.2f}x"
        differs = f"{ours.differences(outcome)[0]:.0e}"
    gb_per_s = task.traffic(outcome.warm_up.outputs[0]) / 1e9 / outcome.median
    return [median, f"{low} to {high}", takes, f"{100 * gb_per_s / rate:.0f} %" if rate else "", differs]

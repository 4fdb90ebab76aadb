"""Times each operation of lib.ops beside PyTorch's and beside the machine's copying of memory."""

from __future__ import annotations

import functools

from jittor_pranet.benchmarks.comparison import Comparison, Options, Outcome
from jittor_pranet.benchmarks.op_tasks import op_tasks
from jittor_pranet.benchmarks.roofline import copy_rate
from jittor_pranet.benchmarks.timing import quartiles
from utils.progress import Progress

__all__ = ["Options", "run"]
HEADER = ("operation", "pass", "program", "ms", "quartiles", "ours takes", "of the copy rate", "differs by")


def run(options: Options) -> int:
    tasks = op_tasks()
    comparison = Comparison.of(options)
    report = comparison.report
    with Progress(len(tasks) * comparison.steps, "timing", "rounds") as progress, \
            comparison.processes() as processes:
        comparison.describe(processes)
        rate = report.content["copied_gb_per_s"] = copy_rate(processes)
        print(f"copying: {rate:.1f} GB/s, read and written")
        report.header(*HEADER)
        for task in tasks:
            outcomes = comparison.time(processes, task, progress)
            report.row({"operation": task.case, "pass": task.direction}, outcomes,
                       functools.partial(_cells, task, rate))
    return report.complete()


def _cells(task, rate: float, outcome: Outcome, jittor: Outcome) -> list[str]:
    gb_per_s = task.traffic(outcome.warm_up.outputs[0]) / 1e9 / quartiles(outcome.seconds)[1]
    differs = f"{jittor.differences(outcome)[0]:.0e}" if outcome.comparable_with(jittor) else ""
    return [*outcome.cells(jittor, 1e3, ".3g"), f"{100 * gb_per_s / rate:.0f} %" if rate else "", differs]

"""Times inference or training steps of the networks, beside PyTorch and beside what the machine can do."""

from __future__ import annotations

import functools

from jittor_pranet.benchmarks.comparison import Comparison, Options, Outcome
from jittor_pranet.benchmarks.network_tasks import Inference, TrainingStep, network_tasks
from jittor_pranet.benchmarks.report import JITTOR
from jittor_pranet.benchmarks.roofline import product_rate
from jittor_pranet.benchmarks.timing import quartiles
from utils.progress import Progress

__all__ = ["Options", "run"]
HEADER = ("network", "batch", "program", "ms per image", "quartiles", "ours takes", "peak MiB", "ours needs",
          "differs by", "warm-up s")


def run(options: Options) -> int:
    tasks = network_tasks(options.model_type, options.bs, options.testsize,
                          {"infer": Inference, "train": TrainingStep}[options.what])
    comparison = Comparison.of(options, size=options.testsize)
    report = comparison.report
    rate = 0.0  # of products, the best seen so far: the machine may be busy at times
    with Progress(len(tasks) * comparison.steps, "timing", "rounds") as progress:
        for task in tasks:
            with comparison.processes() as processes:
                outcomes = comparison.time(processes, task, progress)
                if task is tasks[0]:
                    comparison.describe(processes)
                    report.header(*HEADER)
                rate = report.content["gmac_per_s"] = max(rate, product_rate(processes, comparison.device))
            floor = task.gmac() / rate if rate else None
            report.row({"network": task.network, "batch": task.batch}, outcomes,
                       functools.partial(_cells, task), floor_seconds=floor)
            if floor:  # what the products of the network take by themselves
                jittor = outcomes[JITTOR]
                report.line(task.network, str(task.batch), f"floor: products at {rate:.0f} GMAC/s",
                            f"{1e3 * floor / task.batch:.4g}", "",
                            "" if jittor.failure else f"{quartiles(jittor.seconds)[1] / floor:.2f}x")
    return report.complete()


def _cells(task, outcome: Outcome, jittor: Outcome) -> list[str]:
    needs = differs = ""
    if outcome.comparable_with(jittor):
        needs = f"{jittor.peak / outcome.peak:.2f}x"
        differs = ", ".join(f"{each:.0e}" for each in jittor.differences(outcome)[:task.calls_compared])
    return [*outcome.cells(jittor, 1e3 / task.batch, ".4g"), f"{outcome.peak / 2**20:.0f}", needs, differs,
            f"{outcome.warm_up.seconds:.1f}"]

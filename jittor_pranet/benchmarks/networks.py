"""Times inference or training steps of the networks, beside PyTorch and beside what the machine can do."""

from __future__ import annotations

import argparse

from jittor_pranet.benchmarks.comparison import OURS, Contest, Outcome
from jittor_pranet.benchmarks.network_tasks import Inference, TrainingStep, network_tasks
from jittor_pranet.benchmarks.report import print_header, print_row
from jittor_pranet.benchmarks.roofline import product_rate
from jittor_pranet.benchmarks.timing import paired_ratio, quartiles
from utils.progress import Progress

HEADER = ("network", "batch", "program", "ms per image", "quartiles", "ours takes", "peak MiB", "ours needs",
          "differs by", "warm-up s")


def run(args: argparse.Namespace) -> int:
    tasks = network_tasks(args, {"infer": Inference, "train": TrainingStep}[args.what])
    contest = Contest.of(args, size=args.testsize)
    rate, failed = 0.0, False  # the rate of products, the best seen so far: the machine may be busy at times
    with Progress(len(tasks) * contest.turns, "timing", "turn") as progress:
        for task in tasks:
            with contest.contenders() as started:
                outcomes = contest.compete(started, task, progress)
                if task is tasks[0]:
                    contest.introduce(started)
                    print_header(*HEADER)
                rate = contest.report.content["gmac_per_s"] = max(rate, product_rate(started, contest.device))
            floor = task.gmac() / rate if rate else None
            contest.report.row({
                "network": task.network, "batch": task.batch, "floor_seconds": floor,
                "contenders": {name: each.as_json(outcomes[OURS]) for name, each in outcomes.items()}})
            for name, each in outcomes.items():
                print_row(task.network, str(task.batch), name, *_cells(task, each, outcomes[OURS]))
            if floor:
                _print_floor(task, floor, rate, outcomes[OURS])
            failed |= any(outcome.failure for outcome in outcomes.values())
    contest.report.complete()
    return int(failed)


def _print_floor(task, floor: float, rate: float, ours: Outcome) -> None:
    """What the products of the network take by themselves."""
    takes = "" if ours.failure else f"{ours.median / floor:.2f}x"
    print_row(task.network, str(task.batch), f"floor: products at {rate:.0f} GMAC/s",
              f"{1e3 * floor / task.batch:.4g}", "", takes, *[""] * (len(HEADER) - 6))


def _cells(task, outcome: Outcome, ours: Outcome) -> list[str]:
    """What stands behind the contender's name."""
    if outcome.failure:
        return [outcome.failure, *[""] * (len(HEADER) - 4)]
    low, median, high = (f"{1e3 * seconds / task.batch:.4g}" for seconds in quartiles(outcome.seconds))
    takes = needs = differs = ""
    if outcome is not ours and not ours.failure:
        takes = f"{paired_ratio(ours.seconds, outcome.seconds):.2f}x"
        needs = f"{ours.peak / outcome.peak:.2f}x"
        differs = ", ".join(f"{each:.0e}" for each in ours.differences(outcome)[:task.calls_compared])
    return [median, f"{low} to {high}", takes, f"{outcome.peak / 2**20:.0f}", needs, differs,
            f"{outcome.warm_up.seconds:.1f}"]

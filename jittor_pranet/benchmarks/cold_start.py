"""Times a start: seconds from that of the process to the first map, and to the end of the first step."""

from __future__ import annotations

import argparse
import time

from jittor_pranet.benchmarks.comparison import OURS, Contender, Contest, Failed
from jittor_pranet.benchmarks.network_tasks import Inference, TrainingStep, network_tasks
from jittor_pranet.benchmarks.report import print_header, print_row
from jittor_pranet.benchmarks.timing import paired_ratio, quartiles, summary
from utils.progress import Progress

HEADER = ("network", "batch", "to the first", "program", "s", "quartiles", "ours takes", "kernels compiled")
UNTIL = {Inference: "map", TrainingStep: "training step"}


def run(args: argparse.Namespace) -> int:
    tasks = network_tasks(args, Inference, TrainingStep, drawn_weights=False)
    contest = Contest.of(args, size=args.testsize)
    with contest.contenders() as started:
        contest.introduce(started)
    print_header(*HEADER)
    failed = False
    with Progress(len(tasks) * len(contest.names) * (args.rounds + 1), "starting", "process") as progress:
        for task in tasks:
            starts = {name: Starts() for name in contest.names}
            for _ in range(args.rounds + 1):
                for name, each in starts.items():
                    each.add(name, task, contest)
                    progress.step(note=f"{task}, {name}")
            ours = starts[OURS]
            contest.report.row({"network": task.network, "batch": task.batch, "until": UNTIL[type(task)],
                                "contenders": {name: each.as_json(ours) for name, each in starts.items()}})
            for name, each in starts.items():
                print_row(task.network, str(task.batch), UNTIL[type(task)], name, *each.cells(ours))
            failed |= any(each.failure for each in starts.values())
    contest.report.complete()
    return int(failed)


class Starts:
    """Processes of a contender, started one after another. The first fills the caches and does not count."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.compiled: list[int] = []  # kernels by each process, the first one included
        self.failure: str | None = None

    def add(self, name: str, task, contest: Contest) -> None:
        if self.failure:
            return
        start = time.perf_counter()
        process = Contender(name, contest.device, contest.precision)
        try:
            compiled = process.ask("first_call", task)
            if self.compiled:
                self.seconds.append(time.perf_counter() - start)
            self.compiled.append(compiled)
        except Failed as failure:
            self.failure = str(failure)
        finally:
            process.close()

    def as_json(self, ours: Starts) -> dict:
        if self.failure:
            return {"failure": self.failure}
        alone = self is ours or ours.failure
        return {**summary(self.seconds, None if alone else ours.seconds), "compiled": self.compiled}

    def cells(self, ours: Starts) -> list[str]:
        """What stands behind the contender's name."""
        if self.failure:
            return [self.failure, "", "", ""]
        low, median, high = (f"{seconds:.2f}" for seconds in quartiles(self.seconds))
        takes = "" if self is ours or ours.failure else f"{paired_ratio(ours.seconds, self.seconds):.2f}x"
        return [median, f"{low} to {high}", takes,
                f"{self.compiled[0]} before, {sum(self.compiled[1:])} while timed"]

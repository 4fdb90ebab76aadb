"""Times a start: seconds from that of the process to the first map, and to the end of the first step."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field

from jittor_pranet.benchmarks.comparison import CandidateError, Comparison, Options
from jittor_pranet.benchmarks.network_tasks import Inference, TrainingStep, network_tasks
from jittor_pranet.benchmarks.timing import Timings
from utils.progress import Progress

__all__ = ["Options", "run"]
HEADER = ("network", "batch", "to the first", "program", "s", "quartiles", "ours takes", "kernels compiled")
UNTIL = {Inference: "map", TrainingStep: "training step"}


def run(options: Options) -> int:
    tasks = network_tasks(options.model_type, options.bs, options.testsize, Inference, TrainingStep,
                          seeded_weights=False)
    comparison = Comparison.of(options, size=options.testsize)
    with comparison.processes() as processes:
        comparison.describe(processes)
    comparison.report.header(*HEADER)
    starts_each = comparison.rounds + 1
    with Progress(len(tasks) * len(comparison.names) * starts_each, "starting", "processes") as progress:
        for task in tasks:
            starts = {name: Starts() for name in comparison.names}
            for _ in range(starts_each):
                for name, each in starts.items():
                    each.add(comparison, name, task)
                    progress.step(note=f"{task}, {name}")
            comparison.report.row({"network": task.network, "batch": task.batch, "until": UNTIL[type(task)]},
                                  starts, Starts.row)
    return comparison.report.complete()


@dataclass
class Starts(Timings):
    """Processes of a candidate, started one after another. The first fills the caches and is not timed."""

    compiled: list[int] = field(default_factory=list)  # kernels by each process, the first one included

    def add(self, comparison: Comparison, name: str, task) -> None:
        if self.failure:
            return
        start = time.perf_counter()
        with closing(comparison.start(name)) as process:
            try:
                compiled = process.ask("first_call", task)
            except CandidateError as error:
                self.failure = str(error)
                return
            if self.compiled:
                self.seconds.append(time.perf_counter() - start)
            self.compiled.append(compiled)

    def as_json(self, jittor: Starts) -> dict:
        entry = super().as_json(jittor)
        return entry if self.failure else {**entry, "compiled": self.compiled}

    def row(self, jittor: Starts) -> list[str]:
        return [*self.cells(jittor, 1, ".2f"),
                f"{self.compiled[0]} before, {sum(self.compiled[1:])} while timed"]

"""Timings and what they say."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from utils.parallel import map_in_processes


def shortest(rounds: int, work: Callable[[], object]) -> float:
    """Seconds of the quickest of several runs: whatever else the machine does only makes a run slower."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def time_workers(rounds: int, counts: list[int], measure: Callable, items: list,
                 ) -> Iterator[tuple[int, float]]:
    """Yields each number of processes, rising, and the seconds of their quickest run over all items."""
    for workers in sorted({max(1, count) for count in counts}):
        processes = workers if workers > 1 else 0

        def run(processes=processes) -> None:
            for _ in map_in_processes(measure, items, processes, ahead=8 * processes):
                pass
        yield workers, shortest(rounds, run)


def quartiles(seconds: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if len(seconds) == 1:
        return (seconds[0],) * 3
    return tuple(statistics.quantiles(seconds, n=4, method="inclusive"))


def paired_ratio(jittor: list[float], baseline: list[float]) -> float:
    """Median of the ratios within a round: what slows the machine for a while falls on both of a pair."""
    return statistics.median(own / other for own, other in zip(jittor, baseline))


@dataclass
class Timings:
    """Seconds of a candidate, by round; `failure` says why it could not go on."""

    seconds: list[float] = field(default_factory=list)
    failure: str | None = None

    def comparable_with(self, jittor: Timings) -> bool:
        """Whether these are a baseline's, and neither has failed."""
        return self is not jittor and not (self.failure or jittor.failure)

    def as_json(self, jittor: Timings) -> dict:
        """Every timing, the quartiles, and of a baseline Jittor's time as a multiple of its own."""
        if self.failure:
            return {"failure": self.failure}
        entry = {"seconds": self.seconds, "quartiles": quartiles(self.seconds)}
        if self.comparable_with(jittor):
            entry["ours_over_this"] = {
                "paired": paired_ratio(jittor.seconds, self.seconds),
                "medians": quartiles(jittor.seconds)[1] / quartiles(self.seconds)[1]}
        return entry

    def cells(self, jittor: Timings, scale: float, digits: str) -> list[str]:
        """Scaled median and quartiles, and the multiple of a baseline."""
        low, median, high = (format(scale * seconds, digits) for seconds in quartiles(self.seconds))
        multiple = ""
        if self.comparable_with(jittor):
            multiple = f"{paired_ratio(jittor.seconds, self.seconds):.2f}x"
        return [median, f"{low} to {high}", multiple]

"""Timings and what they say."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def shortest(rounds: int, work: Callable[[], object]) -> float:
    """Seconds of the quickest of several runs: whatever else the machine does only makes a run slower."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def quartiles(seconds: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    if len(seconds) == 1:
        return (seconds[0],) * 3
    return tuple(statistics.quantiles(seconds, n=4, method="inclusive"))


def summary(seconds: list[float], ours: list[float] | None) -> dict:
    """For the JSON: every timing, the quartiles, and ours, where there are others, as a multiple of these."""
    found = {"seconds": seconds, "quartiles": quartiles(seconds)}
    if ours is None:
        return found
    return {**found, "ours_over_this": {"paired": paired_ratio(ours, seconds),
                                        "medians": quartiles(ours)[1] / quartiles(seconds)[1]}}


def paired_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of ours / theirs over the rounds: what slows the machine for a while falls on both of a pair."""
    return statistics.median(own / other for own, other in zip(ours, theirs))

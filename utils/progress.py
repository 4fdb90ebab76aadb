"""Progress of long work: a tqdm bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from utils import ranks
from utils.errors import printable

Item = TypeVar("Item")
PLAIN_INTERVAL_S = 30.0
BAR = "{desc} {percentage:3.0f}% |{bar:8}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # 80 columns


class Progress:
    """Counts towards ``total``; ``note`` is shown beside the count (a loss, a file name). Rank 0 shows it.

    Args:
        unit: what is counted, in the plural.
        done: what an earlier run, which goes on here, has done.
        slow: the first so many steps are left out of rate and time left: kernels are compiled in them.
    """

    def __init__(self, total: int, title: str, unit: str = "items", done: int = 0, slow: int = 0):
        self.total, self.title, self.unit = total, title, unit
        self.done, self.note = done, ""
        self.rated_from, self.slow_until = done, done + slow
        self.start = self.last_line = time.monotonic()
        self.bar = None
        if sys.stderr.isatty() and ranks.is_rank_0():
            self.bar = tqdm(total=total, initial=done, desc=title, unit=unit, dynamic_ncols=True,
                            bar_format=BAR)

    def step(self, count: int = 1, note: str = "") -> None:
        self.done, self.note = self.done + count, printable(note)
        if self.rated_from < self.slow_until <= self.done:
            self.rated_from, self.start = self.done, time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(self.note, refresh=False)
            self.bar.update(count)
        elif ranks.is_rank_0() and (time.monotonic() - self.last_line >= PLAIN_INTERVAL_S
                                    or self.done == self.total):
            self._line()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        tqdm.write(text, file=sys.stderr)

    def _line(self) -> None:
        self.last_line = time.monotonic()
        note, rated = f", {self.note}" if self.note else "", self.done - self.rated_from
        elapsed = max(self.last_line - self.start, 1e-9)
        rate = f", {rated / elapsed:.3g} {self.unit}/s" if rated and self.done > self.slow_until else ""
        left = f", {duration(elapsed / rated * (self.total - self.done))} left" if rate else ""
        print(f"{self.title}: {self.done}/{self.total} {self.unit}{note}{rate}{left}", file=sys.stderr,
              flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 5 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def track(items: Iterable[Item], total: int, title: str, unit: str = "items") -> Iterator[Item]:
    """Yields ``items`` and counts each once its consumer is done with it."""
    with Progress(total, title, unit) as progress:
        for item in items:
            yield item
            progress.step()

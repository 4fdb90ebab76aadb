"""Progress of long work: a tqdm bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from utils import ranks
from utils.errors import printable

Item = TypeVar("Item")
PLAIN_INTERVAL_S = 30.0
RECENT = 30  # steps by which the rate is told
BAR = "{desc} {percentage:3.0f}% |{bar:8}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # 80 columns


class Progress:
    """Counts towards ``total``; ``note`` is shown beside the count (a loss, a file name). Rank 0 shows it.

    Args:
        unit: what is counted, in the plural.
        done: what an earlier run, which goes on here, has done.

    Rate and time left follow from the median of recent steps, which some of them that compile do not change.
    """

    def __init__(self, total: int, title: str, unit: str = "items", done: int = 0):
        self.total, self.title, self.unit = total, title, unit
        self.done, self.note = done, ""
        self.last_step = self.last_line = time.monotonic()
        self.recent: deque[float] = deque(maxlen=RECENT)  # seconds for one
        self.bar = None
        if sys.stderr.isatty() and ranks.is_rank_0():
            self.bar = tqdm(total=total, initial=done, desc=title, unit=unit, dynamic_ncols=True,
                            bar_format=BAR)

    def step(self, count: int = 1, note: str = "") -> None:
        now = time.monotonic()
        self.recent.append((now - self.last_step) / count)
        self.done, self.note, self.last_step = self.done + count, printable(note), now
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
        seconds = max(statistics.median_low(self.recent), 1e-9)
        note = f", {self.note}" if self.note else ""
        print(f"{self.title}: {self.done}/{self.total} {self.unit}{note}, {1 / seconds:.3g} {self.unit}/s, "
              f"{duration(seconds * (self.total - self.done))} left", file=sys.stderr, flush=True)

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

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


class Progress:
    """Counts steps towards ``total``; ``note`` is shown behind the rate (a loss, a file name).

    ``done`` of them were done before, by an earlier run that goes on. Of many processes the first shows it.
    """

    def __init__(self, total: int, title: str, unit: str = "it", done: int = 0):
        self.total, self.title, self.unit = total, title, unit
        self.done, self.earlier, self.note = done, done, ""
        self.start = self.last_line = time.monotonic()
        on_terminal = sys.stderr.isatty()
        self.bar = None
        if on_terminal and ranks.is_rank_0():
            self.bar = tqdm(total=total, initial=done, desc=title, unit=unit, dynamic_ncols=True)

    def step(self, count: int = 1, note: str = "") -> None:
        self.done, self.note = self.done + count, printable(note)
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
        elapsed = self.last_line - self.start
        done_now = self.done - self.earlier
        left = elapsed / max(done_now, 1) * (self.total - self.done)
        rate = done_now / elapsed if elapsed > 0 else 0.0
        note = f", {self.note}" if self.note else ""
        print(f"{self.title}: {self.done}/{self.total} {self.unit}{note}, {rate:.3g} {self.unit}/s, "
              f"{left:.0f} s left", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def track(items: Iterable[Item], total: int, title: str, unit: str = "it") -> Iterator[Item]:
    """Yields ``items`` and counts each once its consumer is done with it."""
    with Progress(total, title, unit) as progress:
        for item in items:
            yield item
            progress.step()

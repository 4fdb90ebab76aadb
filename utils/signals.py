"""Ctrl-C and a scheduler's SIGTERM, taken between two steps of long work instead of in the middle of one."""

from __future__ import annotations

import os
import signal
import sys

_noted = 0  # the last signal that a block of this process took


def noted() -> bool:
    """Whether this process has taken a signal."""
    return _noted != 0


class Interruption:
    """While the block runs, the first signal is only noted; a second one ends the program at once.

    Jittor leaves by itself on Ctrl-C unless somebody else has taken the signal.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        self._process = os.getpid()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != self._process:  # forked meanwhile: Jittor's compilers, which it ends by SIGTERM
            os.kill(os.getpid(), number)
            return
        global _noted
        self.signal = _noted = number
        print(f"\n{signal.Signals(number).name}: finishing the step; again to leave at once", file=sys.stderr)

    @property
    def exit_code(self) -> int:
        """What a shell reports of a program that the signal ended."""
        return 128 + self.signal if self.signal else 0

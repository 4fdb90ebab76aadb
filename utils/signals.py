"""Ctrl-C and a scheduler's SIGTERM, taken between two steps of long work instead of in the middle of one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

REPEAT_S = 2.0  # a launcher and a scheduler may both send what one person asked for
AGAIN_S = 0.01  # until a dropped Ctrl-C comes again
_noted = 0  # the last signal that a block of this process took


def noted() -> bool:
    """Whether this process has taken a signal."""
    return _noted != 0


def keep_interrupts() -> None:
    """Has a Ctrl-C come again, without a traceback, that came where Python drops exceptions: in a destructor,
    or beside a fork."""
    def report(dropped) -> None:
        if dropped.exc_type is KeyboardInterrupt:
            with contextlib.suppress(RuntimeError):  # the interpreter is ending anyway
                main = threading.main_thread().ident
                threading.Timer(AGAIN_S, signal.pthread_kill, (main, signal.SIGINT)).start()
        else:
            sys.__unraisablehook__(dropped)

    sys.unraisablehook = report


class Interruption:
    """While the block runs, the first signal is only noted; a later one ends the program at once.

    What comes within `REPEAT_S` of the first is the same wish.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._first = 0.0  # when it came, by the monotonic clock
        self._said = threading.Lock()  # since a handler may be interrupted by the next signal
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        self._process = os.getpid()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take(self, number: int) -> None:
        """Notes a signal, of this process or of another rank."""
        global _noted
        if self.signal is None:
            self._first = time.monotonic()
        self.signal = _noted = number

    def _note(self, number: int, _) -> None:
        forked = os.getpid() != self._process  # meanwhile: Jittor's compilers, which it ends by SIGTERM
        if forked or (self.signal is not None and time.monotonic() >= self._first + REPEAT_S):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self.signal is None and self._said.acquire(blocking=False):
            self.take(number)
            with contextlib.suppress(RuntimeError):  # came while stderr waited in the middle of a line
                print(f"\n{signal.Signals(number).name}: finishing the step; again to leave at once",
                      file=sys.stderr)

    @property
    def exit_code(self) -> int:
        """What a shell reports of a program that the signal ended."""
        return 128 + self.signal if self.signal else 0

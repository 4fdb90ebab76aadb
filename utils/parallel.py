"""Work beside that of the caller: items prefetched before it needs them, results finished after it made them.

Threads do where the work is short or leaves Python's lock. Beside a network processes are needed: Jittor
holds that lock for the whole of a step.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Callable, TypeVar

import numpy as np

from utils.errors import UserError

PROGRAMS = "jittor_pranet"
WORKERS = min(4, os.cpu_count() or 1)  # unless the user says how many
Item, Result = TypeVar("Item"), TypeVar("Result")
NAME = "reader"  # of the processes, for tests and debuggers
GRACE_S = 5.0  # for what a reader is busy with when nobody wants it any more


def prefetch(load: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int,
             ) -> Iterator[Result]:
    """Yields ``load(item)`` for every item in order, up to ``ahead`` of them loaded in threads beforehand.

    Args:
        workers: number of threads. 0 loads in the calling one, each item as it is asked for.

    The threads end with the generator, however it ends; what is not begun by then is cancelled.

    Raises:
        whatever ``load`` raised, in the place of that item.
    """
    if workers == 0:
        yield from map(load, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    yield from _in_order(pool, load, items, lambda waiting: len(waiting) > ahead)


def prefetch_in_processes(load: Callable[[Item], np.ndarray], items: Sequence[Item], shape: tuple[int, ...],
                          workers: int, ahead: int) -> Iterator[np.ndarray]:
    """Yields ``load(item)`` for every item in order, up to ``ahead`` of them read beforehand.

    Args:
        load: importable from a module that imports quickly and without Jittor; gives uint8 of ``shape``.
        workers: number of processes; they take the items in turns. 0 reads in the calling process.

    The processes end with the generator, however it ends. What a killed one leaves is read by the caller.
    As for all of `multiprocessing`, a script starts them below ``if __name__ == "__main__"``.

    Raises:
        whatever ``load`` raised, in the place of that item; UserError if no process can be started.
    """
    with contextlib.closing(try_in_processes(load, items, shape, workers, ahead)) as results:
        for result in results:
            if isinstance(result, Exception):
                raise result
            yield result


def try_in_processes(load: Callable[[Item], np.ndarray], items: Sequence[Item], shape: tuple[int, ...],
                     workers: int, ahead: int) -> Iterator[np.ndarray | Exception]:
    """As `prefetch_in_processes`, but what ``load`` raises is that item's result, and the others follow."""
    workers = min(workers, len(items))
    if workers == 0:
        yield from (_attempt(load, item) for item in items)
        return
    context = _context(load)
    slots = context.RawArray(ctypes.c_uint8, ahead * math.prod(shape))
    readers: list[_Reader] = []
    try:
        for _ in range(workers):
            readers.append(_Reader(context, load, slots, shape))
        for number in range(min(ahead, len(items))):
            readers[number % workers].ask(items[number], number)
        for number, item in enumerate(items):
            result = readers[number % workers].take(item, number % ahead)
            following = number + ahead
            if following < len(items):
                readers[following % workers].ask(items[following], number % ahead)
            yield result
    finally:
        for reader in readers:
            reader.dismiss()
        for reader in readers:
            reader.wait()


def map_in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int,
                     ) -> Iterator[Result]:
    """Yields ``function(item)`` for every item in order, while the calling process makes the next items.

    Args:
        function: importable from a module that imports quickly and without Jittor.
        workers: number of processes. 0 works in the calling process.
        ahead: items that may wait for their result; making the next one stops until there are fewer.

    Raises:
        whatever ``function`` raised, in the place of that item; UserError if a process was killed.
    """
    if workers == 0:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(workers, mp_context=_context(function), initializer=_start_worker)
    try:
        yield from _in_order(pool, function, items, lambda waiting: len(waiting) > ahead or waiting[0].done())
    except BrokenProcessPool as error:
        raise UserError(f"one of {workers} worker processes was killed, often for want of memory; try fewer "
                        "--workers") from error


def _in_order(pool: Executor, function: Callable, items: Iterable, is_due: Callable[[deque[Future]], bool],
              ) -> Iterator:
    """Yields a pool's results in order, the first of those that wait as soon as it ``is_due``."""
    waiting: deque[Future] = deque()
    try:
        for item in items:
            try:
                waiting.append(pool.submit(function, item))
            except (EOFError, ConnectionError) as error:  # the server that workers are forked from was killed
                raise BrokenProcessPool from error
            while waiting and is_due(waiting):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _context(function: Callable) -> BaseContext:
    """How processes are made that run ``function``.

    They are forked from a server that has imported its module but never Jittor, whose threads and CUDA do not
    survive a fork.
    """
    context = multiprocessing.get_context("forkserver")
    # The programs' package finds ours before packages of the same names in the folder we were started in.
    context.set_forkserver_preload([PROGRAMS, getattr(function, "func", function).__module__])  # of a partial
    return context


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


class _Reader:
    """A process that reads what it is asked for, in that order, and our end of the connection to it."""

    def __init__(self, context, load: Callable, slots: ctypes.Array, shape: tuple[int, ...]):
        self.load, self.arrays, self.killed = load, _as_arrays(slots, shape), False
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, load, slots, shape), name=NAME,
                                       daemon=True)
        with theirs:
            try:
                self.process.start()
            except (OSError, EOFError) as error:
                raise UserError(f"no process can be started to read images ({error}); try fewer --workers, "
                                "0 for none") from error

    def ask(self, item, slot: int) -> None:
        with contextlib.suppress(OSError):  # it was killed, which `take` will find
            self.connection.send((item, slot))

    def take(self, item, slot: int) -> np.ndarray | Exception:
        """What became of an item asked for; the one that was asked for first comes first."""
        try:
            error = self.connection.recv()
        except (EOFError, OSError):
            self._report_killed()
            return _attempt(self.load, item)
        return self.arrays[slot].copy() if error is None else error

    def _report_killed(self) -> None:
        if not self.killed:
            self.killed = True
            print("a process that reads images was killed, often for want of memory; its share is read "
                  "between the steps (fewer --workers take less memory)", file=sys.stderr)

    def dismiss(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(None)  # closing would not do if a process forked since then has our end too
        self.connection.close()

    def wait(self) -> None:
        self.process.join(GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(requests: Connection, load: Callable, slots: ctypes.Array, shape: tuple[int, ...]) -> None:
    """Reads items into slots and answers each with None or what went wrong, until None or the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which closes its end
    arrays = _as_arrays(slots, shape)
    with contextlib.suppress(EOFError, OSError):
        while (request := requests.recv()) is not None:
            item, slot = request
            requests.send(_attempt(functools.partial(_fill, arrays[slot], load), item))


def _attempt(load: Callable, item) -> object:
    """What ``load`` gives or raises."""
    try:
        return load(item)
    except Exception as error:
        return error


def _fill(array: np.ndarray, load: Callable, item) -> None:
    array[:] = load(item)


def _as_arrays(slots: ctypes.Array, shape: tuple[int, ...]) -> np.ndarray:
    """The shared memory as arrays of ``shape``, one behind the other."""
    return np.frombuffer(slots, np.uint8).reshape(-1, *shape)

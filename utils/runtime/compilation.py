"""Reports on what Jittor compiles, which it does the first time on a machine and for minutes."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from utils import ranks, signals
from utils.errors import UserError
from utils.files import PROJECT_ROOT
from utils.progress import Progress, duration
from utils.runtime.cache import CACHE_VARIABLE

CORE_OBJECTS = {"cpu": 150, "cuda": 202}  # files of Jittor 1.3.11, to within a few: for the progress bar only
KERNEL_BYTES = 1 << 22  # room that a kernel and its source take, and some more
QUIET_S, INTERVAL_S = 5.0, 15.0  # what is compiled already takes less than the first


@contextlib.contextmanager
def import_lock(cache: Path, device: str) -> Iterator[None]:
    """Lets one process at a time import Jittor for a device, and shows the first import's progress."""
    with open(cache / "import.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _wait_for(lock)
        done = threading.Event()
        watcher = threading.Thread(target=_report_core, args=(cache, CORE_OBJECTS[device], done), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            # Closing is not enough: Jittor's compiling processes have inherited the open file.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _wait_for(lock: IO) -> None:
    """Takes a lock that another process holds, and says now and then how long that takes."""
    start, reported = time.monotonic(), 0.0
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        waited = time.monotonic() - start
        if ranks.is_rank_0() and waited >= reported:
            print(f"another process is starting Jittor; waiting for it, {duration(waited)} so far",
                  file=sys.stderr)
            reported = waited + INTERVAL_S
        time.sleep(0.2)


def _report_core(cache: Path, objects: int, done: threading.Event) -> None:
    start = time.time() - QUIET_S
    if done.wait(QUIET_S):
        return
    if ranks.is_rank_0():
        print("compiling Jittor's core, once per machine and environment: about three minutes",
              file=sys.stderr)
    with Progress(objects, "core", "files") as progress:
        while not done.wait(1.0):
            built = sum(path.stat().st_mtime >= start for path in cache.rglob("obj_files/*.o"))
            if progress.done < min(built, objects):
                progress.step(min(built, objects) - progress.done)


def stop_compile_pool() -> None:
    """Ends the processes that Jittor compiled with at its import, which have nothing more to do.

    Ctrl-C at a terminal would end them while they hold a lock, for which Jittor waits at the end.
    """
    import jittor_utils

    if jittor_utils.pool_size:
        atexit.unregister(jittor_utils.pool_cleanup)
        jittor_utils.pool_cleanup()
        jittor_utils.pool_size = 0


@contextlib.contextmanager
def report_kernels(what: str, folder: Path) -> Iterator[None]:
    """Reports now and then how many kernels the block has compiled into ``folder``.

    Jittor compiles while it holds the interpreter, so another process has to watch.

    Raises:
        KeyboardInterrupt: a terminal has sent Ctrl-C to the compiler as well, so that Jittor cannot go on.
        UserError: the disk is full.
    """
    watcher = None
    if ranks.is_rank_0():
        command = [sys.executable, "-m", "utils.runtime.compilation", what, str(folder)]
        watcher = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=PROJECT_ROOT)
    try:
        yield
    except RuntimeError as error:
        if signals.noted():
            raise KeyboardInterrupt from error
        if shutil.disk_usage(folder).free < KERNEL_BYTES:
            raise UserError(f"{folder}: its disk is full, and {what} needs kernels that are compiled there; "
                            f"free some room, or name another folder by {CACHE_VARIABLE}") from error
        raise
    finally:
        if watcher:
            watcher.communicate()


def _watch_kernels(what: str, folder: Path) -> None:
    """Reports until the standard input closes."""
    def count() -> int:
        return sum(1 for _ in folder.glob("*.so"))

    start, before, reported, wait = time.monotonic(), count(), 0, QUIET_S
    while not select.select([sys.stdin], [], [], wait)[0]:
        compiled, wait = count() - before, INTERVAL_S
        if compiled and not reported:
            print(f"{what}: compiling its kernels, once per machine and environment: one to three minutes",
                  file=sys.stderr, flush=True)
        if compiled > reported:
            reported = compiled
            print(f"{what}: {compiled} kernels compiled in {time.monotonic() - start:.0f} s", file=sys.stderr,
                  flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # a terminal interrupts the whole group; the parent reports
        _watch_kernels(sys.argv[1], Path(sys.argv[2]))

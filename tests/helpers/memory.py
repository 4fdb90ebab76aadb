"""How much memory a call takes, told by a process of its own."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import Callable

LIMIT = 6 << 30  # of the address space beyond what is in use: the test fails, not the machine


def extra_memory(call: Callable[[], object]) -> tuple[int, str]:
    """By how many bytes ``call()`` makes a process grow at most, and the error that it raises, or ""."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        used = {name: int(size) << 10 for name, size in
                re.findall(r"(VmSize|VmRSS):\s+(\d+)", Path("/proc/self/status").read_text())}
        resource.setrlimit(resource.RLIMIT_AS, (used["VmSize"] + LIMIT,) * 2)
        try:
            text = ""
            call()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        os.write(writing, f"{peak - used['VmRSS']} {text}".encode()[:4096])
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        grown, _, text = pipe.read().partition(" ")
    os.waitpid(child, 0)
    return int(grown), text

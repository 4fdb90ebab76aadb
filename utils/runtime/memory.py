"""How much memory is left to this process, and what Jittor says when its device has none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

# The limit, what is used, and the part of it that is files read lately: by cgroup v2's names and by v1's.
GROUP_FILES = (("memory.max", "memory.current", "inactive_file"),
               ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"))

# Of Jittor's allocator, which says the second where Jittor itself holds nearly all, and of the CUDA libraries
# that allocate for themselves.
DEVICE_FULL = ("Unable to alloc cuda device memory", "GPU memory is overflow", "cudaErrorMemoryAllocation",
               "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")


def is_device_full(error: RuntimeError) -> bool:
    """Whether Jittor raised ``error`` because the GPU's memory does not suffice.

    Of the machine's own memory it says nothing: it is granted on paper, and then the process is killed.
    """
    return any(reason in str(error) for reason in DEVICE_FULL)


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that the machine, or the container or job that we run in, can still give without swapping.

    Linux tells them in files under ``root``; where it tells nothing there is no limit to go by.
    """
    known = [*_machine(root / "proc/meminfo"), *_container(root / "sys/fs/cgroup")]
    return min(known, default=2**63)


def _machine(meminfo: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, KeyError):
        yield int(_fields(meminfo)["MemAvailable:"]) * 1024


def _container(group: Path) -> Iterator[int]:
    for limit, used, reclaimable in GROUP_FILES:
        with contextlib.suppress(OSError, KeyError, ValueError):  # ValueError: the limit is "max"
            files = int(_fields((group / used).with_name("memory.stat"))[reclaimable])
            yield int((group / limit).read_text()) - int((group / used).read_text()) + files


def _fields(path: Path) -> dict[str, str]:
    """The first two words of every line."""
    return dict(line.split()[:2] for line in path.read_text().splitlines())

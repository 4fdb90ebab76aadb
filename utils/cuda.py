"""Looks for a GPU and a whole CUDA home without touching Jittor."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# What Jittor 1.3.11 opens, under these unversioned names, in <home>/lib64; and the newest CUDA it knows.
LIBRARIES = ("cudart", "cublas", "cudnn", "curand", "cufft", "cusparse")
NEWEST_CUDA = (12, 2)


@dataclass(frozen=True)
class Cuda:
    """What was found; ``missing`` says in words what stands in the way, and is empty if CUDA can be used."""

    nvcc: Path | None
    version: tuple[int, ...]
    devices: int
    missing: tuple[str, ...]

    @property
    def usable(self) -> bool:
        return not self.missing


@lru_cache(maxsize=1)
def find() -> Cuda:
    """The driver's devices and the first nvcc of $CUDA_HOME, $CUDA_PATH, PATH, /usr/local/cuda."""
    missing = []
    devices, reason = _count_devices()
    if reason:
        missing.append(reason)
    nvcc = _find_nvcc()
    if nvcc is None:
        missing.append("no nvcc on PATH, in CUDA_HOME or /usr/local/cuda: install a CUDA toolkit and set "
                       "CUDA_HOME to its folder")
        return Cuda(None, (), devices, tuple(missing))
    version = _nvcc_version(nvcc)
    if version[:2] > NEWEST_CUDA:
        found = ".".join(map(str, version))
        newest = ".".join(map(str, NEWEST_CUDA))
        missing.append(f"{nvcc} is CUDA {found}, newer than Jittor 1.3.11 knows (up to {newest}): set "
                       "CUDA_HOME to an older toolkit")
    home = nvcc.parent.parent
    absent = [f"lib{name}.so" for name in LIBRARIES if not (home / "lib64" / f"lib{name}.so").exists()]
    if absent:
        missing.append(f"{home}/lib64 lacks {' '.join(absent)}: install the whole toolkit and cuDNN there, "
                       "or set CUDA_HOME to a folder that has them")
    return Cuda(nvcc, version, devices, tuple(missing))


@dataclass(frozen=True)
class Nccl:
    """The folders with nccl.h and libnccl.so."""

    include: Path
    lib: Path


def find_nccl() -> Nccl | None:
    """NCCL in the CUDA home or where Debian's packages put it."""
    nvcc = find().nvcc
    homes = [(home / "include", home / "lib64") for home in ([nvcc.parent.parent] if nvcc else [])]
    for include, lib in [*homes, (Path("/usr/include"), Path("/usr/lib/x86_64-linux-gnu"))]:
        if (include / "nccl.h").exists() and (lib / "libnccl.so").exists():
            return Nccl(include, lib)
    return None


def _count_devices() -> tuple[int, str]:
    """(number of devices, why there are none). Without a driver Jittor's CUDA core aborts the process."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0, "no NVIDIA driver (libcuda.so.1 is not there)"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return 0, f"the NVIDIA driver answers error {status}: look at nvidia-smi"
    reason = "" if count.value else "the NVIDIA driver shows no device: look at CUDA_VISIBLE_DEVICES"
    return count.value, reason


def _find_nvcc() -> Path | None:
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    candidates = [*(f"{home}/bin/nvcc" for home in homes), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate).resolve()
    return None


def _nvcc_version(nvcc: Path) -> tuple[int, ...]:
    try:
        output = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"V(\d+)\.(\d+)\.(\d+)", output)
    return tuple(map(int, found.groups())) if found else ()

"""Jittor's settings, all of which it reads from the environment at its import."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

from utils import ranks
from utils.files import atomic_write
from utils.runtime import cuda, cuda_home, precisions, threads

THREADS_VARIABLE = "JITTOR_PRANET_COMPILE_THREADS"  # for those who take the risk, as nvcc is slow


def jittor_settings(device: str, cache: Path, precision: str) -> dict[str, str]:
    """The variables by which Jittor computes on a device; makes the files in ``cache`` that they name."""
    return {
        # Jittor takes its cache from the home folder, and would write JITTOR_HOME, where it is set, into the
        # user's own configuration; a HOME of our own while it is imported avoids both.
        "HOME": str(cache),
        "cache_name": "pranet-cpu", "nvcc_path": "",
        "cc_path": str(shutil.which("g++")),
        "python_config_path": str(_python_config(cache)),
        # Downloads, and parts that nothing here uses.
        "use_cutt": "0", "use_cutlass": "0", "gdb_path": "",
        "use_mpi": str(int(ranks.WORLD_SIZE > 1)), "use_nccl": "0",
        # Compiling kernels in threads can crash on a cold cache.
        "use_parallel_op_compiler": os.environ.get(THREADS_VARIABLE, "0"),
        "log_silent": "1",
        # Jupyter sets this; without it Jittor takes Ctrl-C itself and quits with exit code 1.
        "JPY_PARENT_PID": os.environ.get("JPY_PARENT_PID", "0"),
        "use_sfrl_allocator": "1",  # without it a reshaped variable has lost its memory
        **threads.wait_policy(),
        **(cuda_settings(cache, precision) if device == "cuda" else {}),
    }


def cuda_settings(cache: Path, precision: str) -> dict[str, str]:
    """The variables for CUDA: a home and a cache for each set of versions and GPUs, a GPU for each rank."""
    found = cuda.find()
    home = cuda_home.assemble(found, cache)
    settings = {"cache_name": f"pranet-{home.name}", "nvcc_path": str(home / "bin" / "nvcc")}
    if precision == "fp32":
        settings[precisions.TF32_VARIABLE] = "0"
    else:
        os.environ.pop(precisions.TF32_VARIABLE, None)
    if ranks.WORLD_SIZE > 1:
        if found.devices > 1:
            settings["device_id"] = str(ranks.LOCAL_RANK % found.devices)
        if "nccl" in found.parts:  # without these paths Jittor would download and compile its own
            settings.update(use_nccl="1", nccl_include_path=str(home / "include"),
                            nccl_lib_path=str(home / "lib64"))
    return settings


@contextlib.contextmanager
def environment(settings: dict[str, str], hidden: tuple[str, ...]) -> Iterator[None]:
    """Sets the variables, which stay but for HOME, and hides those named ``hidden`` while the block runs."""
    before = {name: os.environ.pop(name, None) for name in ("HOME", "JITTOR_HOME", *hidden)}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _python_config(cache: Path) -> Path:
    """A python-config for the running interpreter; virtual environments have none that Jittor would find."""
    folders = sorted({sysconfig.get_path(name) for name in ("include", "platinclude")})
    includes = shlex.quote(" ".join(f'-I"{folder}"' for folder in folders))
    suffix = shlex.quote(sysconfig.get_config_var("EXT_SUFFIX"))
    script = ('#!/bin/sh\ncase "$1" in\n'
              f"--includes) echo {includes};;\n--extension-suffix) echo {suffix};;\nesac\n").encode()
    path = cache / f"python-config-{zlib.crc32(script):08x}"
    if not os.access(path, os.X_OK):
        with atomic_write(path) as file:
            file.write(script)
        path.chmod(0o700)
    return path

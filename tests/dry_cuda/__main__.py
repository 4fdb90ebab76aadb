"""Runs Python as if there were a GPU: all that CUDA needs is compiled and called, nothing is computed.

    python -m tests.dry_cuda -m tests.dry_cuda.networks PVT-PraNet-V2
    python -m tests.dry_cuda -m jittor_pranet train --train_path ... --train_save ... --device cuda

Needs nvcc 13 and the libraries of requirements-cuda13.txt, but no GPU. Results mean nothing. What is
found is a kernel that does not compile, an operation that runs on the CPU, the device's memory taken for the
host's, a call that a library would refuse: see libraries.cc.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from utils.runtime import cuda, cuda_home
from utils.runtime.cache import CACHE_VARIABLE, cache_folder

HERE = Path(__file__).parent


def main() -> int:
    folder = cache_folder() / "dry-cuda"
    stand_ins = folder / "stand-ins"
    if os.environ.get("LD_LIBRARY_PATH", "").split(":")[0] != str(stand_ins):
        stand_ins.mkdir(parents=True, exist_ok=True)
        compile_library(HERE / "driver.cc", stand_ins / "libcuda.so.1")
        (stand_ins / "libcuda.so").unlink(missing_ok=True)
        (stand_ins / "libcuda.so").symlink_to("libcuda.so.1")
        return run([sys.executable, "-m", "tests.dry_cuda", *sys.argv[1:]], str(stand_ins))
    found = cuda.find()
    if found.problems:
        print("error:", *found.problems, file=sys.stderr)
        return 2
    home = cuda_home.assemble(found, folder)
    library = stand_ins / "libraries.so"
    compile_library(HERE / "libraries.cc", library, f"-I{home / 'include'}")
    for link in list((home / "lib64").glob("*.so*")):
        link.unlink()
        link.symlink_to(library)
    os.environ[CACHE_VARIABLE] = str(folder)
    return run([sys.executable, *sys.argv[1:]], f"{stand_ins}:{home / 'lib64'}")


def compile_library(source: Path, library: Path, *options: str) -> None:
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        command = ["g++", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", *options, "-o", library, source]
        subprocess.run(command, check=True)


def run(command: list[str], libraries: str) -> int:
    return subprocess.run(command, env={**os.environ, "LD_LIBRARY_PATH": libraries}).returncode


if __name__ == "__main__":
    sys.exit(main())

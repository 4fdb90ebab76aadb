"""What Jittor needs on any device, checked before it is imported."""

from __future__ import annotations

import shlex
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from utils import ranks
from utils.errors import UserError
from utils.files import PROJECT_ROOT
from utils.runtime import jittor_copy
from utils.runtime.cache import cache_folder
from utils.runtime.onednn import find_onednn

PACKAGES = ("jittor", "numpy", "pillow", "scipy", "tqdm")


@dataclass(frozen=True)
class Check:
    """One line of `doctor`: a requirement, whether it is met, and what is there or what is to be done."""

    name: str
    ok: bool
    detail: str


def check_requirements() -> list[Check]:
    """One check for each requirement."""
    return [_check_python(), _check_compiler(), _check_headers(), _check_packages(), _check_onednn(),
            _check_cache(), *([_check_mpi()] if ranks.WORLD_SIZE > 1 else [])]


def pip_install(*arguments: str) -> str:
    """The advice to run pip for this interpreter."""
    return f"run: {shlex.join([sys.executable, '-m', 'pip', 'install', *arguments])}"


def _check_python() -> Check:
    number = ".".join(map(str, sys.version_info[:3]))
    if not (3, 9) <= sys.version_info[:2] <= (3, 13):
        return Check("python", False, f"Python {number} runs, but Jittor 1.3.11 needs 3.9 to 3.13; make a "
                                      "virtual environment with one of those")
    return Check("python", True, f"{number} at {sys.executable}")


def _check_compiler() -> Check:
    path = shutil.which("g++")
    if path is None:
        return Check("compiler", False, "no C++ compiler g++ on PATH; install it (Debian: apt install g++)")
    return Check("compiler", True, path)


def _check_headers() -> Check:
    folder = Path(sysconfig.get_path("include"))
    if not (folder / "Python.h").is_file():
        return Check("headers", False, f"{folder} has no Python.h; install Python's headers (Debian: apt "
                                       f"install python3.{sys.version_info.minor}-dev)")
    return Check("headers", True, str(folder))


def _check_packages() -> Check:
    try:
        installed = {name: version(name) for name in PACKAGES}
    except PackageNotFoundError as error:
        return Check("packages", False, f"the package {error.name} is missing; {_install_requirements()}")
    if problem := jittor_copy.problem():
        return Check("packages", False, f"{problem}; {_install_requirements()}")
    return Check("packages", True, ", ".join(f"{name} {number}" for name, number in installed.items()))


def _check_onednn() -> Check:
    prefix = find_onednn()
    if prefix is None:
        return Check("onednn", False, "oneDNN (libdnnl.so.2 and dnnl.hpp) is missing; "
                                      + _install_requirements())
    return Check("onednn", True, str(prefix / "lib" / "libdnnl.so.2"))


def _check_cache() -> Check:
    try:
        folder = cache_folder()
    except UserError as error:
        return Check("cache", False, str(error))
    free = shutil.disk_usage(folder).free / 2**30
    return Check("cache", True, f"{folder}, {free:.1f} GiB free")


def _check_mpi() -> Check:
    path = shutil.which("mpicc")
    if path is None:
        return Check("mpi", False, f"mpirun started {ranks.WORLD_SIZE} processes, but Open MPI's mpicc is "
                                   "not on PATH; install it (Debian: apt install openmpi-bin libopenmpi-dev)")
    return Check("mpi", True, path)


def _install_requirements() -> str:
    advice = pip_install("-r", str(PROJECT_ROOT / "requirements.txt"))
    if sys.version_info >= (3, 13):
        jittor = pip_install("--no-deps", "-r", str(PROJECT_ROOT / "requirements-jittor.txt"))
        advice += f", then {jittor}"
    return advice

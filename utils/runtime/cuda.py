"""Looks for GPUs and for all of CUDA that Jittor needs, without importing Jittor.

The parts may lie in different places: a compiler in /usr/local, cuDNN from Debian, the rest in pip's wheels.
`find` says what lies where; utils/runtime/cuda_home.py makes one folder of it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from utils.errors import UserError
from utils.files import PROJECT_ROOT
from utils.runtime.requirements import pip_install

MIN_CUDA = (11, 0)  # from which on nvcc knows C++17
REQUIREMENTS = PROJECT_ROOT / "requirements-cuda13.txt"


@dataclass(frozen=True)
class Part:
    """Something that Jittor includes or opens: a header, libraries, and what pip calls it."""

    name: str
    header: str
    libraries: tuple[str, ...]  # the first without version is what Jittor or its libraries open
    wheel: str
    version_header: str = ""
    scales: tuple[int, ...] = ()  # of the one number that holds the version; else it has a line for each part
    since: int = 0  # the major version of CUDA from which on it is needed


OPTIONAL = 99  # newer than any CUDA: a part that is taken where it is found

PARTS = (
    Part("cudart", "cuda_runtime_api.h", ("libcudart", "libcudadevrt"), "nvidia-cuda-runtime",
         "cuda_runtime_api.h", (1000, 10)),
    Part("cub", "cub/version.cuh", (), "nvidia-cuda-cccl", "cub/version.cuh", (100000, 100, 1)),
    Part("cublas", "cublas_v2.h", ("libcublas", "libcublasLt"), "nvidia-cublas", "cublas_api.h"),
    Part("cudnn", "cudnn.h", ("libcudnn", "libcudnn_*"), "nvidia-cudnn", "cudnn_version.h"),
    Part("curand", "curand.h", ("libcurand",), "nvidia-curand", "curand.h"),
    Part("cufft", "cufft.h", ("libcufft",), "nvidia-cufft", "cufft.h"),
    Part("cusparse", "cusparse.h", ("libcusparse",), "nvidia-cusparse", "cusparse.h"),
    # cuSPARSE opens the first, cuDNN the second.
    Part("nvjitlink", "nvJitLink.h", ("libnvJitLink",), "nvidia-nvjitlink", since=12),
    Part("nvrtc", "nvrtc.h", ("libnvrtc", "libnvrtc-builtins"), "nvidia-cuda-nvrtc"),
    Part("nccl", "nccl.h", ("libnccl",), "nvidia-nccl", "nccl.h", since=OPTIONAL),
)


@dataclass(frozen=True)
class Device:
    name: str
    sm: int  # 90 for compute capability 9.0


@dataclass(frozen=True)
class Driver:
    """The GPUs that the driver shows; ``problems`` says why there are none."""

    version: tuple[int, int]  # the newest CUDA that it runs
    devices: tuple[Device, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Toolkit:
    """A compiler, and the folder that it takes its own headers from."""

    nvcc: Path
    root: Path
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Location:
    """Where a part's header and libraries lie."""

    include: Path
    lib: Path | None
    version: str


@dataclass(frozen=True)
class Cuda:
    """What is on this machine; ``problems`` says why CUDA cannot be used, and is empty if it can."""

    driver: Driver
    toolkit: Toolkit | None = None
    parts: dict[str, Location] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the compiler, () without one."""
        return self.toolkit.version if self.toolkit else ()

    @property
    def devices(self) -> int:
        """The number of GPUs."""
        return len(self.driver.devices)

    @property
    def missing_parts(self) -> list[Part]:
        """The parts that the compiler's version needs and that were not found."""
        return [part for part in PARTS if part.since <= self.version[0] and part.name not in self.parts]


@lru_cache(maxsize=1)
def find() -> Cuda:
    """The toolkit named by $nvcc_path, $CUDA_HOME or $CUDA_PATH; else the first without problems of those on
    PATH, in /usr/local/cuda* and in pip's wheels."""
    driver = ask_driver()
    try:
        candidates = [_examine(nvcc, driver) for nvcc in _find_compilers()]
    except UserError as error:
        return Cuda(driver, problems=(str(error),))
    if not candidates:
        problem = f"no nvcc on PATH, in /usr/local/cuda* or pip's wheels; {_install_compiler(driver)}"
        return Cuda(driver, problems=driver.problems or (problem,))  # without a driver a toolkit is of no use
    return next((found for found in candidates if not found.problems), candidates[0])


def _install_compiler(driver: Driver) -> str:
    if driver.devices and driver.version < (13, 0):
        return (f"the driver runs CUDA up to {_dotted(driver.version)}, for which pip has no compiler: "
                "install that toolkit and name its folder in CUDA_HOME")
    return pip_install("-r", str(REQUIREMENTS))


def _examine(nvcc: Path, driver: Driver) -> Cuda:
    toolkit = _toolkit(nvcc)
    problems = list(driver.problems)
    if toolkit.version < MIN_CUDA:
        problems.append(f"{nvcc} is CUDA {toolkit.name or 'of no known version'}, expected "
                        f"{_dotted(MIN_CUDA)} or newer; name another toolkit in CUDA_HOME")
        return Cuda(driver, toolkit, problems=tuple(problems))
    if driver.devices and toolkit.version[0] > driver.version[0]:
        problems.append(f"{nvcc} is CUDA {toolkit.name}, the driver runs up to {_dotted(driver.version)}; "
                        f"update the driver, or name a toolkit of CUDA {driver.version[0]} in CUDA_HOME")
    parts = {part.name: found for part in PARTS if (found := _find_part(part, toolkit))}
    missing = Cuda(driver, toolkit, parts).missing_parts
    if missing and not driver.problems:  # without a driver they are of no use
        names = " ".join(part.name for part in missing)
        problems.append(f"CUDA {toolkit.name} at {toolkit.root} has no {names}; "
                        + _install_parts(missing, toolkit))
    return Cuda(driver, toolkit, parts, tuple(problems))


def _install_parts(parts: list[Part], toolkit: Toolkit) -> str:
    major = toolkit.version[0]
    if major == 13:
        return pip_install("-r", str(REQUIREMENTS))
    return pip_install(*(f"{part.wheel}-cu{major}" for part in parts))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


# --------------------------------------------------------------------------------------------------- the GPU


def ask_driver() -> Driver:
    """What the driver itself says: without one Jittor's CUDA core aborts the process."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Driver((0, 0), (), ("no NVIDIA driver (libcuda.so.1 is not there)",))
    number = ctypes.c_int(0)

    def ask(function: str, *arguments) -> int:
        status = getattr(driver, function)(ctypes.byref(number), *arguments)
        if status:
            raise OSError(f"the NVIDIA driver answers error {status} to {function}: look at nvidia-smi")
        return number.value

    def ask_device(index: int) -> Device:
        device = ask("cuDeviceGet", index)
        name = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(name, len(name), device)
        major, minor = (ask("cuDeviceGetAttribute", attribute, device) for attribute in (75, 76))
        return Device(name.value.decode(), 10 * major + minor)

    try:
        if status := driver.cuInit(0):
            raise OSError(f"the NVIDIA driver answers error {status} to cuInit: look at nvidia-smi")
        version = ask("cuDriverGetVersion")
        devices = tuple(map(ask_device, range(ask("cuDeviceGetCount"))))
    except OSError as error:
        return Driver((0, 0), (), (str(error),))
    problems = () if devices else ("the NVIDIA driver shows no device: look at CUDA_VISIBLE_DEVICES",)
    return Driver((version // 1000, version % 1000 // 10), devices, problems)


# ---------------------------------------------------------------------------------------------- the compiler


def _find_compilers() -> list[Path]:
    """All nvcc in the order in which they are tried; one that is named is the only one.

    Raises:
        UserError: the named one is not there.
    """
    for name in ("nvcc_path", "CUDA_HOME", "CUDA_PATH"):
        value = os.environ.get(name)
        if value:
            nvcc = Path(value) if name == "nvcc_path" else Path(value) / "bin" / "nvcc"
            if not os.access(nvcc, os.X_OK):
                raise UserError(f"{name}={value}: no compiler {nvcc}; name another toolkit, or unset {name} "
                                "to have one looked for")
            return [nvcc]
    local = sorted(Path("/usr/local").glob("cuda*"), reverse=True)
    local.sort(key=lambda folder: folder.name != "cuda")  # the one that the administrator chose is first
    unpacked = [folder for wheels in _wheels() for folder in sorted(wheels.glob("cu[0-9]*"))]
    candidates = [shutil.which("nvcc"), *(folder / "bin" / "nvcc" for folder in [*local, *unpacked])]
    usable = [Path(nvcc) for nvcc in candidates if nvcc and os.access(nvcc, os.X_OK)]
    return list({nvcc.resolve(): nvcc for nvcc in usable}.values())


@cache
def _toolkit(nvcc: Path) -> Toolkit:
    """The toolkit that nvcc itself says it is of: the file on PATH may be a script that calls it."""
    version = re.search(r"V(\d+)\.(\d+)\.(\d+)", _run(nvcc, "--version"))
    says = dict(re.findall(r"^#\$ (_HERE_|TOP)=(.+)$", _run(nvcc, "--dryrun", "-c", "any.cu"), re.MULTILINE))
    own = Path(says.get("_HERE_", nvcc.parent)).resolve() / "nvcc"
    root = Path(says.get("TOP", own.parent.parent)).resolve()
    return Toolkit(own, root, tuple(map(int, version.groups())) if version else ())


def _run(nvcc: Path, *arguments: str) -> str:
    try:
        return subprocess.run([nvcc, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


# ------------------------------------------------------------------------------------------------- the parts


def _wheels() -> list[Path]:
    """The folders nvidia/ into which pip unpacks NVIDIA's wheels."""
    found = importlib.util.find_spec("nvidia")
    return [Path(folder) for folder in (found.submodule_search_locations or [])] if found else []


def _search_folders(part: Part, toolkit: Toolkit) -> Iterator[Path]:
    """Yields where a part may lie: the toolkit's folder, pip's wheels for its version, the system's."""
    yield toolkit.root
    major = toolkit.version[0]
    for wheels in _wheels():
        yield wheels / f"cu{major}"
        if _has_wheel(part, major):  # a wheel for another CUDA lies in the same place
            yield from (wheels / name for name in
                        (part.name, part.wheel.removeprefix("nvidia-").replace("-", "_")))
    if part.name in ("cudnn", "nccl") or toolkit.root.is_relative_to("/usr/lib"):
        yield Path("/usr")


def _has_wheel(part: Part, major: int) -> bool:
    try:
        return bool(distribution(f"{part.wheel}-cu{major}"))
    except PackageNotFoundError:
        return False


_INCLUDES = ("include", "include/cccl", "targets/x86_64-linux/include", "targets/x86_64-linux/include/cccl")
_LIBS = ("lib64", "lib", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu")


def _find_part(part: Part, toolkit: Toolkit) -> Location | None:
    for folder in _search_folders(part, toolkit):
        include = next((folder / name for name in _INCLUDES if (folder / name / part.header).exists()), None)
        lib = next((folder / name for name in _LIBS if library_files(part, folder / name)), None)
        if include and (lib or not part.libraries):
            return Location(include, lib, _version(part, include))
    return None


def library_files(part: Part, lib: Path) -> list[Path]:
    """All names under which the libraries of a part lie in a folder; none unless the first one is there."""
    def files(stem: str) -> list[Path]:
        return sorted([*lib.glob(f"{stem}.so*"), *lib.glob(f"{stem}.a")])

    found = [files(stem) for stem in part.libraries]
    return [file for each in found for file in each] if found and found[0] else []


def _version(part: Part, include: Path) -> str:
    try:
        text = (include / part.version_header).read_text(errors="replace") if part.version_header else ""
    except OSError:
        return ""
    if not part.scales:
        lines = rf"#define {part.name.upper()}_(?:VER_)?(?:MAJOR|MINOR|PATCH|PATCHLEVEL)\s+(\d+)"
        return ".".join(re.findall(lines, text))
    found = re.search(rf"#define {part.name.upper()}_VERSION\s+(\d+)", text)
    number, version = int(found[1]) if found else 0, []
    for scale in part.scales:
        version.append(number // scale)
        number %= scale
    return _dotted(tuple(version))

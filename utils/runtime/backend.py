"""The one door to Jittor: prepares its environment, then imports it.

Jittor compiles itself at import, downloads what it misses and reads its settings from the environment at
that moment, so everything has to be in place before. Programs call `prepare(device)` first; anything else
just writes ``from utils.runtime.backend import jt`` and gets the device that ``auto`` picks.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from utils import ranks
from utils.errors import UserError
from utils.files import PROJECT_ROOT
from utils.runtime import compilation, cuda, cuda_home, precisions, threads

DEVICES = ("auto", "cpu", "cuda")
DEVICE_VARIABLE = "JITTOR_PRANET_DEVICE"  # what "auto" stands for, where it is set
CACHE_VARIABLE = "JITTOR_PRANET_CACHE"
THREADS_VARIABLE = "JITTOR_PRANET_COMPILE_THREADS"  # for those who take the risk, as nvcc is slow
CUDNN_SHAPES = 10000  # that keep the algorithm found for them; Jittor's 100 are too few for three scales

_jittor: ModuleType | None = None
_device = _precision = ""


def __getattr__(name: str) -> ModuleType:
    if name == "jt":
        prepare("auto")
        return _jittor
    raise AttributeError(name)


def prepare(device: str = "auto", precision: str = "fp32") -> str:
    """Imports Jittor for ``device`` and returns the device in use, "cpu" or "cuda".

    The first call decides; Jittor cannot change its device later, and the precision goes with it. The
    precisions are those of utils/runtime/precisions.py.

    Raises:
        UserError: something is missing, with what to install; another device or precision is in use already;
            or the CPU is to round.
    """
    global _jittor, _device, _precision
    if _device:
        if device not in ("auto", _device):
            raise UserError(f"--device {device}: Jittor runs on {_device} in this process already")
        if precision not in ("fp32", _precision):
            raise UserError(f"--precision {precision}: this process computes in {_precision} already")
        return _device
    chosen = choose_device(device)
    precisions.check(precision, chosen)
    if device == "auto" and chosen == "cpu":
        _say_why_no_gpu()
    problems = [check.found for check in requirements() if not check.ok]
    if problems:
        raise UserError("; ".join(problems))
    cache = cache_folder()
    with compilation.building_core(cache, chosen):
        _link_onednn()
        settings = _settings(chosen, cache, precision)
        if ranks.WORLD_SIZE > 1:
            _compile_jittor(settings)
        else:
            jittor = _import_jittor(settings)
    if ranks.WORLD_SIZE > 1:
        jittor = _import_jittor(settings)
    jittor.flags.use_cuda = int(chosen == "cuda")
    if chosen == "cuda":
        if None in (jittor.cudnn, jittor.compile_extern.cublas):  # it goes on without, and says nothing
            _compile_jittor({**settings, "log_silent": "0"})
            raise _import_failed("it has left out cuDNN or cuBLAS", settings)
        jittor.cudnn.set_algorithm_cache_size(CUDNN_SHAPES)
        precisions.use_tensor_cores(jittor, precision)
    _jittor, _device, _precision = jittor, chosen, precision
    return chosen


def _say_why_no_gpu() -> None:
    """A computation that silently takes the CPU beside a GPU is a day lost."""
    found = cuda.find()
    if found.devices and ranks.is_rank_0() and not os.environ.get(DEVICE_VARIABLE):
        print(f"computing on the CPU, although there is a GPU: {'; '.join(found.missing)}", file=sys.stderr)


def _import_jittor(settings: dict[str, str]) -> ModuleType:
    # Jittor's kernels, built with -Ofast, have the processor take subnormal numbers for zero. NumPy measures
    # its types at first use and would warn of that.
    for kind in (np.float32, np.float64):
        np.finfo(kind)
    with _environment(settings, hidden=() if ranks.WORLD_SIZE > 1 else (ranks.SIZE_VARIABLE,)), \
            _child_signal_kept():
        try:
            import jittor
        except Exception as error:
            raise _import_failed(str(error), settings) from error
    compilation.dismiss_compilers()
    return jittor


def _compile_jittor(settings: dict[str, str]) -> None:
    """Imports Jittor in a process of its own, which is not one of the many.

    Those have to import it all at once, since each waits for the others in the middle; by then there must be
    nothing left to compile.
    """
    with _environment(settings, hidden=(ranks.SIZE_VARIABLE,)):
        done = subprocess.run([sys.executable, "-c", "import jittor"], capture_output=True, text=True)
    if done.returncode:
        raise _import_failed(done.stderr, settings)


def _import_failed(reason: str, settings: dict[str, str]) -> UserError:
    return UserError(f"Jittor cannot be compiled or loaded ({' '.join(reason.split())[-300:]}); free some "
                     f"room, or delete {settings['HOME']} to start afresh")


def choose_device(device: str) -> str:
    """"cpu" or "cuda" for one of `DEVICES`. Raises UserError where CUDA is asked for and is not whole."""
    if device == "auto":
        device = os.environ.get(DEVICE_VARIABLE, device)
    if device not in DEVICES:
        raise UserError(f"{DEVICE_VARIABLE}={device}: expected one of {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    found = cuda.find()
    if device == "cuda" and found.missing:
        raise UserError("--device cuda: " + "; ".join(found.missing))
    return "cpu" if found.missing else "cuda"


def compiling(what: str) -> contextlib.AbstractContextManager:
    """Shows that ``what`` compiles kernels, if it does."""
    return compilation.watching_kernels(what, Path(_jittor.flags.cache_path) / "jit")


# ---------------------------------------------------------------------------------------------- requirements


@dataclass(frozen=True)
class Check:
    """One line of `doctor`: whether something needed is there, and what was found or is to be done."""

    name: str
    ok: bool
    found: str


def requirements() -> list[Check]:
    """What Jittor needs on any device."""
    return [_check_python(), _check_compiler(), _check_headers(), _check_packages(), _check_onednn(),
            _check_cache(), *([_check_mpi()] if ranks.WORLD_SIZE > 1 else [])]


def _check_python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 9) <= sys.version_info[:2] <= (3, 12):
        return Check("python", False, f"Python {version} runs, but Jittor 1.3.11 needs 3.9 to 3.12; make a "
                                      "virtual environment with one of those")
    return Check("python", True, f"{version} at {sys.executable}")


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
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = {name: version(name) for name in ("jittor", "numpy", "pillow", "scipy", "tqdm")}
    except PackageNotFoundError as error:
        return Check("packages", False, f"the package {error.name} is missing; {_install()}")
    if int(found["numpy"].split(".")[0]) >= 2:
        return Check("packages", False, f"numpy {found['numpy']} is here, expected numpy < 2; {_install()}")
    return Check("packages", True, ", ".join(f"{name} {number}" for name, number in found.items()))


def _check_onednn() -> Check:
    prefix = _onednn_prefix()
    if prefix is None:
        return Check("onednn", False, f"oneDNN (libdnnl.so.2 and dnnl.hpp) is missing; {_install()}")
    return Check("onednn", True, str(prefix / "lib" / "libdnnl.so.2"))


def _check_mpi() -> Check:
    path = shutil.which("mpicc")
    if path is None:
        return Check("mpi", False, f"mpirun started {ranks.WORLD_SIZE} processes, but Open MPI's mpicc is "
                                   "not on PATH; install it (Debian: apt install openmpi-bin libopenmpi-dev)")
    return Check("mpi", True, path)


def _install() -> str:
    requirements_file = PROJECT_ROOT / "requirements.txt"
    return f"run: {shlex.join([sys.executable, '-m', 'pip', 'install', '-r', str(requirements_file)])}"


def _check_cache() -> Check:
    try:
        folder = cache_folder()
    except UserError as error:
        return Check("cache", False, str(error))
    free = shutil.disk_usage(folder).free / 2**30
    return Check("cache", True, f"{folder}, {free:.1f} GiB free")


def cache_folder() -> Path:
    """Where Jittor keeps what it compiles: ours alone, so that the user's own Jittor is left as it is.

    ``$JITTOR_PRANET_CACHE``, else ``~/.cache/jittor-pranet``, else (home read-only, or a path with a space,
    which Jittor's compile commands cannot take) a folder of this user under the temporary folder.

    Raises:
        UserError: none of them can be used.
    """
    asked = os.environ.get(CACHE_VARIABLE)
    if asked:
        folder = Path(asked).expanduser().absolute()
        if " " in str(folder) or not _is_ours(folder):
            raise UserError(f"{CACHE_VARIABLE}={asked}: cannot be used; name a writable folder of your own "
                            "without spaces in its path")
        return folder
    home = Path.home() / ".cache" / "jittor-pranet"
    temporary = Path(tempfile.gettempdir()) / f"jittor-pranet-{os.getuid()}"
    for folder in (home, temporary):
        if " " not in str(folder) and _is_ours(folder):
            return folder
    raise UserError(f"neither {home} nor {temporary} can be written; set {CACHE_VARIABLE} to one that can")


def _is_ours(folder: Path) -> bool:
    """Whether we can write there and nobody else owns it: compiled code is loaded from it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder.stat().st_uid == os.getuid()
    except OSError:
        return False


# ----------------------------------------------------------------------------------------------- environment


def _settings(device: str, cache: Path, precision: str) -> dict[str, str]:
    """Jittor's settings, all of them read at import."""
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
        "use_sfrl_allocator": "1",  # without it a reshaped variable has lost its memory
        **threads.waiting(),
        **(_cuda_settings(cache, precision) if device == "cuda" else {}),
    }


def _cuda_settings(cache: Path, precision: str) -> dict[str, str]:
    """One CUDA home and one cache for each set of versions and GPUs; of many processes each has a GPU."""
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
def _child_signal_kept() -> Iterator[None]:
    """Puts back what is done at SIGCHLD: Jittor quits when a child is killed or stopped, as by Ctrl-Z."""
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # no other may set it
            signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


@contextlib.contextmanager
def _environment(settings: dict[str, str], hidden: tuple[str, ...]) -> Iterator[None]:
    """Makes Jittor's settings, which stay but for HOME, and hides variables from it while the block runs."""
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
    if not path.is_file():
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(script)
        beside.chmod(0o700)
        beside.replace(path)
    return path


def _onednn_prefix() -> Path | None:
    """The prefix into which pip unpacked the oneDNN wheels."""
    for prefix in map(Path, (sys.prefix, site.getuserbase(), sys.base_prefix)):
        if (prefix / "lib" / "libdnnl.so.2").exists() and (prefix / "include" / "dnnl.hpp").exists():
            return prefix
    return None


def onednn_home() -> Path:
    """The folder with oneDNN's include/ and lib/, where Jittor would download it to."""
    return cache_folder() / ".cache" / "jittor" / "mkl" / "dnnl_lnx_2.2.0_cpu_gomp"


def _link_onednn() -> None:
    """Links oneDNN into `onednn_home`; anew each time, since an environment can move."""
    prefix, home = _onednn_prefix(), onednn_home()
    (home / "lib").mkdir(parents=True, exist_ok=True)
    library = prefix / "lib" / "libdnnl.so.2"
    links = {"include": prefix / "include", "lib/libmkldnn.so": library, "lib/libdnnl.so.2": library}
    for name, target in links.items():
        link = home / name
        if not (link.is_symlink() and Path(os.readlink(link)) == target):
            beside = link.with_name(f".{link.name}.{os.getpid()}")
            beside.symlink_to(target)
            beside.replace(link)

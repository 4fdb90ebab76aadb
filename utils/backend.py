"""The one door to Jittor: prepares its environment, then imports it.

Jittor compiles itself at import, downloads what it misses and reads its settings from the environment at
that moment, so everything has to be in place before. Programs call `prepare(device)` first; anything else
just writes ``from utils.backend import jt`` and gets the device that ``auto`` picks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import site
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from utils import cuda
from utils.errors import UserError
from utils.progress import Progress

DEVICES = ("auto", "cpu", "cuda")
CACHE_VARIABLE = "JITTOR_PRANET_CACHE"
CORE_OBJECTS = 150  # object files in a built Jittor 1.3.11 core, to within a few: for the progress bar only

_jittor: ModuleType | None = None
_device: str | None = None


def __getattr__(name: str) -> ModuleType:
    if name == "jt":
        prepare("auto" if _device is None else _device)
        return _jittor
    raise AttributeError(name)


def add_device_argument(parser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto",
                        help="where to compute; auto takes CUDA where a GPU and a whole CUDA home are found")


def prepare(device: str = "auto") -> str:
    """Imports Jittor for ``device`` and returns the device in use, "cpu" or "cuda".

    The first call decides; Jittor cannot change its device later.

    Raises:
        UserError: something is missing, with what to install; or another device is in use already.
    """
    global _jittor, _device
    if _device is not None:
        if device not in ("auto", _device):
            raise UserError(f"device {device} asked for, but Jittor already runs on {_device} in this process")
        return _device
    chosen = choose_device(device)
    problems = [check.found for check in requirements() if not check.ok]
    if problems:
        raise UserError("; ".join(problems))
    cache = cache_folder()
    environment = {**_environment(chosen, cache), "HOME": str(cache)}
    # Jittor takes its cache from the home folder and would write JITTOR_HOME, if set, into the user's own
    # configuration; pointing HOME at our cache while it is imported avoids both.
    with _replaced_environment(environment, keep=("HOME", "JITTOR_HOME")), _compiling_once(cache):
        _link_onednn(cache)
        import jittor
    jittor.flags.use_cuda = int(chosen == "cuda")
    _jittor, _device = jittor, chosen
    return chosen


def choose_device(device: str) -> str:
    """"cpu" or "cuda" for one of `DEVICES`. Raises UserError where CUDA is asked for and is not whole."""
    if device == "cpu":
        return "cpu"
    found = cuda.find()
    if found.usable:
        return "cuda"
    if device == "cuda":
        raise UserError("--device cuda: " + "; ".join(found.missing))
    return "cpu"


# ---------------------------------------------------------------------------------------------- requirements


class Check:
    """One line of `doctor`: whether something needed is there, and what was found."""

    def __init__(self, name: str, ok: bool, found: str):
        self.name, self.ok, self.found = name, ok, found


def requirements() -> list[Check]:
    """What Jittor needs on any device, each with what was found or what to do."""
    return [_check_python(), _check_compiler(), _check_headers(), _check_onednn(), _check_cache()]


def _check_python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 9) <= sys.version_info[:2] <= (3, 12):
        return Check("python", False, f"Python {version} runs, but Jittor 1.3.11 needs 3.9 to 3.12; "
                                      "make a virtual environment with one of those")
    return Check("python", True, f"{version} at {sys.executable}")


def _check_compiler() -> Check:
    name = os.environ.get("cc_path") or "g++"
    path = shutil.which(name)
    if path is None:
        return Check("compiler", False, f"no C++ compiler {name} on PATH; install g++ (Debian: apt install g++)")
    return Check("compiler", True, path)


def _check_headers() -> Check:
    folder = Path(sysconfig.get_path("include"))
    if not (folder / "Python.h").is_file():
        version = f"python3.{sys.version_info.minor}"
        return Check("headers", False, f"{folder} has no Python.h; install {version}-dev (Debian: apt install "
                                       f"{version}-dev)")
    return Check("headers", True, str(folder))


def _check_onednn() -> Check:
    prefix = _onednn_prefix()
    if prefix is None:
        return Check("onednn", False, "the oneDNN wheels are missing; run: "
                                      f"{sys.executable} -m pip install -r requirements.txt")
    return Check("onednn", True, str(prefix / "lib"))


def _check_cache() -> Check:
    try:
        return Check("cache", True, str(cache_folder()))
    except UserError as error:
        return Check("cache", False, str(error))


def cache_folder() -> Path:
    """Where Jittor keeps what it compiles: ours alone, so that the user's own Jittor is left as it is.

    ``$JITTOR_PRANET_CACHE``, else ``~/.cache/jittor-pranet``, else (home read-only, or a path with a space,
    which Jittor's compile commands cannot take) a folder of this user under the temporary folder.
    """
    asked = os.environ.get(CACHE_VARIABLE)
    if asked:
        folder = Path(asked).expanduser().absolute()
        if " " in str(folder) or not _is_writable(folder):
            raise UserError(f"{CACHE_VARIABLE}={asked}: cannot be used; name a writable folder without spaces")
        return folder
    temporary = Path(tempfile.gettempdir()) / f"jittor-pranet-{os.getuid()}"
    for folder in (Path.home() / ".cache" / "jittor-pranet", temporary):
        if " " not in str(folder) and _is_writable(folder):
            return folder
    raise UserError(f"neither {Path.home()}/.cache nor {temporary} can be written; set {CACHE_VARIABLE} to a "
                    "writable folder without spaces")


def _is_writable(folder: Path) -> bool:
    """Whether files can be made there, and by nobody else's will: a stranger's folder in /tmp is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder.stat().st_uid == os.getuid()
    except OSError:
        return False


# ----------------------------------------------------------------------------------------------- environment


def _environment(device: str, cache: Path) -> dict[str, str]:
    """Jittor's settings, all of them read at import."""
    settings = {
        "cache_name": f"pranet-{device}",  # a CPU core in the same cache would shadow a CUDA build
        "nvcc_path": str(cuda.find().nvcc) if device == "cuda" else "",
        "python_config_path": str(_python_config(cache)),
        # Downloads, and parts that nothing here uses.
        "use_cutt": "0", "use_cutlass": "0", "use_nccl": "0", "use_mpi": "0", "use_acl": "0",
        "gdb_path": "", "log_silent": os.environ.get("log_silent", "1"),
        "use_parallel_op_compiler": os.environ.get("use_parallel_op_compiler", "0"),
    }
    return settings


@contextlib.contextmanager
def _replaced_environment(settings: dict[str, str], keep: tuple[str, ...]) -> Iterator[None]:
    """Sets the environment; variables in ``keep`` get their old values back, the others stay."""
    before = {name: os.environ.pop(name, None) for name in keep}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _python_config(cache: Path) -> Path:
    """A python-config for the running interpreter; virtual environments have none for Jittor to find."""
    folders = {sysconfig.get_path(name) for name in ("include", "platinclude")}
    includes = shlex.quote(" ".join(f'-I"{folder}"' for folder in sorted(folders)))
    suffix = shlex.quote(sysconfig.get_config_var("EXT_SUFFIX"))
    path = cache / f"python-config-{sys.implementation.cache_tag}-{abs(hash_text(includes)):08x}"
    script = f'#!/bin/sh\ncase "$1" in\n--includes) echo {includes};;\n--extension-suffix) echo {suffix};;\nesac\n'
    _write_once(path, script.encode(), 0o700)
    return path


def hash_text(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode())


def _write_once(path: Path, content: bytes, mode: int) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.chmod(mode)
    beside.replace(path)


def _onednn_prefix() -> Path | None:
    """The prefix into which pip unpacked the oneDNN wheels: lib/libdnnl.so.2 and include/dnnl.hpp."""
    for prefix in (sys.prefix, site.getuserbase(), sys.base_prefix):
        if (Path(prefix) / "lib" / "libdnnl.so.2").exists() and (Path(prefix) / "include" / "dnnl.hpp").exists():
            return Path(prefix)
    return None


def _link_onednn(cache: Path) -> None:
    """Puts oneDNN where Jittor would download it to. Links, made anew each time: an environment can move."""
    prefix = _onednn_prefix()
    home = cache / ".cache" / "jittor" / "mkl" / "dnnl_lnx_2.2.0_cpu_gomp"
    (home / "lib").mkdir(parents=True, exist_ok=True)
    links = {home / "include": prefix / "include",
             home / "lib" / "libmkldnn.so": prefix / "lib" / "libdnnl.so.2",
             home / "lib" / "libdnnl.so.2": prefix / "lib" / "libdnnl.so.2"}
    for link, target in links.items():
        if not (link.is_symlink() and Path(os.readlink(link)) == target):
            beside = link.with_name(f".{link.name}.{os.getpid()}")
            beside.symlink_to(target)
            beside.replace(link)


# ----------------------------------------------------------------------------------------------- compilation


@contextlib.contextmanager
def _compiling_once(cache: Path) -> Iterator[None]:
    """One process at a time imports Jittor; shows the progress of the first import, which builds its core."""
    with open(cache / "import.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process is starting Jittor; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        done = threading.Event()
        watcher = threading.Thread(target=_show_core_build, args=(cache, done), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def _show_core_build(cache: Path, done: threading.Event) -> None:
    start = time.time()
    if done.wait(5.0):  # a built core is imported in two seconds
        return
    print("building Jittor's core: once per machine and environment, about three minutes", file=sys.stderr)
    with Progress(CORE_OBJECTS, "core", "file") as progress:
        while not done.wait(1.0):
            built = sum(path.stat().st_mtime >= start - 60 for path in cache.rglob("obj_files/*.o"))
            if built > progress.done:
                progress.step(min(built, CORE_OBJECTS) - progress.done)

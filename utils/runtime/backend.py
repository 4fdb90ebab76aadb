"""The one door to Jittor: prepares its environment, then imports it.

Jittor compiles itself at import, downloads what it misses and reads its settings from the environment at
that moment, so everything has to be in place before. Programs call `prepare(device)` first; anything else
just writes ``from utils.runtime.backend import jt`` and gets the device that ``auto`` picks.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from utils import ranks
from utils.errors import UserError
from utils.runtime import compilation, jittor_copy, precisions
from utils.runtime.cache import cache_folder
from utils.runtime.device import choose_device, warn_of_unused_gpu
from utils.runtime.onednn import link_onednn
from utils.runtime.requirements import check_requirements
from utils.runtime.settings import environment, jittor_settings

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
        warn_of_unused_gpu()
    problems = [check.detail for check in check_requirements() if not check.ok]
    if problems:
        raise UserError("; ".join(problems))
    cache = cache_folder()
    with compilation.import_lock(cache, chosen):
        link_onednn()
        jittor_copy.use_where_needed(cache)
        settings = jittor_settings(chosen, cache, precision)
        if ranks.WORLD_SIZE > 1:
            _import_in_child(settings)
        else:
            jittor = _import_jittor(settings)
    if ranks.WORLD_SIZE > 1:
        jittor = _import_jittor(settings)
    jittor.flags.use_cuda = int(chosen == "cuda")
    if chosen == "cuda":
        if None in (jittor.cudnn, jittor.compile_extern.cublas):  # it goes on without, and says nothing
            _import_in_child({**settings, "log_silent": "0"})
            raise _import_failed("it has left out cuDNN or cuBLAS", settings)
        jittor.cudnn.set_algorithm_cache_size(CUDNN_SHAPES)
        precisions.use_tensor_cores(jittor, precision)
    _jittor, _device, _precision = jittor, chosen, precision
    return chosen


def compiling(what: str) -> contextlib.AbstractContextManager:
    """A block that reports how many kernels ``what`` compiles, if it does."""
    return compilation.report_kernels(what, Path(_jittor.flags.cache_path) / "jit")


def _import_jittor(settings: dict[str, str]) -> ModuleType:
    # Jittor's kernels, built with -Ofast, have the processor take subnormal numbers for zero. NumPy measures
    # its types at first use and would warn of that.
    for kind in (np.float32, np.float64):
        np.finfo(kind)
    with environment(settings, hidden=() if ranks.WORLD_SIZE > 1 else (ranks.SIZE_VARIABLE,)), \
            _child_handler_restored():
        try:
            import jittor
        except Exception as error:
            raise _import_failed(str(error), settings) from error
    compilation.stop_compile_pool()
    return jittor


def _import_in_child(settings: dict[str, str]) -> None:
    """Imports Jittor in a process that is no rank, which compiles it.

    The ranks have to import it all at once, since each waits for the others in the middle; by then there must
    be nothing left to compile.
    """
    with environment(settings, hidden=(ranks.SIZE_VARIABLE,)):
        done = subprocess.run([sys.executable, "-c", "import jittor"], capture_output=True, text=True)
    if done.returncode:
        raise _import_failed(done.stderr, settings)


def _import_failed(reason: str, settings: dict[str, str]) -> UserError:
    return UserError(f"Jittor cannot be compiled or loaded ({' '.join(reason.split())[-300:]}); free some "
                     f"room, or delete {settings['HOME']} to start afresh")


@contextlib.contextmanager
def _child_handler_restored() -> Iterator[None]:
    """Restores the handler of SIGCHLD: Jittor's quits when a child is killed or stopped, as by Ctrl-Z."""
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # no other may set it
            signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)

"""A candidate's process: does a task when it is asked to, and answers how long it took."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jittor_pranet.benchmarks.frameworks import Jittor, Torch
from jittor_pranet.benchmarks.report import nvidia
from utils.runtime import threads

UNIT_S = 0.05  # what is quicker is repeated within a timing until it lasts as long; a task may have its own
MAX_WARM_UP = 20  # calls
FRAMEWORKS = {"jittor": Jittor, "plain": partial(Jittor, plain=True), "torch": Torch,
              "torch.compile": partial(Torch, compiled=True)}


@dataclass(frozen=True)
class WarmUp:
    """Seconds and number of the calls until their time was steady, and the outputs of the first two."""

    seconds: float
    calls: int
    outputs: list[list[np.ndarray]]


def serve(connection, name: str, device: str, precision: str) -> None:
    """Answers (request, argument ...) by (True, result) or (False, why not), until the other end closes."""
    os.environ.update(threads.wait_policy())  # as utils.runtime.backend has it, and the same for all
    os.setpgrp()  # Ctrl-C is for the parent, which ends us; Jittor would take it, whatever is said here
    candidate = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            request, *arguments = connection.recv()
            try:
                candidate = candidate or Candidate(name, device, precision)
                answer = True, getattr(candidate, request)(*arguments)
            except Exception as error:  # whatever it is belongs into the table
                answer = False, " ".join(f"{type(error).__name__}: {error}".split())[:200]
            connection.send(answer)


class Candidate:
    """A framework at work. Its methods are the requests that a process serves."""

    def __init__(self, name: str, device: str, precision: str):
        self.on_cuda = device == "cuda"
        self.before = _device_memory() if self.on_cuda else 0
        self.framework = FRAMEWORKS[name](device, precision)
        self.call = None

    def describe(self) -> dict[str, str]:
        return self.framework.describe()

    def warm_up(self, task) -> WarmUp:
        """Takes up a task in place of the last, and does it until a call takes as long as the one before."""
        self.call = None
        gc.collect()
        self.framework.free_memory()
        self.call, self.repeats = self.framework.callable_for(task), 1
        seconds, outputs = [], []
        while len(seconds) < 2 or (seconds[-1] < 0.9 * seconds[-2] and len(seconds) < MAX_WARM_UP):
            start = time.perf_counter()
            result = self._run()
            seconds.append(time.perf_counter() - start)
            if len(outputs) < 2:
                outputs.append(self.framework.to_numpy(result))
        self.repeats = math.ceil(getattr(task, "unit_s", UNIT_S) / seconds[-1])
        if self.on_cuda:  # the others stand still meanwhile
            self.taken = _device_memory() - self.before
        else:
            _reset_peak()
        return WarmUp(sum(seconds), len(seconds), outputs)

    def first_call(self, task) -> int:
        """Does a task once; returns how many kernels were compiled for it."""
        before = self.framework.compiled_kernels()
        self.call, self.repeats = self.framework.callable_for(task), 1
        self._run()
        return self.framework.compiled_kernels() - before

    def time(self) -> float:
        """Seconds of one call."""
        start = time.perf_counter()
        self._run()
        return (time.perf_counter() - start) / self.repeats

    def peak(self) -> int:
        """Most bytes of memory that this process has held since the warm-up; on CUDA those of the device that
        were taken from the process's start to the end of the warm-up, pools and context included."""
        if self.on_cuda:
            return self.taken
        return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

    def _run(self):
        outputs = None
        for _ in range(self.repeats):
            outputs = None  # frees the last call's before the next
            outputs = self.call()
        self.framework.synchronize()
        return outputs


def _reset_peak() -> None:
    """Gives back freed memory, then lets Linux begin anew with VmHWM (man 5 proc, clear_refs)."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _device_memory() -> int:
    """Bytes of the first GPU in use, by whomever."""
    return int(nvidia("memory.used")) * 2**20

"""Jittor and PyTorch as a candidate's process uses them, by the same interface."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from utils.runtime import threads
from utils.runtime.precisions import TF32_VARIABLE


class Jittor:
    """Jittor with our operations, or with the plain formulas that they compute."""

    def __init__(self, device: str, precision: str, plain: bool = False):
        from utils.runtime import backend

        backend.prepare(device, precision)
        self.jt = backend.jt
        if plain:
            from lib.ops import use_plain_ops

            use_plain_ops()

    def callable_for(self, task) -> Callable[[], object]:
        return task.in_jittor(self)

    def synchronize(self) -> None:
        self.jt.sync_all(True)

    def to_numpy(self, outputs: Iterable) -> list[np.ndarray]:
        """Copies, which later calls leave alone."""
        return [np.array(each.numpy() if isinstance(each, self.jt.Var) else each) for each in outputs]

    def free_memory(self) -> None:
        """Gives back what no variable holds any more."""
        self.jt.gc()

    def compiled_kernels(self) -> int:
        """How many kernels the cache on disk holds."""
        return sum(1 for _ in (Path(self.jt.flags.cache_path) / "jit").glob("*.so"))

    def describe(self) -> dict[str, str]:
        from utils.runtime import cuda

        versions = {"jittor": version("jittor")}
        if self.jt.flags.use_cuda:
            toolkit, parts = cuda.find().toolkit, cuda.find().parts
            return {**versions, "CUDA": toolkit.name, "cuDNN": parts["cudnn"].version}
        with contextlib.suppress(PackageNotFoundError):
            versions["oneDNN"] = version("onednn-cpu-gomp")
        return {**versions, **_threads(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))}


class Torch:
    """PyTorch, eager, or with networks and losses compiled: by Inductor, on CUDA with CUDA graphs."""

    def __init__(self, device: str, precision: str, compiled: bool = False):
        if precision == "fp32":
            os.environ[TF32_VARIABLE] = "0"
        import torch

        self.torch, self.device, self.compiled = torch, torch.device(device), compiled
        self.half = precision == "amp"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"  # it takes it for convolutions by itself
        torch.backends.cudnn.benchmark = True  # the sizes stay the same

    def callable_for(self, task) -> Callable[[], object]:
        call = task.in_torch(self)
        return self.torch.autocast(self.device.type, self.torch.float16)(call) if self.half else call

    def compile(self, function: Callable) -> Callable:
        """The function itself where this is eager PyTorch."""
        if not self.compiled:
            return function
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        return self.torch.compile(function, mode=mode)

    def tensor(self, values: np.ndarray):
        return self.torch.from_numpy(values).to(self.device)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def to_numpy(self, outputs: Iterable) -> list[np.ndarray]:
        return [np.array(each.detach().cpu() if isinstance(each, self.torch.Tensor) else each)
                for each in outputs]

    def free_memory(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()

    def compiled_kernels(self) -> int:
        return 0

    def describe(self) -> dict[str, str]:
        torch = self.torch
        versions = {"torch": torch.__version__, "mode": "compiled" if self.compiled else "eager"}
        if self.device.type == "cuda":
            return {**versions, "CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}
        onednn = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
        return {**versions, "oneDNN": onednn[1] if onednn else "none", **_threads(torch.get_num_threads())}


def _threads(number) -> dict[str, str]:
    return {"threads": " ".join([str(number), *map("=".join, threads.wait_policy().items())])}

"""What the machine can do at most: products of matrices, and copying memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jittor_pranet.benchmarks.comparison import CandidateError, CandidateProcess
from jittor_pranet.benchmarks.frameworks import Jittor, Torch
from utils.data.synthetic import deterministic

ROUNDS = 5

_COPY_CPU = """
    const long size = in0->size, piece = 1 << 20;
    #pragma omp parallel for
    for (long start = 0; start < size; start += piece)
        memcpy((char*)out0_p + start, (char*)in0_p + start, std::min(piece, size - start));
"""
_COPY_CUDA = "cudaMemcpyAsync(out0_p, in0_p, in0->size, cudaMemcpyDeviceToDevice, 0);"


@dataclass(frozen=True)
class Product:
    """The product of two square float32 matrices."""

    side: int

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        first, second = (jittor.jt.array(each) for each in self._factors())
        return lambda: [jittor.jt.matmul(first, second).sync()]

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        first, second = map(torch.tensor, self._factors())
        return lambda: [first @ second]

    def _factors(self) -> list[np.ndarray]:
        shape = self.side, self.side
        return [deterministic.stream(name).normal(size=shape).astype(np.float32) for name in "ab"]


@dataclass(frozen=True)
class Copy:
    """A copy of so many bytes, more than caches hold."""

    bytes: int

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        source = jittor.jt.array(self._source())
        return lambda: [jittor.jt.code(source.shape, source.dtype, [source], cpu_header="#include <cstring>",
                                       cpu_src=_COPY_CPU, cuda_src=_COPY_CUDA).sync()]

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        source = torch.tensor(self._source())
        target = source.clone()
        return lambda: [target.copy_(source)]

    def _source(self) -> np.ndarray:
        return np.ones(self.bytes // 4, np.float32)


def product_rate(processes: dict[str, CandidateProcess], device: str) -> float:
    """Multiplications with addition, in 1e9 per second; 0 if no candidate can do any."""
    task = Product(8192 if device == "cuda" else 2048)
    return task.side**3 / 1e9 / _shortest(processes, task)


def copy_rate(processes: dict[str, CandidateProcess]) -> float:
    """GB per second, read and written; 0 if no candidate can copy."""
    task = Copy(2**28)
    return 2 * task.bytes / 1e9 / _shortest(processes, task)


def _shortest(processes: dict[str, CandidateProcess], task) -> float:
    """Seconds of the quickest candidate in its best round; infinite if none can do it."""
    seconds = [math.inf]
    for each in processes.values():
        try:
            each.ask("warm_up", task)
            seconds += [each.ask("time") for _ in range(ROUNDS)]
        except CandidateError:  # what is wrong with it stands in the table of the work that was asked for
            continue
    return min(seconds)

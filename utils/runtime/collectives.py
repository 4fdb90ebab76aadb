"""Sums and messages between ranks, through Jittor's MPI.

Every rank calls these equally often and in the same order, or all of them wait for ever.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator

import numpy as np

from utils import ranks
from utils.ranks import Shard
from utils.runtime import backend
from utils.signals import Interruption

_shard: Shard | None = None  # of the batch in work
_last_sum = None  # which the next one waits for


@contextlib.contextmanager
def sharding(shard: Shard) -> Iterator[None]:
    """Tells layers, while the block runs, that the images they see are this shard of a batch."""
    global _shard, _last_sum
    _shard = shard
    try:
        yield
    finally:
        _shard = _last_sum = None


def current_shard(images: int) -> Shard:
    """The shard of the batch in work, of which ``images`` are here; all of them where nothing is sharded."""
    return _shard or Shard(0, images, images)


def all_reduce_batch(x):
    """The sum of ``x`` (float32 or float64, of one shape) over the ranks that share the batch in work."""
    return all_reduce(x) if _shard and _shard.split else x


def all_reduce(x):
    """The sum of ``x`` (float32 or float64, of one shape) over all ranks."""
    global _last_sum
    if ranks.WORLD_SIZE == 1:
        return x
    total = x.mpi_all_reduce("add")
    # Jittor may compute what does not depend on each other in any order; here it must be everybody's.
    if _last_sum is not None:
        total._add_dependency([_last_sum])
    _last_sum = total
    return total


def all_gather(value) -> list:
    """The values of all ranks, by rank; anything that can be pickled."""
    if ranks.WORLD_SIZE == 1:
        return [value]
    own = np.frombuffer(pickle.dumps(value), np.uint8)
    values = []
    for rank in range(ranks.WORLD_SIZE):
        length = np.array([len(own)], np.int64).view(np.uint8)
        _broadcast(length, rank)
        message = own.copy() if rank == ranks.RANK else np.empty(length.view(np.int64)[0], np.uint8)
        _broadcast(message, rank)
        values.append(pickle.loads(message))
    return values


def barrier() -> None:
    """Returns once every rank has called it."""
    all_gather(None)


def broadcast_parameters(variables: list) -> None:
    """Sets Jittor's variables on all ranks to their values on rank 0."""
    if ranks.WORLD_SIZE == 1:
        return
    for variable in variables:
        array = variable.numpy()
        _broadcast(array.reshape(-1).view(np.uint8), 0)
        variable.update(array)


def any_signal(interruption: Interruption) -> bool:
    """Whether any rank was sent a signal; all then leave with the same exit code."""
    signals = [number for number in all_gather(interruption.signal) if number]
    if signals:
        interruption.take(signals[0])
    return bool(signals)


def _broadcast(array: np.ndarray, rank: int) -> None:
    """Overwrites ``array``, of bytes, with that of ``rank``."""
    backend.jt.mpi.broadcast(array, rank)

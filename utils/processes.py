"""The processes that train one network together, as Open MPI's mpirun starts them; usually there is one.

Rank and count are known without Jittor; sums and messages go through Jittor's MPI. Every process calls
`batch_sum`, `total_sum` and `gather` equally often and in the same order, or all of them wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SIZE_VARIABLE = "OMPI_COMM_WORLD_SIZE"  # mpirun's, by which Jittor too knows that it is one of many
COUNT = int(os.environ.get(SIZE_VARIABLE, 1))
RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", 0))
LOCAL_RANK = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", 0))  # among those of this machine

FIRST_SPEAKS_S = 3.0  # longer than mpirun leaves the others once a process has failed


def is_first() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return RANK == 0


# -------------------------------------------------------------------------------------- the share of a batch


@dataclass(frozen=True)
class Share:
    """The images of a batch that one process computes: ``start`` to before ``stop`` of ``total``."""

    start: int
    stop: int
    total: int

    @property
    def images(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def split(self) -> bool:
        """Whether other processes have the rest."""
        return self.size < self.total

    @property
    def fraction(self) -> float:
        """Times a mean over these images; the sum over processes is then the mean over the batch."""
        return self.size / self.total if self.split else 1 / COUNT


def share_of(total: int) -> Share:
    """This process's share of a batch of ``total`` images: neighbours, as many as others have or one more.

    Where images are fewer than processes each process computes all of them, and their results are averaged.
    """
    if total < COUNT:
        return Share(0, total, total)
    return Share(total * RANK // COUNT, total * (RANK + 1) // COUNT, total)


_share: Share | None = None  # of the batch in work
_latest = None  # the sum that the next one waits for


@contextlib.contextmanager
def sharing(share: Share) -> Iterator[None]:
    """While the block runs, layers know that the images they see are this share of a batch."""
    global _share, _latest
    _share = share
    try:
        yield
    finally:
        _share = _latest = None


def current_share(images: int) -> Share:
    """That of the batch in work, of which ``images`` are here; all of them where nothing is shared."""
    return _share or Share(0, images, images)


def batch_sum(x):
    """The sum of ``x`` (float32 or float64, of one shape) over the processes that share the batch in work."""
    return total_sum(x) if _share and _share.split else x


def total_sum(x):
    """The sum of ``x`` (float32 or float64, of one shape) over all processes."""
    global _latest
    if COUNT == 1:
        return x
    total = x.mpi_all_reduce("add")
    # Jittor may compute what does not depend on each other in any order; here it must be everybody's.
    if _latest is not None:
        total._add_dependency([_latest])
    _latest = total
    return total


# -------------------------------------------------------------------------------------------------- messages


def gather(value) -> list:
    """What every process gives, by rank; any value that can be pickled."""
    if COUNT == 1:
        return [value]
    own = np.frombuffer(pickle.dumps(value), np.uint8)
    values = []
    for rank in range(COUNT):
        length = np.array([len(own)], np.int64).view(np.uint8)
        _broadcast(length, rank)
        message = own.copy() if rank == RANK else np.empty(length.view(np.int64)[0], np.uint8)
        _broadcast(message, rank)
        values.append(pickle.loads(message))
    return values


def wait_for_all() -> None:
    """Returns once every process has come here."""
    gather(None)


def _broadcast(array: np.ndarray, rank: int) -> None:
    """Overwrites ``array``, of bytes, with that of process ``rank``."""
    from utils.backend import jt

    jt.mpi.broadcast(array, rank)


def take_from_first(variables: list) -> None:
    """Sets Jittor's variables to what the first process has in them."""
    if COUNT == 1:
        return
    for variable in variables:
        array = variable.numpy()
        _broadcast(array.reshape(-1).view(np.uint8), 0)
        variable.update(array)


# ------------------------------------------------------------------------------------------------------- end


def let_the_first_speak() -> None:
    """Before a process tells of a mistake: most are everybody's, and the first one's end is that of all."""
    if not is_first():
        time.sleep(FIRST_SPEAKS_S)


@contextlib.contextmanager
def as_one() -> Iterator[None]:
    """Many processes look like one: the first alone prints, and one that fails takes the others with it.

    In the ordinary way that one would end in MPI's finalisation, waiting for processes that wait for it.
    """
    try:
        with open(os.devnull, "w") as nowhere, \
                contextlib.nullcontext() if is_first() else contextlib.redirect_stdout(nowhere):
            yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if COUNT == 1 or not code:
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)  # mpirun ends the others when one exits with a code

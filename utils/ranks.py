"""The processes that train one network together, as Open MPI's mpirun starts them; usually there is one.

All of it is known from the environment, without Jittor; messages between ranks are in
`utils.runtime.collectives`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from utils.errors import UserError

SIZE_VARIABLE = "OMPI_COMM_WORLD_SIZE"  # mpirun's, by which Jittor too knows that it is one of many
WORLD_SIZE = int(os.environ.get(SIZE_VARIABLE, 1))
RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", 0))
LOCAL_RANK = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", 0))  # among those of this machine
LOCAL_SIZE = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", 1))  # which share its memory

# Where other launchers tell how many processes they have started, which know nothing of each other.
LAUNCHERS = {"SLURM_STEP_NUM_TASKS": "srun", "PMI_SIZE": "the mpiexec of another MPI than Open MPI",
             "MV2_COMM_WORLD_SIZE": "the mpirun of MVAPICH", "WORLD_SIZE": "torchrun"}

REPORT_S = 3.0  # longer than mpirun leaves the others once a process has failed


def is_rank_0() -> bool:
    """Whether this is the process that writes files and prints."""
    return RANK == 0


def check_launcher() -> None:
    """Raises UserError where a launcher other than Open MPI's mpirun has started several processes."""
    if SIZE_VARIABLE in os.environ:
        return
    for variable, launcher in LAUNCHERS.items():
        count = os.environ.get(variable, "")
        if count.isdecimal() and int(count) > 1:
            raise UserError(f"{launcher} has started {count} processes ({variable}), each of which would "
                            "train for itself; start them by Open MPI, in a Slurm job too: mpirun -np "
                            f"{count} ./run_train.sh ...; for runs apart from each other unset {variable}")


@dataclass(frozen=True)
class Shard:
    """The images of a batch that one rank computes: ``start`` to before ``stop`` of ``total``."""

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
        """Whether other ranks have the rest."""
        return self.size < self.total

    @property
    def fraction(self) -> float:
        """Times a mean over these images; the sum over ranks is then the mean over the batch."""
        return self.size / self.total if self.split else 1 / WORLD_SIZE


def shard_of(total: int) -> Shard:
    """This rank's shard of a batch of ``total`` images: neighbours, as many as others have or one more.

    Where images are fewer than ranks each rank computes all of them, and their results are averaged.
    """
    if total < WORLD_SIZE:
        return Shard(0, total, total)
    return Shard(total * RANK // WORLD_SIZE, total * (RANK + 1) // WORLD_SIZE, total)


def let_rank_0_report() -> None:
    """Waits, on other ranks, before an error is printed: most errors are everybody's, and rank 0 ends all."""
    if not is_rank_0():
        time.sleep(REPORT_S)


@contextlib.contextmanager
def rank_0_only() -> Iterator[None]:
    """Lets rank 0 alone print; a rank that fails ends the others.

    In the ordinary way it would end in MPI's finalisation, waiting for ranks that wait for it.
    """
    try:
        with open(os.devnull, "w") as nowhere, \
                contextlib.nullcontext() if is_rank_0() else contextlib.redirect_stdout(nowhere):
            yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if WORLD_SIZE == 1 or not code:
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)  # mpirun ends the others when one exits with a code

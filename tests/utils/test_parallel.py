"""Reading in other processes: the order, what is read ahead, and every way in which it can end."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.paths import ROOT
from tests.helpers.waiting import PATIENCE_S, wait_for
from utils.errors import UserError
from utils.parallel import GRACE_S, NAME, map_in_processes, prefetch_in_processes, try_in_processes


def load(number: int, folder: Path | None = None) -> np.ndarray:
    """Two planes of ``number``; leaves a file in ``folder``. A negative number is a defect."""
    if number < 0:
        raise UserError(f"number {number} is broken")
    if folder is not None:
        (folder / f"{number} {os.getpid()}").touch()
    return np.full((2, 3), number, np.uint8)


def numbers(*items: int, workers: int = 2, ahead: int = 4) -> list[int]:
    arrays = prefetch_in_processes(load, items, (2, 3), workers, ahead)
    return [int(array[1, 2]) for array in arrays if array.shape == (2, 3)]


def readers() -> list:
    """The processes that read for this one; Jittor has some of its own."""
    return [process for process in multiprocessing.active_children() if process.name == NAME]


def seen(folder: Path) -> list[int]:
    return sorted(int(path.name.split()[0]) for path in folder.iterdir())


@pytest.mark.parametrize(("workers", "ahead"), [(0, 1), (1, 1), (1, 7), (2, 1), (2, 3), (3, 2), (3, 100)])
def test_the_order_is_that_of_the_items(workers, ahead):
    items = [7, 7, 200, *range(20)]
    assert numbers(*items, workers=workers, ahead=ahead) == items
    assert not readers()


def test_nothing_to_read_starts_nothing():
    assert numbers() == []


def test_arrays_stay_when_their_slot_is_used_again():
    arrays = list(prefetch_in_processes(load, range(9), (2, 3), 2, ahead=2))
    assert [int(array.max()) for array in arrays] == list(range(9))


def test_reads_while_the_consumer_works_but_not_without_bound(tmp_path):
    leave_files = functools.partial(load, folder=tmp_path)
    with closing(prefetch_in_processes(leave_files, range(50), (2, 3), 2, 5)) as arrays:
        next(arrays)
        wait_for(lambda: len(seen(tmp_path)) == 6)
        time.sleep(0.05)  # room for one too many
        assert seen(tmp_path) == list(range(6)), "the one handed out and five ahead"
    assert len(seen(tmp_path)) == 6
    assert os.getpid() not in {int(path.name.split()[1]) for path in tmp_path.iterdir()}
    assert not readers()


def test_no_worker_reads_in_the_calling_process(tmp_path):
    next(prefetch_in_processes(functools.partial(load, folder=tmp_path), range(50), (2, 3), 0, 5))
    assert [path.name for path in tmp_path.iterdir()] == [f"0 {os.getpid()}"]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_defect_comes_in_its_place(workers):
    arrays = prefetch_in_processes(load, [5, 6, -1, 8], (2, 3), workers, 4)
    assert [int(next(arrays).max()), int(next(arrays).max())] == [5, 6]
    with pytest.raises(UserError, match="number -1 is broken"):
        next(arrays)
    assert not readers()


def test_an_array_of_another_shape_is_an_error_and_no_wrong_data():
    with pytest.raises(ValueError, match="broadcast"):
        list(prefetch_in_processes(load, [1, 2], (2, 4), 1, 2))


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_leaves_is_read_by_the_caller(stop, capfd):
    with closing(prefetch_in_processes(load, range(30), (2, 3), 2, 3)) as arrays:
        found = [next(arrays)]
        killed = readers()[0]
        os.kill(killed.pid, stop)
        killed.join(PATIENCE_S)
        found += arrays
    assert [int(array.max()) for array in found] == list(range(30))
    assert capfd.readouterr().err.count("a process that reads images was killed") == 1
    assert not readers()


def test_a_stopped_process_is_ended(monkeypatch):
    monkeypatch.setattr("utils.parallel.GRACE_S", 0.1)
    arrays = prefetch_in_processes(load, range(30), (2, 3), 2, 3)
    next(arrays)
    stopped = readers()
    for process in stopped:
        os.kill(process.pid, signal.SIGSTOP)
    arrays.close()
    assert not readers()


def test_processes_end_though_somebody_else_has_inherited_the_connection():
    before = set(os.listdir("/proc/self/fd"))
    arrays = prefetch_in_processes(load, range(30), (2, 3), 2, 3)
    next(arrays)
    inherited = [os.dup(int(number)) for number in set(os.listdir("/proc/self/fd")) - before
                 if os.path.exists(f"/proc/self/fd/{number}")]
    assert len(inherited) >= 2
    start = time.monotonic()
    arrays.close()
    assert time.monotonic() - start < GRACE_S, "they ended by themselves"
    assert not readers()
    for number in inherited:
        os.close(number)


PROGRAM = """
import sys, time
{first}
from tests.utils.test_parallel import load, readers
from utils.parallel import prefetch_in_processes
if __name__ == "__main__":
    arrays = prefetch_in_processes(load, range(100), (2, 3), 2, 3)
    next(arrays)
    print(*(process.pid for process in readers()), flush=True)
    {then}
"""


@pytest.fixture
def program():
    """Starts a program that reads and then does as told; gives it and the ids of its readers."""
    started = []

    def start(then: str, first: str = "") -> tuple[subprocess.Popen, list[int]]:
        started.append(subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(first=first, then=then)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True))
        return started[-1], [int(word) for word in started[-1].stdout.readline().split()]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def are_gone(processes: list[int]) -> bool:
    return not any(Path(f"/proc/{number}").exists() for number in processes)


def test_ctrl_c_reaches_the_program_alone(program):
    process, readers = program("time.sleep(60)")
    assert len(readers) == 2
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=PATIENCE_S)[1]
    assert error.count("Traceback") == error.count("KeyboardInterrupt") == 1
    wait_for(lambda: are_gone(readers))


def test_a_program_that_ends_with_an_epoch_open_does_not_hang(program):
    process, readers = program("sys.exit(3)")
    assert process.communicate(timeout=PATIENCE_S)[1] == ""
    assert process.returncode == 3
    wait_for(lambda: are_gone(readers))


def test_readers_end_with_a_killed_program(program):
    process, readers = program("time.sleep(60)")
    process.kill()
    wait_for(lambda: are_gone(readers))


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_program_with_jittor_goes_on_when_its_processes_are_suspended_or_killed(program):
    process, readers = program("sys.stdin.readline(); print(len(list(arrays)))",
                               first="from utils.runtime import backend; backend.prepare('cpu')")
    server = parent_of(readers[0])
    assert parent_of(server) == process.pid
    for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
        os.kill(server, number)
        time.sleep(0.1)
    output, error = process.communicate("\n", timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "99\n"), error


@pytest.mark.parametrize("workers", [0, 2])
def test_attempts_go_on_after_a_defect(workers):
    results = list(try_in_processes(load, [5, -1, 7, -2], (2, 3), workers, 3))
    assert [str(each) if isinstance(each, UserError) else int(each.max()) for each in results] == [
        5, "number -1 is broken", 7, "number -2 is broken"]
    assert not readers()


# ---- Finishing in processes

def finish(number: int) -> int:
    if number == 13:
        raise UserError("number 13 cannot be finished")
    if number == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * number


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_are_finished_in_order(workers):
    assert list(map_in_processes(finish, range(10), workers, ahead=4)) == list(range(0, 100, 10))


def test_the_next_item_is_made_while_earlier_ones_are_finished_but_not_without_bound():
    made = []

    def items():
        for number in range(9):
            made.append(number)
            yield number

    with closing(map_in_processes(finish, items(), workers=1, ahead=2)) as results:
        next(results)
        assert len(made) <= 3, "the one handed out and two ahead"


@pytest.mark.parametrize("workers", [0, 2])
def test_what_finishing_raises_comes_in_its_place(workers):
    results = map_in_processes(finish, [1, 13, 2], workers, ahead=4)
    assert next(results) == 10
    with pytest.raises(UserError, match="number 13 cannot be finished"):
        next(results)


def test_a_killed_finisher_is_an_error():
    with pytest.raises(UserError, match="one of 1 worker processes was killed"):
        list(map_in_processes(finish, [1, 99], 1, ahead=4))


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, BrokenPipeError])
def test_a_killed_server_of_workers_is_an_error(monkeypatch, error):
    def submit(pool, *_):
        raise error

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    with pytest.raises(UserError, match="one of 1 worker processes was killed"):
        list(map_in_processes(finish, [1, 2], 1, ahead=4))

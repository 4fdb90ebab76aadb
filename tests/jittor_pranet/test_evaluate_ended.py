"""The program `evaluate` ended from outside, as by Ctrl-C: in short time, with nothing half done."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.helpers.evaluations import write_folders
from tests.helpers.paths import ROOT
from tests.helpers.waiting import PATIENCE_S, wait_for


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path)


@pytest.fixture
def start(folders):
    """Starts the program on a map that is a pipe; gives it, and the pipe once somebody waits to read it.

    The program would refuse the pipe, so Python is made to leave out that check at its start.
    """
    pipe = folders / "maps" / "first" / "0.png"
    pipe.unlink()
    os.mkfifo(pipe)
    site = folders / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "from utils.data import image_io\nimage_io._require_file = lambda path: None\n")
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    started = []

    def run(workers: int) -> tuple[subprocess.Popen, BinaryIO]:
        started.append(subprocess.Popen(
            [sys.executable, "-m", "jittor_pranet", "evaluate", "--pred_root", folders / "maps", "--gt_root",
             folders / "gt", "--result_path", folders / "out", "--workers", str(workers)],
            cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1], wait_for(lambda: open_to_write(pipe))

    yield run
    for program in started:
        program.kill()
        program.wait()
        program.stderr.close()


def open_to_write(pipe: Path) -> BinaryIO | None:
    """The pipe, or None while nobody reads it."""
    with contextlib.suppress(OSError):
        return open(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0)
    return None


def reader_of(pipe: Path) -> int | None:
    """The process other than this one that has the pipe open, or None."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        process = int(folder.parent.name)
        with contextlib.suppress(OSError):  # processes come and go
            if process != os.getpid() and str(pipe) in map(os.readlink, folder.iterdir()):
                return process
    return None


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c(folders, start, workers):
    program, pipe = start(workers)
    with pipe:
        os.killpg(program.pid, signal.SIGINT)
        time.sleep(0.5)  # for the signal to arrive before the map ends
    error = program.communicate(timeout=PATIENCE_S)[1]
    assert program.returncode == 130
    assert error == "interrupted\n"
    assert not (folders / "out").exists()


def test_a_killed_worker(folders, start):
    program, pipe = start(workers=2)
    with pipe:
        os.kill(wait_for(lambda: reader_of(folders / "maps" / "first" / "0.png")), signal.SIGKILL)
        error = program.communicate(timeout=PATIENCE_S)[1]
    assert program.returncode == 2
    assert "error: one of 2 worker processes was killed" in error and "Traceback" not in error
    assert not (folders / "out").exists()


def test_workers_end_with_a_killed_program(start):
    program, pipe = start(workers=2)
    with pipe, pytest.raises(BrokenPipeError):
        program.kill()
        wait_for(lambda: not pipe.write(b" "))


def test_a_full_disk(folders):
    """Files may grow to 20 kB here; the curves take more."""
    command = ["bash", "-c", 'ulimit -f 20; exec "$@"', "evaluate", sys.executable, "-m", "jittor_pranet",
               "evaluate", "--pred_root", folders / "maps", "--gt_root", folders / "gt", "--result_path",
               folders / "out"]
    program = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert program.returncode == 2
    assert program.stderr.splitlines()[-1].startswith(f"error: {folders}/out/curves.npz: cannot be written")
    assert "Traceback" not in program.stderr

"""Signals between two steps of long work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.paths import ROOT

PROGRAM = """
import sys, time
from utils.signals import Interruption
with Interruption() as interruption:
    print("ready", flush=True)
    deadline = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < deadline:
        time.sleep(0.01)
    print("saved", flush=True)
sys.exit(interruption.exit_code)
"""


@pytest.fixture
def start():
    """Starts a program whose step takes so many seconds, once it listens to signals."""
    started = []

    def run(seconds: float) -> subprocess.Popen:
        started.append(subprocess.Popen([sys.executable, "-c", PROGRAM, str(seconds)], cwd=ROOT, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield run
    for program in started:
        program.kill()


@pytest.mark.parametrize("pause", [0, 0.005, 0.05, 0.4])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_repeat_is_the_same_wish(start, number, pause):
    program = start(0.5)
    for _ in range(3):
        os.kill(program.pid, number)
        time.sleep(pause / 2)
    output, error = program.communicate(timeout=60)
    assert output == "saved\n" and program.returncode == 128 + number
    assert error.count("finishing the step") == 1


def test_a_later_one_ends_the_program_at_once(start):
    program = start(60)
    os.kill(program.pid, signal.SIGTERM)
    time.sleep(2.3)
    os.kill(program.pid, signal.SIGTERM)
    output, _ = program.communicate(timeout=20)
    assert output == "" and program.returncode == -signal.SIGTERM


def test_jittor_leaves_ctrl_c_to_python():
    code = "from utils.runtime.backend import jt; import time; print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as program:
        assert program.stdout.readline() == "ready\n"
        os.kill(program.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in program.communicate(timeout=20)[1]
    assert program.returncode == -signal.SIGINT


def test_ctrl_c_in_a_destructor_is_not_lost():
    code = """
import os, signal, sys, time
from utils.signals import keep_interrupts
class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
keep_interrupts()
try:
    Destroyed()
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=30)
    assert done.returncode == 130 and done.stderr == ""

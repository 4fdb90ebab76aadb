"""Lines of progress where there is no terminal, and a bar of 80 columns where there is."""

from __future__ import annotations

import io
import time

import pytest

from utils import progress
from utils.progress import Progress, duration, track


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until it is set on."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_left_leaves_steps_that_compile_out(clock, capsys):
    with Progress(100, "training", "steps", slow=2) as shown:
        for seconds in (120.0, 60.0, 1.0, 1.0, 1.0, 31.0, 1.0):
            clock[0] += seconds
            shown.step(note="loss 1.5")
    assert capsys.readouterr().err.splitlines() == [
        "training: 1/100 steps, loss 1.5", "training: 2/100 steps, loss 1.5",
        "training: 6/100 steps, loss 1.5, 0.118 steps/s, 13 min 19 s left"], "one line at most in 30 seconds"


def test_a_run_that_goes_on_counts_its_own_steps_for_the_rate(clock, capsys):
    with Progress(60, "training", "steps", done=58) as shown:
        for _ in range(2):
            clock[0] += 2.0
            shown.step()
    assert capsys.readouterr().err == "training: 60/60 steps, 0.5 steps/s, 0 s left\n"


def test_items_are_tracked(clock, capsys):
    assert list(track("ab", 2, "reading", "files")) == ["a", "b"]
    assert capsys.readouterr().err.startswith("reading: 2/2 files, ")


def test_eighty_columns_show_loss_rate_and_time_left(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    with Progress(12345, "training", "steps") as shown:
        shown.step(note="loss 12.345, 5.43 images/s, epoch 12/300")
        terminal.seek(0)
        terminal.truncate()
        shown.bar.dynamic_ncols, shown.bar.ncols = None, 80
        shown.bar.refresh()
        line = max(terminal.getvalue().split("\r"), key=len)
    assert len(line.rstrip("\n")) <= 80 and "loss 12.345, 5.43 images/s" in line and "1/12345 [" in line


@pytest.mark.parametrize(("seconds", "text"), [
    (0.2, "0 s"), (42, "42 s"), (59.6, "1 min 0 s"), (185, "3 min 5 s"), (3600, "1 h 0 min"),
    (7800, "2 h 10 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text

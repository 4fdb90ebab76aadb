"""Kernels that cannot be compiled: a full disk is told as one, everything else as it comes."""

from __future__ import annotations

import errno
import os
from collections import namedtuple

import pytest

from jittor_pranet import __main__ as program
from utils.errors import UserError
from utils.runtime import compilation

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "error", "said"), [
    (0, UserError, "its disk is full, and step 1 needs kernels"), (1 << 30, RuntimeError, "compile failed")])
def test_a_kernel_that_finds_no_room_names_the_folder(tmp_path, monkeypatch, free, error, said):
    monkeypatch.setattr(compilation.shutil, "disk_usage", lambda folder: Usage(1 << 40, 0, free))
    with pytest.raises(error, match=said), compilation.report_kernels("step 1", tmp_path):
        raise RuntimeError("compile failed")


def test_what_the_system_says_of_a_file_is_one_line(monkeypatch, capsys):
    def full(args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "cache/import.lock")

    monkeypatch.setattr(program, "load_program", lambda name: namedtuple("Program", "add_arguments run")(
        lambda parser: None, full))
    assert program.main(["doctor"]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cache/import.lock: No space left on device; ")


def test_an_error_of_no_file_stays_an_error(monkeypatch):
    def broken(args):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(program, "load_program", lambda name: namedtuple("Program", "add_arguments run")(
        lambda parser: None, broken))
    with pytest.raises(BrokenPipeError):
        program.main(["doctor"])

"""The readers of weights against damaged and hostile files; JITTOR_PRANET_FUZZ is the number of each kind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from tests.tools.fuzz_weights import GADGETS, KINDS, OPCODES
from utils.checkpoint.formats import read_weights
from utils.checkpoint.unpickler import GLOBALS
from utils.errors import UserError


def test_files_are_read_or_refused_within_bounds_and_run_nothing():
    examples = os.environ.get("JITTOR_PRANET_FUZZ", "100")
    done = subprocess.run([sys.executable, "-m", "tests.tools.fuzz_weights", "--examples", examples],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    for kind in (*KINDS, f"each of {len(OPCODES)} opcodes"):
        assert f"{kind}: refused: " in done.stdout


@pytest.mark.parametrize("name", GADGETS)
def test_no_known_gadget_is_allowed(tmp_path, name):
    assert name not in GLOBALS
    module, _, function = name.rpartition(".")
    (tmp_path / "net.pkl").write_bytes(b"\x80\x02}X\1\0\0\0a" + f"c{module}\n{function}\n".encode() + b")Rs.")
    with pytest.raises(UserError, match="which no weights need and which was not run") as caught:
        read_weights(tmp_path / "net.pkl")
    assert f"asks for {name!r}" in str(caught.value)


def test_what_is_allowed_makes_arrays_and_nothing_else():
    allowed = {name.replace("._core.", ".core.") for name in GLOBALS}
    assert {name.split(".")[0] for name in allowed} == {"collections", "torch", "jittor", "_codecs", "numpy"}
    called = {name for name in allowed if callable(GLOBALS[name])}
    modules = {GLOBALS[name].__module__ for name in called}
    assert modules == {"utils.checkpoint.unpickler"}, "functions of our own alone"

"""What must hold on every processor, with each set of instructions that this one has.

oneDNN takes other implementations with each. It reads once in a process which it may use.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

# oneDNN's name of each set of instructions, what it reports then, and the flags of a processor that has it.
SETS = {
    "SSE41": ("Intel SSE4.1", {"sse4_1"}),
    "AVX2": ("Intel AVX2", {"avx2"}),
    "AVX512_CORE": ("Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
                    {"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
}
FLAGS = set(Path("/proc/cpuinfo").read_text().split())


@pytest.mark.parametrize("name", SETS)
def test_maps_do_not_depend_on_the_batch(name):
    reported, flags = SETS[name]
    if missing := flags - FLAGS:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", "--device", "cpu",
                           "tests/lib/test_networks.py", "-k", "test_maps_do_not_depend_on_the_batch"],
                          cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "ONEDNN_MAX_CPU_ISA": name, "ONEDNN_VERBOSE": "1"})
    lines = done.stdout.splitlines()
    said = "\n".join(line for line in lines if not line.startswith("onednn_verbose"))
    assert done.returncode == 0, said + done.stderr
    assert f"onednn_verbose,info,cpu,isa:{reported}" in lines, said

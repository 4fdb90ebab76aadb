"""JSON of others' files: nesting is bounded, whatever depth the interpreter allows."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from utils.shallow_json import MAX_DEPTH, loads


@pytest.mark.parametrize("text", [
    '{"a": [1, {"b": "[[[["}]}', '"' + "[{" * 50 + '"', r'["\\", "\"[", "\u005b"]',
    "[" * MAX_DEPTH + "]" * MAX_DEPTH, "[" + "[]," * 100 + "1]"])
def test_brackets_in_text_do_not_count(text):
    assert loads(text) == json.loads(text)


@pytest.mark.parametrize("text", ["[" * (MAX_DEPTH + 1), '{"a":' * 100_000, "[[]," * 30, '"\\\\"' + "[" * 30])
def test_deep_ones_are_refused(text):
    with pytest.raises(ValueError, match="nested more than 20 deep"):
        loads(text)


def test_they_do_not_end_the_process_where_jittor_allows_any_depth():
    code = ("import sys; from utils.shallow_json import loads; sys.setrecursionlimit(10**6); "
            "loads('[' * 10**7)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "ValueError: has JSON that is nested" in done.stderr

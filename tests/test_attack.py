"""A short round of the standing attack; `python -m tests.tools.attack --minutes 60` is a long one."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.paths import ROOT


def test_a_short_attack_finds_nothing():
    """Kills of trainings are in test_resume.py."""
    command = [sys.executable, "-m", "tests.tools.attack", "--minutes", "0.5", "--seed", "1", "--programs",
               "test", "predict", "evaluate"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "violations: 0" in done.stdout

"""What is installed: every package pinned, and by the hashes of its files where there is a lock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from utils.runtime import jittor_copy


def pins(path: Path) -> set[tuple[str, str]]:
    """Packages and versions of a requirements file or lock; some have one version for each of two Pythons."""
    return set(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_pinned(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "-r "))]
    assert lines and len(pins(path)) == len(lines)


def test_jittor_is_the_one_whose_files_are_known():
    jittor = pins(ROOT / "requirements-jittor.txt")
    assert jittor == {("jittor", jittor_copy.RELEASE)} and jittor <= pins(ROOT / "requirements.txt")


@pytest.mark.parametrize("name", ["requirements", "requirements-build"])
def test_the_lock_holds_the_pins_and_hashes_of_every_package(name):
    lock = (ROOT / f"{name}.lock").read_text()
    locked = pins(ROOT / f"{name}.lock")
    assert pins(ROOT / f"{name}.txt") <= locked
    packages = re.split(r"^(?=[a-z0-9])", "\n".join(line for line in lock.splitlines()
                                                    if not line.lstrip().startswith("#")), flags=re.MULTILINE)
    assert len(packages[1:]) == len(locked)
    for package in packages[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", package), package

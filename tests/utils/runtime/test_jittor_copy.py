"""The copy of Jittor for Python 3.13 and NumPy 2: what is changed in it, and what is left as it is."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.runtime import jittor_copy, requirements

PACKAGES = ("jittor", "jittor_utils")


@pytest.fixture(autouse=True)
def needed(monkeypatch):
    """Has any Python take a copy, and restores the paths."""
    monkeypatch.setattr(jittor_copy, "_is_needed", lambda: True)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "before")


@pytest.fixture
def other_jittor(monkeypatch, tmp_path):
    """A folder with the files that are to be changed, taken for the installed Jittor."""
    installed, folder = jittor_copy._installed(), tmp_path / "installed"
    for change in jittor_copy.CHANGES:
        (folder / change.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(installed / change.file, folder / change.file)
    monkeypatch.setattr(jittor_copy, "_installed", lambda: folder)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for package in PACKAGES for path in (folder / package).rglob("*")
            if path.is_file() and path.suffix != ".pyc"}


def test_the_copy_differs_by_the_changes_alone(tmp_path):
    before = contents(jittor_copy._installed())
    assert jittor_copy.problem() == ""
    jittor_copy.use_where_needed(tmp_path)
    copy, = (tmp_path / "jittor-copies").iterdir()
    assert sys.path[0] == str(copy)
    assert os.environ["PYTHONPATH"] == os.pathsep.join([str(copy), "before"])
    changed = contents(copy)
    assert {name for name in changed if changed[name] != before[name]} == {
        change.file for change in jittor_copy.CHANGES}
    assert changed.keys() == before.keys() and contents(jittor_copy._installed()) == before
    for change in jittor_copy.CHANGES:
        text = (copy / change.file).read_text()
        for replaced, by in change.replacements:
            assert text.count(by) == 1 and replaced not in text.replace(by, "")
    assert list(copy.rglob("jittor/__pycache__/compiler.*.pyc"))


def test_a_copy_is_made_once(tmp_path, other_jittor):
    with ThreadPoolExecutor(4) as pool:
        copies = set(pool.map(lambda _: jittor_copy._make(tmp_path), range(8)))
    copy, = copies
    assert list((tmp_path / "jittor-copies").iterdir()) == [copy]
    before = copy.stat().st_ino
    assert jittor_copy._make(tmp_path) == copy and copy.stat().st_ino == before


def test_no_incomplete_copy_is_left(tmp_path, other_jittor):
    shutil.rmtree(other_jittor / "jittor_utils")
    with pytest.raises(UserError, match="cannot be written"):
        jittor_copy.use_where_needed(tmp_path)
    assert not list((tmp_path / "jittor-copies").iterdir())
    assert os.environ["PYTHONPATH"] == "before"


def test_another_release_is_refused_in_one_line_where_changes_are_needed(other_jittor, monkeypatch):
    with open(other_jittor / "jittor" / "compiler.py", "a") as file:
        file.write("#")
    check, = (check for check in requirements.check_requirements() if check.name == "packages")
    assert not check.ok and "\n" not in check.detail
    assert "only jittor 1.3.11.0 as it was published can be used" in check.detail
    shutil.rmtree(other_jittor)
    assert "compiler.py differs" in jittor_copy.problem()
    monkeypatch.setattr(jittor_copy, "_is_needed", lambda: False)
    assert jittor_copy.problem() == ""


def test_without_need_there_is_no_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(jittor_copy, "_is_needed", lambda: False)
    before = list(sys.path)
    jittor_copy.use_where_needed(tmp_path)
    assert not list(tmp_path.iterdir()) and sys.path == before and os.environ["PYTHONPATH"] == "before"

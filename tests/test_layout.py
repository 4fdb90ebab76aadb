"""Imports point one way: jittor_pranet -> lib -> utils; Jittor comes through utils.backend alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("utils", "lib", "jittor_pranet", "tests")  # each may import itself and those before it
JITTOR = {"utils/backend.py"}


def imported(path: Path) -> set[str]:
    """The modules that a file names in imports, wherever they stand."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    later = set(PACKAGES[PACKAGES.index(package) + 1:])
    for path in files:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & later, path
        if package != "tests" and str(path.relative_to(ROOT)) not in JITTOR:
            assert "jittor" not in roots, f"{path}: import it from utils.backend"

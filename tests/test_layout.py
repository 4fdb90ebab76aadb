"""The rooms of the house: imports run one way, nothing imports itself in a circle, no room is overfull."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

# Each package may import itself and those in the lines before its own.
LAYERS = (("utils",),
          ("utils.checkpoint", "utils.runtime"),
          ("utils.data",),
          ("utils.metrics",),
          ("lib",),
          ("jittor_pranet",),
          ("tests",))
PUBLIC_NAMES = {"utils.backend", "utils.image_io"}  # of modules in the rooms above; nothing here imports them
JITTOR = {"utils.runtime.backend", "utils.runtime.compilation"}
MAX_LINES = 400
MAX_FILES = {"": 15, "lib/ops": 20}  # Python files of a folder; "": of any other but those of tests


def modules(*packages: str) -> dict[str, Path]:
    files = (path for package in packages for path in sorted((ROOT / package).rglob("*.py")))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
            for path in files}


MODULES = modules("utils", "lib", "jittor_pranet", "tests")


def imports(path: Path, anywhere: bool = True) -> set[str]:
    """The modules that a file imports, ours by the file that they are in; else those of its top level."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            names.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            inner = {f"{node.module}.{each.name}" for each in node.names}
            names.update(name if name in MODULES else node.module for name in inner)
    return names


def layer(module: str) -> int:
    """The number of the layer that a module lies in, by the longest name that holds it."""
    names = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    packages = [name for name in names if f"{module}.".startswith(f"{name}.")]
    return names[max(packages, key=len)]


def test_imports_run_one_way():
    for module, path in MODULES.items():
        if module in PUBLIC_NAMES:
            continue
        for name in imports(path):
            if name.split(".")[0] in ("utils", "lib", "jittor_pranet", "tests"):
                assert name in MODULES, f"{module} imports {name}, which is not there"
                assert name not in PUBLIC_NAMES or module.startswith("tests"), f"{module} imports {name}"
                assert layer(name) <= layer(module), f"{module} imports {name}, which lies above it"
                apart = layer(name) == layer(module) == layer("utils.runtime")
                assert not apart or name.split(".")[:2] == module.split(".")[:2], f"{module} imports {name}"


def test_jittor_comes_through_one_module():
    for module, path in MODULES.items():
        roots = {name.split(".")[0] for name in imports(path)}
        if not module.startswith("tests.") and module not in JITTOR:
            assert not roots & {"jittor", "jittor_utils"}, f"{module}: import jt from utils.runtime.backend"


def test_the_command_line_is_known_to_programs_alone():
    rooms = ("jittor_pranet", "jittor_pranet.cli")
    for module, path in MODULES.items():
        if not module.startswith("tests") and module.rpartition(".")[0] not in rooms:
            assert "argparse" not in imports(path), f"{module}: parsers are in programs and jittor_pranet/cli"


@pytest.mark.parametrize("anywhere", [False, True], ids=["at the top", "anywhere"])
def test_no_module_imports_itself_in_a_circle(anywhere):
    arrows = {module: imports(path, anywhere) & MODULES.keys() for module, path in MODULES.items()}
    finished: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module):], module))
        if module not in finished:
            for name in sorted(arrows[module] - {module}):
                visit(name, (*way, module))
            finished.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("package", ["utils", "lib", "jittor_pranet", "tests"])
def test_no_file_or_folder_is_overfull(package):
    for path in modules(package).values():
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{path}: {lines} lines"
    for folder in {path.parent for path in modules(package).values() if package != "tests"}:
        files = len(list(folder.glob("*.py")))
        most = MAX_FILES.get(str(folder.relative_to(ROOT)), MAX_FILES[""])
        assert files <= most, f"{folder}: {files} files"

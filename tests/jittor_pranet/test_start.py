"""Programs find their own modules wherever they are started, and leave the user's to the user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import evaluations
from tests.helpers.paths import ROOT
from tests.jittor_pranet.test_programs import write_set

THEIRS = "raise ImportError('this is the package of somebody else')\n"


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with packages of our names, and on the PYTHONPATH another with a module theirs."""
    for name in ("utils", "lib", "tests"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text(THEIRS)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "Path(os.environ['SEEN'], str(os.getpid())).write_text(' '.join(sys.argv))\n")
    (tmp_path / "seen").mkdir()
    return tmp_path


def start(place: Path, *arguments: object) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT), str(place / "path")])
    return subprocess.run([sys.executable, "-m", "jittor_pranet", *map(str, arguments)], cwd=place / "work",
                          env={**os.environ, "PYTHONPATH": path, "SEEN": str(place / "seen")}, text=True,
                          capture_output=True)


def test_a_folder_with_packages_of_our_names(place):
    evaluations.write_folders(place / "work")
    done = start(place, "evaluate", "--gt_root", "gt", "--pred_root", "maps", "--workers", 2, "--result_path",
                 "out")
    assert done.returncode == 0, done.stderr
    done = start(place, "doctor", "--help")
    assert done.returncode == 0, done.stderr


def test_a_network_in_a_folder_with_packages_of_our_names(place):
    """Trained, tested, and evaluated in a process of its own, which has the user's modules too."""
    write_set(place / "work" / "train", 2)
    write_set(place / "work" / "tests" / "set", 2)
    done = start(place, "train", "--train_path", "train", "--train_save", "run", "--trainsize", 64,
                 "--batchsize", 2, "--max_steps", 1, "--val_fraction", 0, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    for path in (place / "seen").iterdir():
        path.unlink()
    done = start(place, "test", "--weights", "run/last.npz", "--test_path", "tests", "--save_path", "maps",
                 "--testsize", 64, "--evaluate", "--device", "cpu")
    assert done.returncode == 0 and "mDice" in done.stdout, done.stderr
    seen = [path.read_text() for path in (place / "seen").iterdir()]
    assert any("-m test" in each for each in seen) and sum("-m evaluate" in each for each in seen) == 1, seen

"""run_train.sh and run_test.sh: which flags reach which program, and what the demo may replace.

An interpreter that only notes its calls stands in for Python; training and testing write a file each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

STAND_IN = r"""#!/usr/bin/env bash
if [ "$1" = -c ]; then
    case $2 in *sys.prefix*) echo "$STAND_IN"; exit ;; esac
    exec "$REAL" "$@"
fi
shift 2
echo "$*" >>"$STAND_IN/calls"
[ "${1:-}" != "${FAILING:-none}" ] || exit 3
while [ $# -gt 1 ]; do
    case $1 in --train_save | --save_path) mkdir -p "$2" && echo "$RUN" >"$2/new" ;; esac
    shift
done
"""


@pytest.fixture
def script(tmp_path):
    """Runs a script in tmp_path. Returns its exit code, and the calls of programs."""
    stand_in = tmp_path / "interpreter"
    stand_in.mkdir()
    (stand_in / "python").write_text(STAND_IN)
    (stand_in / "python").chmod(0o755)
    stamp = b"".join(path.read_bytes() for path in sorted(ROOT.glob("requirements*")))
    (stand_in / ".jittor-pranet-requirements.txt").write_bytes(stamp)

    def run(*command: str, **variables: str) -> tuple[int, list[str]]:
        (stand_in / "calls").write_text("")
        environment = {**os.environ, "PYTHON": str(stand_in / "python"), "STAND_IN": str(stand_in),
                       "REAL": sys.executable, "RUN": "first", "LC_ALL": "C", **variables}
        done = subprocess.run([ROOT / command[0], *command[1:]], cwd=tmp_path, env=environment, text=True,
                              capture_output=True)
        return done.returncode, (stand_in / "calls").read_text().splitlines()

    return run


def results(folder: Path) -> list[str]:
    return [(folder / name / "new").read_text().strip() for name in ("snapshots", "maps")]


def test_one_command_from_any_folder_and_by_a_link(script, tmp_path):
    assert script("pranet", "evaluate", "--gt_root", "a b") == (0, ["evaluate --gt_root a b"])
    assert script("pranet") == (0, [""])
    for name in ("pranet", "run_test.sh", "run_train.sh"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert script(str(tmp_path / "pranet"), "doctor") == (0, ["doctor"])
    assert script(str(tmp_path / "run_test.sh"), "--bs", "2") == (0, ["test --evaluate --bs 2"])
    assert script(str(tmp_path / "run_train.sh"), "--lr", "1") == (0, ["train --lr 1"])


def test_flags_are_passed_on(script):
    assert script("run_train.sh", "--lr", "1", "--seed", "a b") == (0, ["train --lr 1 --seed a b"])
    assert script("run_train.sh") == (0, ["train"])
    assert script("run_test.sh", "--bs", "2") == (0, ["test --evaluate --bs 2"])
    assert script("run_train.sh", "--classes", "4") == (2, [])


@pytest.mark.parametrize("flags", [("--demo", "--classes", "4", "--seed", "7"),
                                   ("--seed", "7", "--classes", "4", "--demo"),
                                   ("--classes", "4", "--demo", "--seed", "7")])
def test_the_demos_flags_stand_anywhere(script, tmp_path, flags):
    code, calls = script("run_train.sh", *flags)
    assert code == 0 and results(tmp_path / "demo") == ["first", "first"]
    assert calls[0] == "demo --out demo --classes 4"
    assert calls[1].startswith("train --model_type EMCAD-B2-DSRA") and calls[1].endswith(" --seed 7")
    assert calls[2].startswith("test --evaluate --weights demo/snapshots/last.npz")


@pytest.mark.parametrize(("flags", "code"), [(("--help",), 0), (("--no_such_flag",), 2), (("--lr", "x"), 2)])
def test_flags_are_looked_at_before_anything_is_touched(script, tmp_path, flags, code):
    script("run_train.sh", "--demo")
    found, calls = script("run_train.sh", "--demo", *flags, RUN="second")
    assert found == code and calls == (["train --help"] if code == 0 else [])
    assert results(tmp_path / "demo") == ["first", "first"]


def test_a_users_own_folders_stay(script, tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "new").write_text("theirs")
    assert script("run_train.sh", "--demo", DEMO_DIR=".") == (2, [])
    assert (tmp_path / "maps" / "new").read_text() == "theirs"


@pytest.mark.parametrize("failing", ["train", "test"])
def test_results_are_replaced_once_new_ones_are_whole(script, tmp_path, failing):
    script("run_train.sh", "--demo")
    assert script("run_train.sh", "--demo", RUN="second", FAILING=failing)[0] == 3
    assert results(tmp_path / "demo") == ["first", "first"]
    assert script("run_train.sh", "--demo", RUN="third")[0] == 0
    assert results(tmp_path / "demo") == ["third", "third"]
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["maps", "snapshots"]


def test_what_a_killed_demo_had_put_aside_comes_back(script, tmp_path):
    script("run_train.sh", "--demo")
    for name in ("maps", "snapshots"):
        (tmp_path / "demo" / name).rename(tmp_path / "demo" / f"{name}.earlier")
    (tmp_path / "demo" / "maps").mkdir()
    (tmp_path / "demo" / "maps" / ".written-by-the-demo").touch()
    assert script("run_train.sh", "--demo", RUN="second", FAILING="train")[0] == 3
    assert results(tmp_path / "demo") == ["first", "first"]

"""The command line: the list of programs, wrong words, and a Python that lacks packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jittor_pranet
from jittor_pranet.__main__ import PROGRAMS, main
from tests.helpers.paths import ROOT


def answer(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and error of a command that ends while its words are looked at."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_without_arguments_there_is_a_list_of_the_programs(capsys):
    code, output, _ = answer(capsys)
    assert code == 0 and all(f"\n    {name}" in output for name in PROGRAMS)


def test_the_version(capsys):
    assert answer(capsys, "--version")[:2] == (0, f"jittor-pranet {jittor_pranet.__version__}\n")


@pytest.mark.parametrize(("arguments", "message"), [
    (("train", "--bachsize", "3"), "--bachsize 3: train has no such flag; did you mean --batchsize?; `"),
    (("train", "--bachsize=3"), "--bachsize=3: train has no such flag; did you mean --batchsize?; `pranet"),
    (("evaluate", "--gt_rot", "x", "--pred_root", "y", "--gt_root", "z"), "did you mean --gt_root?"),
    (("train", "--qqq"), "--qqq: train has no such flag; `pranet train --help` lists the flags"),
    (("test", "word", "--weights", "a", "--test_path", "b", "--save_path", "c"), "word: test has no such"),
    (("test",), "are required: --test_path/--data, --weights, --save_path/--out; `pranet test --help`"),
    (("trian",), "invalid choice: 'trian' (choose from "),
])
def test_a_wrong_word_is_one_line_with_the_right_one(capsys, arguments, message):
    code, _, error = answer(capsys, *arguments)
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1 and message in error


@pytest.mark.parametrize("missing", ["numpy", "PIL", "tqdm"])
def test_a_python_without_packages_says_what_to_run(missing):
    code = (f"import sys\nsys.modules[{missing!r}] = None\nfrom jittor_pranet.__main__ import main\n"
            "sys.exit(main(['train', '--help']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"error: {sys.executable} has no package {missing}; run {ROOT}/pranet train, which" in done.stderr

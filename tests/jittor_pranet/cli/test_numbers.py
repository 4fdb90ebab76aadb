"""Numbers on the command line that are beyond what a program can take: one line, exit code 2."""

from __future__ import annotations

import pytest

from jittor_pranet.__main__ import main

TRAIN = ("train", "--train_path", "nowhere", "--train_save", "none")


@pytest.mark.parametrize("arguments", [
    *((*TRAIN, f"--{name}", number) for name in ("seed", "epoch", "batchsize", "max_steps", "warmup_steps")
      for number in (str(2**32), str(10**30), "9" * 5000)),
    (*TRAIN, "--trainsize", "320000000"), (*TRAIN, "--trainsize", "9" * 4000),
    ("demo", "--out", "none", "--seed", str(2**32)),
    *(("predict", "nowhere", "--out", "none", "--weights", "w.npz", "--batch", number)
      for number in (str(2**31), "9" * 5000))])
def test_large_numbers_are_refused_in_one_line(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    line, = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("error: ") and not list(tmp_path.iterdir())
    assert "is too large" in line or "no whole number" in line or "invalid int value" in line
    assert len(line) < 6000


def test_the_largest_seed_is_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN, "--seed", str(2**32 - 1)]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err

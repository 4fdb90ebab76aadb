"""The folder of a run: one program at a time, no weights written over, no run ended by a picture."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from jittor_pranet.__main__ import main
from jittor_pranet.training.snapshot import WEIGHT_FILES, read_snapshot
from tests.helpers.paths import visible_files
from tests.jittor_pranet.test_programs import ROOT, run, start, write_set
from utils.checkpoint import read_info, save_arrays

OPTIONS = ("--train_path", "train", "--trainsize", 64, "--batchsize", 2, "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A training set, and a run of an epoch in whole/."""
    folder = tmp_path_factory.mktemp("folders")
    write_set(folder / "train", 5)
    run("train", *OPTIONS, "--train_save", "whole", "--epoch", 1, cwd=folder)
    return folder


def rows(path: Path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_step_takes_its_own_time(place):
    seconds = [float(row["seconds"]) for row in rows(place / "whole" / "log.csv")]
    assert len(seconds) >= 6 and seconds[-1] > statistics.median(seconds) / 4


@pytest.mark.parametrize("name", WEIGHT_FILES)
@pytest.mark.parametrize("resume", [(), ("--resume", "auto")])
def test_weights_are_not_written_over(place, monkeypatch, capsys, name, resume):
    monkeypatch.chdir(place)
    shutil.rmtree("kept", ignore_errors=True)
    os.mkdir("kept")
    Path("kept", name).write_bytes(b"weights")
    command = ["train", "--train_path", "train", "--train_save", "kept", *resume]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "error: kept" in error
    assert visible_files(Path("kept")) == {name: b"weights"}


def test_other_files_are_not_written_over(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    os.makedirs("theirs")
    Path("theirs", "log.csv").write_text("theirs")
    assert main(["train", "--train_path", "train", "--train_save", "theirs"]) == 2
    assert "theirs/log.csv: is there, and no program of this project wrote it" in capsys.readouterr().err
    assert main(["train", "--train_path", "train", "--train_save", "train/images"]) == 2
    assert "which is read" in capsys.readouterr().err
    assert main(["train", "--train_save", "theirs", "--overwrite", "--resume", "auto"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_overwrite_begins_anew(place):
    shutil.copytree(place / "whole", place / "anew")
    (place / "anew" / "best_ema.npz").write_bytes(b"of the earlier run")
    run("train", *OPTIONS, "--train_save", "anew", "--max_steps", 2, "--overwrite", cwd=place)
    assert read_info(place / "anew" / "last.npz")["step"] == 2
    assert not (place / "anew" / "best_ema.npz").exists()
    assert len(rows(place / "anew" / "log.csv")) == 2


def test_the_second_of_two_programs_says_who_writes(place):
    first = start("train", *OPTIONS, "--train_save", "both", "--epoch", 1000, cwd=place)
    log, deadline = place / "both" / "log.csv", time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) > 1):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    for resume in ((), ("--resume", "auto")):
        output = run("train", *OPTIONS, "--train_save", "both", *resume, cwd=place, code=2)
        assert f"both: train, process {first.pid} on " in output.splitlines()[-1]
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 143, output
    assert read_info(place / "both" / "last.npz")["step"] == len(rows(log))


def test_a_run_of_which_only_validation_is_left(place):
    """Whose log was lost besides."""
    shutil.copytree(place / "whole", place / "left")
    snapshot = read_snapshot(place / "left")
    snapshot.position.ended = 0
    info = {"format": 2, "config": snapshot.config, "data": snapshot.data}
    save_arrays(snapshot.arrays, snapshot.source, {**info, "position": asdict(snapshot.position)})
    (place / "left" / "log.csv").unlink()
    run("train", "--resume", "left", "--device", "cpu", cwd=place)
    assert read_snapshot(place / "left").position.ended == snapshot.position.step
    whole, left = (rows(place / name / "epochs.csv") for name in ("whole", "left"))
    assert left[0]["val_mDice"] == whole[0]["val_mDice"] and left[0]["loss"] == ""


def test_a_picture_that_cannot_be_drawn_does_not_end_the_run(place):
    code = ("import sys\nfrom jittor_pranet.training import pictures\n"
            "from jittor_pranet.__main__ import main\nfrom utils.errors import UserError\n"
            "def read(path): raise UserError(f'{path}: has vanished')\n"
            "pictures.read_rgb = read\n"
            f"sys.exit(main({['train', *map(str, OPTIONS), '--train_save', 'vanished', '--epoch', '1']}))")
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stderr.count("has vanished") == 1, done.stderr
    assert "not drawn: " in done.stderr and (place / "vanished" / "curves.png").exists()
    assert (place / "vanished" / "last.npz").read_bytes() == (place / "whole" / "last.npz").read_bytes()

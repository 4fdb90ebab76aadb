"""Training in many processes: it is that of one, and it ends in all of them."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.compare import assert_close, parity_bound
from tests.jittor_pranet.test_programs import ROOT, run, write_set
from tests.utils.data.test_slices import write_scan
from utils import ranks
from utils.checkpoint import read_info, read_weights
from utils.data.polyps import TrainSet, epoch_batches
from utils.runtime import requirements

needs_mpi = pytest.mark.skipif(not (shutil.which("mpirun") and shutil.which("mpicc")),
                               reason="mpirun or mpicc is missing (Debian: openmpi-bin, libopenmpi-dev)")
OPTIONS = ("train", "--model_type", "PVT-PraNet-V2", "--train_path", "train", "--trainsize", 64,
           "--batchsize", 4, "--seed", 3, "--device", "cpu")


def start_many(count: int, *arguments, cwd: Path) -> subprocess.Popen:
    """`python -m ARGUMENTS` in ``count`` processes, also as root and on fewer cores."""
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--mca",
               "mpi_yield_when_idle", 1, "-np", count, sys.executable, "-m", *arguments]
    return subprocess.Popen(list(map(str, command)), cwd=cwd, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def run_many(count: int, *arguments, cwd: Path, code: int = 0) -> str:
    process = start_many(count, *arguments, cwd=cwd)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    return output


@pytest.fixture
def as_process(monkeypatch):
    def become(rank: int, count: int) -> None:
        monkeypatch.setattr(ranks, "RANK", rank)
        monkeypatch.setattr(ranks, "WORLD_SIZE", count)
    return become


# ---- without mpirun

@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("total", [1, 2, 3, 5, 8, 16])
def test_shares_make_up_the_batch(as_process, total, count):
    shares = []
    for rank in range(count):
        as_process(rank, count)
        share = ranks.shard_of(total)
        shares.append((share, share.fraction))
    assert sum(fraction for _, fraction in shares) == pytest.approx(1.0, abs=1e-12)
    images = [list(range(total))[share.images] for share, _ in shares]
    if total < count:
        assert images == [list(range(total))] * count
    else:
        assert list(chain.from_iterable(images)) == list(range(total))
        assert max(map(len, images)) - min(map(len, images)) <= 1


@pytest.mark.parametrize(("first_batch", "workers"), [(0, 0), (1, 2)])
def test_processes_read_their_images_of_the_same_batches(tmp_path, as_process, first_batch, workers):
    write_set(tmp_path / "train", 9)
    train_set = TrainSet(tmp_path / "train", 32)
    wholes = list(epoch_batches(train_set, 4, 0, 1, 0, first_batch))
    parts = []
    for rank in range(2):
        as_process(rank, 2)
        parts.append(list(epoch_batches(train_set, 4, 0, 1, workers, first_batch)))
    assert [len(whole[2]) for whole in wholes] == [4, 4, 1][first_batch:]
    for whole, *shares in zip(wholes, *parts):
        assert [stems for _, _, stems in shares] == [whole[2]] * 2
        for kind in (0, 1):
            expected = [whole[kind]] * 2 if len(whole[2]) == 1 else np.split(whole[kind], 2)
            for share, values in zip(shares, expected):
                np.testing.assert_array_equal(share[kind], values)


def test_without_mpicc_the_packages_are_named(as_process, monkeypatch):
    as_process(0, 2)
    monkeypatch.setattr(requirements.shutil, "which",
                        lambda name: None if name == "mpicc" else f"/usr/bin/{name}")
    missing, = (check.detail for check in requirements.check_requirements() if not check.ok)
    assert "apt install openmpi-bin libopenmpi-dev" in missing and "2 processes" in missing


def test_set_up_happens_once_for_scripts_that_start_together(tmp_path):
    """With a stand-in for Python whose pip takes its time."""
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(f"""#!/bin/bash
case "$*" in
*sys.prefix*) echo {tmp_path} ;;
*"pip install"*) echo "$*" >>{log}; sleep 1 ;;
*) exec {sys.executable} "$@" ;;
esac
""")
    python.chmod(0o700)
    command = ["bash", "-euc", f"source {ROOT}/setup.sh; prepare requirements.txt"]
    started = [subprocess.Popen(command, env={**os.environ, "PYTHON": str(python)}) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    installed = log.read_text().splitlines()
    assert installed and len(set(installed)) == len(installed), "something was installed twice"


# ---- with it

@needs_mpi
def test_layers_and_messages_of_three_processes():
    assert "3 processes agree" in run_many(3, "tests.helpers.many_processes", cwd=ROOT)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_set(folder / "train", 9)
    return folder


def rows_of(path: Path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines()))


def losses_of(path: Path, parts: tuple[str, ...] = ("map2", "map3", "map4", "map5")) -> list[list[float]]:
    return [[float(row[name]) for name in ("loss", *parts)] for row in rows_of(path)]


def means_of(folder: Path) -> np.ndarray:
    """Adam's means of all gradients, one behind the other."""
    arrays = read_weights(folder / "state.npz")
    return np.concatenate([value.ravel() for name, value in arrays.items() if name.startswith("mean/")])


@needs_mpi
def test_two_processes_follow_one(place):
    """Ten steps on batches of 4 and, the last of an epoch, of 3; stopped on the way, and resumed.

    A change of one unit in the last place of every pixel moves these losses by up to 5e-7 of their value, and
    all the means of the gradients together by 8e-6 of their norm.
    PraNet-V2 is no measure: its deep features are 2x2 pixels here, whose normalisation is so ill-conditioned
    that the same change has moved its losses by 2e-2 at the third step.
    """
    options = (*OPTIONS, "--val_fraction", 0.2)
    run(*options, "--max_steps", 10, "--train_save", "one", cwd=place)
    first = run_many(2, "jittor_pranet", *options, "--max_steps", 5, "--train_save", "two", cwd=place)
    assert first.count("7 pairs, 2 to choose the best weights on, batches of 4, 5 steps on cpu in 2") == 1
    run_many(2, "jittor_pranet", "train", "--resume", "two", "--max_steps", 10, "--device", "cpu", cwd=place)
    one, two = (place / name for name in ("one", "two"))
    assert [row["step"] for row in rows_of(two / "log.csv")] == [str(step) for step in range(1, 11)]
    assert_close(losses_of(two / "log.csv"), losses_of(one / "log.csv"), "loss", "losses")
    found, expected = map(means_of, (two, one))
    assert np.linalg.norm(found - expected) <= parity_bound(8e-6, "gradient") * np.linalg.norm(expected)
    dice, expected_dice = ({row["step"]: float(row["val_mDice"]) for row in rows_of(folder / "epochs.csv")}
                           for folder in (two, one))
    assert dice.pop("5"), "measured when it was stopped"
    assert list(dice) == list(expected_dice) == ["6", "10"]
    assert_close([*dice.values()], [*expected_dice.values()], "mDice of rounded maps", "mDice")
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}


@needs_mpi
def test_two_processes_follow_one_with_several_classes(place):
    """The Dice loss is that of the whole batch; a batch of 4 and, the last of an epoch, of 3."""
    (place / "scans").mkdir()
    for number in range(9):
        write_scan(place / "scans" / f"case{number // 2}_slice{number % 2}.npz", (64, 60), number)
    options = ("train", "--task", "multiclass", "--num_class", 4, "--model_type", "PVT-PraNet-V2",
               "--train_path", "scans", "--trainsize", 64, "--batchsize", 4, "--seed", 3, "--max_steps", 4,
               "--device", "cpu")
    run(*options, "--train_save", "one_of_classes", cwd=place)
    run_many(2, "jittor_pranet", *options, "--train_save", "two_of_classes", cwd=place)
    one, two = (place / f"{count}_of_classes" for count in ("one", "two"))
    found, expected = (losses_of(folder / "log.csv", ("ce", "dice", "background")) for folder in (two, one))
    assert len(found) == 4
    assert_close(found, expected, "loss", "losses")
    found, expected = map(means_of, (two, one))
    assert np.linalg.norm(found - expected) <= parity_bound(8e-6, "gradient") * np.linalg.norm(expected)
    dice, expected_dice = (read_info(folder / "best.npz")["mDice"] for folder in (two, one))
    assert_close(dice, expected_dice, "mDice of rounded maps", "mDice")


@needs_mpi
def test_a_signal_to_one_process_stops_all(place):
    process = start_many(2, "jittor_pranet", *OPTIONS, "--train_save", "stopped", "--epoch", 1000, cwd=place)
    log, deadline = place / "stopped" / "log.csv", time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) > 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(second_process(process.pid), signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM and output.count("finishing the step") == 1, output
    assert read_info(place / "stopped" / "last.npz")["step"] == len(rows_of(log))


def second_process(mpirun: int) -> int:
    """The process id of rank 1."""
    for folder in Path("/proc").glob("[0-9]*"):
        parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
        if parent == str(mpirun) and b"OMPI_COMM_WORLD_RANK=1\0" in (folder / "environ").read_bytes():
            return int(folder.name)
    raise AssertionError("mpirun has started no second process")


@needs_mpi
def test_a_failure_ends_all_processes_with_one_message(place):
    """One that all see, and one that a single process has."""
    output = run_many(2, "jittor_pranet", *OPTIONS, "--train_save", "ruined", "--lr", 1e30, cwd=place,
                      code=2)
    assert output.count("error: the loss of step 2 is") == 1 and "Traceback" not in output
    output = run_many(2, "tests.helpers.many_processes", "fail", cwd=ROOT, code=1)
    assert output.count("AssertionError: the second has failed") == 1

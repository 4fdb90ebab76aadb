"""A training that is killed, stopped or out of luck, and goes on as if nothing had happened."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jittor_pranet.training.options import Config
from jittor_pranet.training.validation import find_selection, mean_dice
from tests.jittor_pranet.test_programs import ROOT, run, write_set
from utils.checkpoint import read_checkpoint, read_info, read_weights
from utils.data.image_io import find_pairs
from utils.signals import Interruption

SIZE = 64
KILLS = int(os.environ.get("PRANET_KILLS", "3"))  # more of them take a longer run
OPTIONS = ("--train_path", "train", "--trainsize", SIZE, "--batchsize", 2, "--device", "cpu")


def log_of(folder: Path, name: str = "log.csv") -> list[dict]:
    """The rows of a log without what depends on the clock."""
    rows = list(csv.DictReader((folder / name).read_text().splitlines()))
    return [{name: row[name] for name in row if name not in ("seconds", "images_per_s")} for row in rows]


def assert_same_run(folder: Path, expected: Path) -> None:
    """The same losses, the same bits."""
    assert log_of(folder) == log_of(expected)
    for name in ("last.npz", "state.npz"):
        found, wanted = read_weights(folder / name), read_weights(expected / name)
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name} {key}")


def position(folder: Path) -> dict:
    return read_info(folder / "state.npz")["position"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A training set, and an unbroken run of two epochs in whole/."""
    folder = tmp_path_factory.mktemp("training")
    write_set(folder / "train", 5)
    run("train", *OPTIONS, "--train_save", "whole", "--epoch", 2, "--seed", 3, cwd=folder)
    return folder


def test_a_run_in_parts_equals_the_whole(place):
    """Stopped within a batch, within an epoch and at its end; with other numbers of workers."""
    run("train", *OPTIONS, "--train_save", "parts", "--epoch", 2, "--seed", 3, "--max_steps", 4, cwd=place)
    steps = len(log_of(place / "whole"))
    for stop in (steps // 2 - 1, steps // 2, steps):
        output = run("train", "--resume", "parts", "--max_steps", stop, "--workers", 3, "--device", "cpu",
                     cwd=place)
        assert "resumed after step" in output
    assert_same_run(place / "parts", place / "whole")  # so that the validation at each stop changes nothing


def test_a_finished_run_has_nothing_left_to_do(place):
    before = (place / "whole" / "state.npz").stat().st_mtime_ns
    (place / "whole" / "last.npz").rename(place / "whole" / "kept.npz")
    output = run("train", "--resume", "whole", "--device", "cpu", cwd=place)
    assert "nothing left to do: all " in output
    assert (place / "whole" / "state.npz").stat().st_mtime_ns == before
    kept = place / "whole" / "kept.npz"
    assert kept.read_bytes() == (place / "whole" / "last.npz").read_bytes(), "derived from the state again"
    kept.unlink()


def test_killed_at_random_moments_and_resumed(place):
    seed = random.SystemRandom().randrange(10 ** 6)
    print(f"kills drawn with seed {seed}")
    rng = random.Random(seed)
    options = (*OPTIONS, "--epoch", 1 + KILLS // 2, "--save_steps", 2)
    run("train", *options, "--train_save", "unbroken", cwd=place)
    folder = place / "killed"
    for number in range(KILLS):
        shell, pid = start_killable(*options, "--train_save", folder, "--resume", "auto", cwd=place)
        wait_for_work(shell, folder, saving=bool(number % 2))
        time.sleep(rng.uniform(0, 0.4))
        os.kill(pid, signal.SIGKILL)
        output, _ = shell.communicate()
        assert shell.returncode == 128 + signal.SIGKILL, f"ended by itself: {output}"
    run("train", *options, "--train_save", folder, "--resume", "auto", cwd=place)
    assert_same_run(folder, place / "unbroken")
    assert position(folder) == position(place / "unbroken")
    assert (folder / "best.npz").read_bytes() == (place / "unbroken" / "best.npz").read_bytes()
    assert log_of(folder, "epochs.csv") == log_of(place / "unbroken", "epochs.csv")
    assert not list(folder.glob(".*.part")), "what a kill leaves half written is cleared away"
    for path in (folder, place / "unbroken"):
        shutil.rmtree(path)


def start_killable(*arguments: str, cwd: Path) -> tuple[subprocess.Popen, int]:
    """A training in a shell, and its process id. With Jittor in it, this process would not survive the kill
    of a child of its own."""
    command = [sys.executable, "-m", "jittor_pranet", "train", *map(str, arguments)]
    shell = subprocess.Popen(["bash", "-c", '"$@" & echo $!; wait $!', "train", *command], cwd=cwd, text=True,
                             stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return shell, int(shell.stdout.readline())


def wait_for_work(shell: subprocess.Popen, folder: Path, saving: bool) -> None:
    """Until the training has logged a step more, or is writing a snapshot."""
    rows, deadline = count_rows(folder), time.monotonic() + 300
    while shell.poll() is None and time.monotonic() < deadline:
        if list(folder.glob(".state.npz.*.part")) if saving else count_rows(folder) > rows:
            return
        time.sleep(0.01)


def count_rows(folder: Path) -> int:
    log = folder / "log.csv"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_full_disk_stops_with_a_message_and_loses_nothing(place):
    """Files may grow to 200 MB here; the state takes 375."""
    shutil.copytree(place / "whole", place / "full")
    before = {name: (place / "full" / name).read_bytes() for name in ("state.npz", "last.npz")}
    command = (f"ulimit -f 200000; exec {sys.executable} -m jittor_pranet train --resume full --epoch 3 "
               "--device cpu")
    process = subprocess.run(["bash", "-c", command], cwd=place, text=True, capture_output=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    last = process.stderr.splitlines()[-1]
    assert process.returncode == 2 and "state.npz: cannot be written" in last and "room" in last, last
    assert all((place / "full" / name).read_bytes() == content for name, content in before.items())
    assert not list((place / "full").glob(".*.part"))
    shutil.rmtree(place / "full")


@pytest.mark.parametrize(("arguments", "message"), [
    (("--resume", "nowhere"), "has no state.npz to resume from"),
    (("--resume", "whole", "--lr", "0.01"), "--lr 0.01: the run of whole/state.npz has 0.0001"),
    (("--resume", "whole", "--train_save", "elsewhere"), "leave --train_save out"),
    (("--resume", "whole", "--train_path", "other"), "is not the set that the run"),
    (("--resume", "weights"), "is no state of a training"),
    (("--train_path", "train", "--train_save", "whole"), "go on with it by --resume whole"),
    (("--resume", "auto"), "--train_save is missing"),
    (("--train_save", "new"), "--train_path is missing"),
])
def test_mistakes_with_resume_are_one_line_and_exit_code_2(place, arguments, message):
    if not (place / "other").exists():
        write_set(place / "other", 4)
        (place / "weights").mkdir()
        shutil.copy(place / "whole" / "last.npz", place / "weights" / "state.npz")
    output = run("train", *arguments, "--device", "cpu", cwd=place, code=2)
    last = output.splitlines()[-1]
    assert message in last and "error: " in last and "Traceback" not in output


def test_the_average_is_kept_apart_and_leaves_the_training_untouched(place):
    """And it goes on after a resume."""
    options = (*OPTIONS, "--epoch", 2, "--seed", 3, "--ema", 0.9)
    run("train", *options, "--train_save", "average", cwd=place)
    run("train", *options, "--train_save", "resumed", "--max_steps", 4, cwd=place)
    run("train", "--resume", "resumed", "--max_steps", 100, "--device", "cpu", cwd=place)
    assert_same_run(place / "resumed", place / "average")
    whole, last, average = (read_weights(place / name) for name in (
        "whole/last.npz", "average/last.npz", "average/ema.npz"))
    for name, value in whole.items():
        np.testing.assert_array_equal(value, last[name])
    assert list(average) == list(last) and any((average[name] != last[name]).any() for name in last)
    epochs = {folder: log_of(place / folder, "epochs.csv") for folder in ("whole", "average")}
    dice = [float(row.pop("ema_mDice")) for row in epochs["average"]]
    assert epochs["average"] == epochs["whole"] and len(dice) == 2
    best = place / "average" / "best_ema.npz"
    assert read_info(best)["mDice"] == max(dice) == held_out_dice(best, place / "train", seed=3)
    assert (place / "average" / "best.npz").exists() and not (place / "whole" / "best_ema.npz").exists()


def held_out_dice(weights: Path, train_path: Path, seed: int) -> float:
    from lib.inference import load_model

    config = Config(train_path=str(train_path), epoch=2, batchsize=2, trainsize=SIZE, seed=seed)
    pairs = find_pairs(train_path / "images", train_path / "masks")
    model = load_model("PraNet-V2", read_checkpoint(weights))
    return mean_dice(model, find_selection(config, pairs)[1], config, Interruption()).dice


def test_the_other_encoder_resumes_to_the_same_bits(tmp_path):
    """Its DropPath draws anew at each step; stopped within a batch."""
    write_set(tmp_path / "train", 3)
    options = (*OPTIONS, "--model_type", "PVT-PraNet-V2", "--val_fraction", 0)
    run("train", *options, "--train_save", "whole", "--max_steps", 5, cwd=tmp_path)
    run("train", *options, "--train_save", "parts", "--max_steps", 2, cwd=tmp_path)
    run("train", "--resume", "parts", "--max_steps", 5, "--device", "cpu", cwd=tmp_path)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_warm_up_flips_and_turns_change_the_training_and_nothing_else_does(place):
    first = {}
    for flags in ((), ("--warmup_steps", 4), ("--flips",), ("--turns",)):
        folder = place / f"options{''.join(map(str, flags))}"
        run("train", *OPTIONS, "--train_save", folder, "--seed", 3, "--max_steps", 2, "--val_fraction", 0,
            *flags, cwd=place)
        first[flags] = [(row["lr"], row["loss"]) for row in log_of(folder)]
        assert not (folder / "best.npz").exists() and not (folder / "ema.npz").exists()
    plain = first.pop(())
    warm = first.pop(("--warmup_steps", 4))
    assert [float(rate) for rate, _ in warm] == [2.5e-5, 5e-5]
    assert warm[0][1] == plain[0][1] and warm[1][1] != plain[1][1]
    for rows in first.values():
        assert rows[0][0] == plain[0][0] and rows[0][1] != plain[0][1]


def test_a_loss_that_is_not_finite_names_its_images_and_keeps_the_snapshot(place):
    """The rate is so high that the first step ruins the network."""
    options = (*OPTIONS, "--seed", 3, "--val_fraction", 0)
    run("train", *options, "--train_save", "ruined", "--lr", 1e30, "--max_steps", 1, cwd=place)
    before = (place / "ruined" / "state.npz").read_bytes()
    output = run("train", "--resume", "ruined", "--max_steps", 9, "--device", "cpu", cwd=place, code=2)
    last = output.splitlines()[-1]
    assert "error: the loss of step 2 is" in last and "polyp" in last and "lower --lr" in last
    assert (place / "ruined" / "state.npz").read_bytes() == before


def test_the_published_choice_on_test_sets_is_made_by_name_with_a_warning(place):
    write_set(place / "tests" / "One", 2)
    write_set(place / "tests" / "Two", 3)
    output = run("train", *OPTIONS, "--train_save", "leak", "--max_steps", 2, "--test_path", "tests",
                 "--select_on_test", "One", "Two", cwd=place)
    assert "warning: --select_on_test chooses best.npz on test sets" in output
    assert "5 pairs, 5 to choose the best weights on" in output
    chosen = read_info(place / "leak" / "best.npz")["mDice"]
    run("test", "--weights", "leak/best.npz", "--test_path", "tests", "--save_path", "maps",
        "--testsize", SIZE, "--evaluate", "--device", "cpu", cwd=place)
    report = json.loads((place / "maps" / "evaluation" / "summary.json").read_text())
    measured = [figures["meanDic"] for figures in report["datasets"].values()]
    assert chosen == pytest.approx(sum(measured) / len(measured), abs=1e-9)

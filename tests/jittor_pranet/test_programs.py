"""The programs train and test as a user runs them: each in a process of its own, on a small drawn set."""

from __future__ import annotations

import csv
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.networks import golden, golden_arrays
from tests.helpers.paths import ROOT
from utils.checkpoint import read_info, read_weights, save_arrays
from utils.data.image_io import image_size, read_grey
from utils.data.synthetic import deterministic

OFFLINE = ROOT / "tests" / "offline"  # its sitecustomize.py ends a Python that reaches for the network
SIZE = 96  # its three scales differ: 64, 96, 128


def start(*arguments: str, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "jittor_pranet", *map(str, arguments)], cwd=cwd, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                            env={**os.environ, "PYTHONPATH": f"{OFFLINE}{os.pathsep}{ROOT}"})


def run(*arguments: str, cwd: Path, code: int = 0) -> str:
    process = start(*arguments, cwd=cwd)
    output, _ = process.communicate()
    assert process.returncode == code, output
    return output


def write_set(folder: Path, count: int, size: int = 80) -> None:
    """Images and masks as PNG, of unequal sides."""
    for kind, draw in (("images", deterministic.images), ("masks", deterministic.masks)):
        (folder / kind).mkdir(parents=True)
        for number, values in enumerate(draw(count, size)):
            values = values * 255 if kind == "masks" else values * 40 + 120
            picture = Image.fromarray(values.transpose(1, 2, 0).clip(0, 255).astype(np.uint8).squeeze())
            picture.resize((size + 10 * number, size)).save(folder / kind / f"polyp{number}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a training set, two test sets, and the outcome of a short training in run/."""
    folder = tmp_path_factory.mktemp("programs")
    write_set(folder / "train", 5)
    write_set(folder / "tests" / "One", 5)
    write_set(folder / "tests" / "Two", 1)
    run("train", "--train_path", "train", "--train_save", "run", "--trainsize", SIZE, "--batchsize", 2,
        "--max_steps", 4, "--device", "cpu", cwd=folder)
    return folder


@pytest.mark.parametrize("code", [
    "import socket; socket.create_connection(('127.0.0.1', 9))",
    "import urllib.request; urllib.request.urlopen('http://localhost:9')",
    "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
])
def test_the_programs_run_here_without_a_network(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(OFFLINE)})
    assert done.returncode == 97 and "reached for the network" in done.stderr


def test_training_leaves_weights_and_log(place):
    rows = list(csv.DictReader((place / "run" / "log.csv").read_text().splitlines()))
    assert [(row["step"], row["epoch"], row["size"]) for row in rows] == [
        ("1", "1", "64"), ("2", "1", "96"), ("3", "1", "128"), ("4", "1", "64")]
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    info = read_info(place / "run" / "last.npz")
    assert (info["model_type"], info["step"], info["seed"], info["batchsize"]) == ("PraNet-V2", 4, 0, 2)
    published = {name for name, _ in golden("state_dict")["PraNet-V2"] if "num_batches" not in name}
    assert set(read_weights(place / "run" / "last.npz")) == published


def test_training_is_repeatable_for_any_number_of_workers(place):
    run("train", "--train_path", "train", "--train_save", "again", "--trainsize", SIZE, "--batchsize", 2,
        "--max_steps", 4, "--workers", 3, "--device", "cpu", cwd=place)
    first, second = (read_weights(place / folder / "last.npz") for folder in ("run", "again"))
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_earlier_weights_are_not_written_over(place):
    before = (place / "run" / "last.npz").stat().st_mtime
    output = run("train", "--train_path", "train", "--train_save", "run", cwd=place, code=2)
    assert "--resume run" in output
    assert (place / "run" / "last.npz").stat().st_mtime == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_snapshot(place, number, code):
    """As a terminal or a scheduler sends it: to every process that the program has started as well."""
    folder = place / f"stopped{code}"
    process = start("train", "--train_path", "train", "--train_save", folder, "--trainsize", SIZE,
                    "--batchsize", 2, "--epoch", 1000, "--device", "cpu", cwd=place)
    log = folder / "log.csv"
    deadline = time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) > 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert f"; this goes on: pranet train --resume {folder}" in output
    assert read_info(folder / "last.npz")["step"] == len(log.read_text().splitlines()) - 1


def test_a_gpu_that_is_too_small_is_one_line(place):
    """What Jittor says of its memory, put in the place of a step."""
    code = ("import sys\nfrom jittor_pranet import train\nfrom jittor_pranet.__main__ import main\n"
            "def step(*_): raise RuntimeError('Failed reason: GPU memory is overflow, please reduce')\n"
            "train.Trainer.begin_step = step\n"
            "sys.exit(main(['train', '--train_path', 'train', '--train_save', 'small', '--batchsize', '2', "
            f"'--trainsize', '{SIZE}', '--device', 'cpu']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and "take a smaller --batchsize" in done.stderr.splitlines()[-1], done.stderr


def test_maps_have_the_images_sizes_and_do_not_depend_on_the_batch(place):
    for batch in (1, 2, 5):
        run("test", "--weights", "run/last.npz", "--test_path", "tests", "--save_path", f"maps{batch}",
            "--testsize", SIZE, "--bs", batch, "--device", "cpu", cwd=place)
    for path in sorted((place / "maps1").rglob("*.png")):
        name = path.relative_to(place / "maps1")
        image = place / "tests" / name.parent / "images" / name.name
        assert image_size(path) == image_size(image)
        assert {path.read_bytes()} == {(place / f"maps{batch}" / name).read_bytes() for batch in (2, 5)}
    assert len(list((place / "maps1").rglob("*.png"))) == 6


def test_all_programs_take_the_size_of_the_training(place):
    flags = ("--weights", "run/last.npz", "--device", "cpu")
    testing = ("test", *flags, "--test_path", "tests", "--datasets", "Two", "--no_minmax", "--save_path")
    predicting = ("predict", *flags, "tests/Two/images", "--out")
    assert f"PraNet-V2: 1 images of Two, at {SIZE} pixels as trained, on cpu" in run(
        *testing, "sized", cwd=place)
    assert f"PraNet-V2: 1 files, at {SIZE} pixels as trained, on cpu" in run(
        *predicting, "sized/predicted", cwd=place)
    other = ("--testsize", 64)
    warning = f"warning: --testsize 64: the weights were trained at {SIZE} pixels"
    assert warning in run(*testing, "otherwise", *other, cwd=place)
    assert warning in run(*predicting, "otherwise/predicted", *other, cwd=place)
    code = ("from lib import PolypSegmenter\nfrom utils.image_io import write_map\n"
            "map = PolypSegmenter('run/last.npz').predict('tests/Two/images/polyp0.png')\n"
            "write_map('python.png', (map * 255).astype('uint8'))")
    subprocess.run([sys.executable, "-c", code], cwd=place, check=True,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})
    expected = (place / "sized" / "Two" / "polyp0.png").read_bytes()
    assert (place / "python.png").read_bytes() == expected
    assert (place / "sized" / "predicted" / "maps" / "polyp0.png").read_bytes() == expected
    assert (place / "otherwise" / "Two" / "polyp0.png").read_bytes() != expected
    for program in (testing, predicting):
        output = run(*program, "none", "--testsize", 0, cwd=place, code=2)
        assert "image size 0 is not a multiple of 32" in output


def test_images_whose_logits_are_not_finite_are_named(place):
    """Weights so large that they overflow, though each is finite."""
    arrays = read_weights(place / "run" / "last.npz")
    for name, array in arrays.items():
        if name.startswith("agg1") and array.ndim == 4:
            array[...] = np.sign(array) * 1e30
    save_arrays(arrays, place / "huge.npz", read_info(place / "run" / "last.npz"))
    flags = ("--weights", "huge.npz", "--device", "cpu")
    output = run("test", *flags, "--test_path", "tests", "--save_path", "huge", cwd=place, code=2)
    last = output.splitlines()[-1]
    assert last.startswith("error: tests/One/images/polyp0.png: what the network gives for it is not finite")
    output = run("predict", *flags, "tests/Two/images", "--out", "huge/predicted", cwd=place, code=1)
    assert "left out: " in output and "polyp0.png: what the network gives for it is not finite" in output
    assert "0 predicted, 0 done before, 1 left out" in output and "Traceback" not in output


def test_maps_are_measured_on_request(place):
    output = run("test", "--weights", "run/last.npz", "--test_path", "tests", "--save_path", "measured",
                 "--testsize", SIZE, "--datasets", "Two", "--evaluate", "--overlays", "--device", "cpu",
                 cwd=place)
    assert "mDice" in output and "Two" in output
    assert (place / "measured" / "evaluation" / "summary.json").exists()
    assert (place / "measured" / "overlays" / "Two" / "polyp0.png").exists()


def test_weights_are_opened_once(place):
    """By each program, in one process here."""
    programs = [["test", "--test_path", "tests", "--save_path", "once", "--testsize", SIZE],
                ["predict", "tests/Two/images", "--out", "once/predicted", "--testsize", SIZE],
                ["convert", "--out", "once/copy.npz"]]
    code = ("import sys\nfrom jittor_pranet.__main__ import main\nopened = []\n"
            "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
            f"for arguments in {[[*map(str, each)] for each in programs]}:\n"
            "    assert main([*arguments, '--weights', 'run/last.npz']) == 0\n"
            "print('opened', opened.count('run/last.npz'))")
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines()[-1] == f"opened {len(programs)}", done.stdout + done.stderr


def test_threshold_and_raw_probability(place):
    for flags in (["--threshold", "0.5"], ["--no_minmax"]):
        run("test", "--weights", "run/last.npz", "--test_path", "tests", "--save_path", flags[0][2:],
            "--testsize", SIZE, "--datasets", "Two", "--device", "cpu", *flags, cwd=place)
    binary, probability = (np.asarray(read_grey(place / folder / "Two" / "polyp0.png"))
                           for folder in ("threshold", "no_minmax"))
    assert set(np.unique(binary)) == {0, 255}
    assert not (probability.min() == 0 and probability.max() == 255)


def test_post_processing_is_the_published_one():
    from lib.inference import finish_map
    from utils.runtime.backend import jt

    for index, case in enumerate(golden("postprocess")):
        maps = deterministic.stream("post", case["seed"]).normal(0, 3, (case["maps"], 1, 1, *case["size"]))
        logits = sum(jt.array(each) for each in maps.astype(np.float32))
        written = (finish_map(logits, tuple(case["target"]), minmax=True) * 255).astype(np.uint8)
        expected = golden_arrays("postprocess")[f"case{index}"]
        # A float32 value next to a whole number may be cut to either side.
        assert np.abs(written.astype(int) - expected.astype(int)).max() <= 1
        assert (written != expected).mean() < 1e-3


def make_gadget(path: Path) -> None:
    """A pickle that makes a file when it is run."""
    class Gadget:
        def __reduce__(self):
            return os.system, (f"touch {path.parent / 'it-ran'}",)

    path.write_bytes(pickle.dumps({"weight": Gadget()}))


def spoil(folder: Path, kind: str) -> None:
    """Copies the training set to ``folder`` with one defect."""
    import shutil

    shutil.copytree(folder.parent / "train", folder)
    image, mask = folder / "images" / "polyp1.png", folder / "masks" / "polyp1.png"
    if kind == "mask missing":
        mask.unlink()
    elif kind == "mask of another size":
        Image.new("L", (7, 9)).save(mask)
    elif kind == "truncated JPEG":
        image.unlink()
        Image.effect_noise((90, 80), 50).convert("RGB").save(image.with_suffix(".jpg"))
        image.with_suffix(".jpg").write_bytes(image.with_suffix(".jpg").read_bytes()[:700])
    elif kind == "text file named .png":
        image.write_text("polyp")


@pytest.mark.parametrize("kind", ["mask missing", "mask of another size", "truncated JPEG",
                                  "text file named .png"])
def test_defects_of_a_training_set_are_one_line(place, kind):
    folder = place / kind.replace(" ", "_")
    spoil(folder, kind)
    output = run("train", "--train_path", folder, "--train_save", "never", cwd=place, code=2)
    assert "polyp1" in output and output.splitlines()[-1].startswith("error: ") and output.count("error") == 1


TRAIN = ("train", "--train_path", "train", "--train_save", "never")
TEST = ("test", "--test_path", "tests", "--save_path", "never")


@pytest.mark.parametrize(("arguments", "message"), [
    (("train", "--train_path", "nowhere", "--train_save", "never"), "nowhere"),
    ((*TRAIN, "--model_type", "PraNet-V3"), "PVT-PraNet-V2"),
    ((*TRAIN, "--trainsize", "100"), "96 or 128 would do"),
    ((*TRAIN, "--batchsize", "0"), "expected 1 or more"),
    ((*TRAIN, "--lr", "nan"), "not a finite number"),
    ((*TRAIN, "--backbone_weights", "run/last.npz"), "the model is a bare Res2Net"),
    ((*TEST, "--weights", "nowhere.npz"), "nowhere.npz"),
    ((*TEST, "--weights", "gadget.pkl", "--model_type", "PraNet-V2"), "gadget.pkl"),
    ((*TEST, "--weights", "run/last.npz", "--model_type", "PVT-PraNet-V2"),
     "those of PraNet-V2, the model is PVT-PraNet-V2"),
    ((*TEST, "--weights", "run/last.npz", "--datasets", "Three"), "One, Two"),
    ((*TEST, "--weights", "run/last.npz", "--testsize", "100"), "96 or 128 would do"),
])
def test_mistakes_are_one_line_and_exit_code_2(place, arguments, message):
    make_gadget(place / "gadget.pkl")
    output = run(*arguments, cwd=place, code=2)
    last = output.splitlines()[-1]
    assert message in last and "error: " in last and "Traceback" not in output
    assert not (place / "it-ran").exists() and not (place / "never" / "last.npz").exists()

"""The program `evaluate`: its figures, its files, and every way in which a folder of maps can be wrong."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.__main__ import main
from tests import metrics_oracle
from tests.compare import TOLERANCES, assert_close
from utils.evaluation import IMAGES_PER_WORKER, find_datasets
from utils.metrics import THRESHOLDS
from utils.scoring import default_workers
from utils.tables import PAPER

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
SETS = ("first", "second")
IMAGES = 5


@pytest.fixture
def folders(tmp_path):
    """Two sets of masks in gt/, and the maps of a method for them in maps/."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :60]
    for name in SETS:
        gt, maps = tmp_path / "gt" / name, tmp_path / "maps" / name
        for number in range(IMAGES):
            row, column, radius = rng.uniform(5, 35), rng.uniform(5, 55), rng.uniform(3, 15)
            distance = np.hypot(y - row, x - column)
            blurred = 1 / (1 + np.exp((distance + rng.normal(0, 2, distance.shape) - 8) / 2))
            write(gt / "images" / f"{number}.jpg", rng.integers(0, 255, (40, 60, 3), np.uint8))
            write(gt / "masks" / f"{number}.png", np.uint8(255 * (distance < radius)))
            write(maps / f"{number}.png", np.uint8(255 * blurred))
    return tmp_path


def write(path: Path, values: np.ndarray) -> None:
    save(path, Image.fromarray(values))


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def evaluate(folders: Path, *more: str) -> int:
    return main(["evaluate", "--pred_root", str(folders / "maps"), "--gt_root", str(folders / "gt"),
                 "--result_path", str(folders / "out"), *more])


def summary(folders: Path) -> dict:
    return json.loads((folders / "out" / "summary.json").read_text())


def rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def oracle(folders: Path, dataset: str) -> dict[str, float]:
    """The plain loop's means over a set's images, but for those that are a maximum over thresholds."""
    figures = []
    for path in sorted((folders / "maps" / dataset).iterdir()):
        mask = np.asarray(Image.open(folders / "gt" / dataset / "masks" / path.name)) > 127
        figures.append(metrics_oracle.measure(np.asarray(Image.open(path)), mask))
    return {name: np.mean([each[name] for each in figures])
            for name in figures[0] if not name.startswith("max")}


# ---------------------------------------------------------------- figures


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real images in ../shared/data")
def test_published_maps_give_the_published_figures(tmp_path, capsys):
    assert main(["evaluate", "--pred_root", str(DATA / "predictions/PraNet-V1"), "--datasets", "CVC-300",
                 "--gt_root", str(DATA / "polyp/TestDataset"), "--result_path", str(tmp_path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("CVC-300"))
    assert line.split() == ["CVC-300", "PraNet-V1", "60",
                            "87.101", "79.674", "84.330", "92.542", "95.000", "0.987"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_figures_equal_the_oracle(folders, workers):
    assert evaluate(folders, "--workers", workers) == 0
    for dataset in SETS:
        figures = summary(folders)["datasets"][dataset]
        assert figures["images"] == figures["masks"] == IMAGES
        for name, expected in oracle(folders, dataset).items():
            assert_close(figures[name], expected, "metrics", f"{dataset} {name}")


def test_files_do_not_depend_on_the_number_of_workers(folders):
    written = []
    for workers in ("1", "2", "3"):
        assert evaluate(folders, "--workers", workers) == 0
        written.append({path.name: path.read_bytes() for path in (folders / "out").iterdir()})
    assert set(written[0]) == {"summary.json", "summary.csv", "per_image.csv", "curves.npz", "report.html"}
    assert written[0] == written[1] == written[2]


def test_files_agree_with_each_other(folders):
    assert evaluate(folders) == 0
    figures, out = summary(folders), folders / "out"
    assert list(figures["datasets"]) == list(SETS)
    assert figures["mask_rule"] == "mid"
    assert set(figures["versions"]) == {"python", "numpy", "scipy", "pillow"}

    for row in rows(out / "summary.csv"):
        assert row.pop("method") == "maps"
        expected = figures["datasets"][row.pop("dataset")]
        assert {name: float(figure) for name, figure in row.items()} == expected
    images = rows(out / "per_image.csv")
    assert [(row["dataset"], row["image"]) for row in images] == \
        [(dataset, f"{number}.png") for dataset in SETS for number in range(IMAGES)]
    with np.load(out / "curves.npz") as curves:
        np.testing.assert_array_equal(curves["thresholds"], THRESHOLDS)
        for dataset in SETS:
            reached = figures["datasets"][dataset]
            assert_close(curves[f"maps/{dataset}/Dic"].mean(), reached["meanDic"], "metrics")
            assert_close(curves[f"maps/{dataset}/IoU"].max(), reached["maxIoU"], "metrics")
            of_images = [float(row["wFm"]) for row in images if row["dataset"] == dataset]
            assert_close(np.mean(of_images), reached["wFm"], "metrics")


def test_a_second_run_replaces_the_first(folders):
    assert evaluate(folders) == 0
    before = (folders / "out" / "per_image.csv").read_text()
    assert evaluate(folders, "--datasets", "second") == 0
    assert list(summary(folders)["datasets"]) == ["second"]
    assert [row["dataset"] for row in rows(folders / "out" / "per_image.csv")] == ["second"] * IMAGES
    assert evaluate(folders) == 0
    assert (folders / "out" / "per_image.csv").read_text() == before


def test_mask_rule(folders):
    mask = folders / "gt" / "first" / "masks" / "0.png"
    write(mask, np.maximum(np.asarray(Image.open(mask)), 5))  # as JPEG leaves it
    figures = {}
    for rule in ("mid", "published"):
        assert evaluate(folders, "--mask_rule", rule) == 0
        assert summary(folders)["mask_rule"] == rule
        figures[rule] = rows(folders / "out" / "per_image.csv")[0]
    assert figures["mid"]["undefined"] == ""
    assert figures["published"]["undefined"] == "Spe"  # all of the mask counts as polyp


def test_several_methods_stand_in_one_table(folders, capsys):
    for name in SETS:
        for path in (folders / "maps" / name).iterdir():
            write(folders / "inverted" / name / path.name, 255 - np.asarray(Image.open(path)))
    assert evaluate(folders, "--pred_root", str(folders / "inverted")) == 0
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith(SETS)]
    assert lines == [[name, method] for name in SETS for method in ("maps", "inverted")]
    figures = summary(folders)["methods"]
    assert list(figures) == ["maps", "inverted"]
    assert figures["inverted"]["datasets"]["first"]["mae"] > figures["maps"]["datasets"]["first"]["mae"]

    both = {method: entry["datasets"] for method, entry in figures.items()}
    assert evaluate(folders) == 0
    assert summary(folders)["datasets"] == both["maps"]


def test_methods_of_one_name_are_told_apart(folders):
    twin = folders / "twin" / "maps"
    for name in SETS:
        for path in (folders / "maps" / name).iterdir():
            write(twin / name / path.name, np.asarray(Image.open(path)))
    assert evaluate(folders, "--pred_root", str(twin)) == 0
    first, second = summary(folders)["methods"].items()
    assert first[0].endswith("_maps") and second[0].endswith("_twin_maps")
    assert first[1]["datasets"] == second[1]["datasets"]


def test_undefined_figures_are_said(folders, capsys):
    write(folders / "gt" / "first" / "masks" / "0.png", np.zeros((40, 60), np.uint8))
    assert evaluate(folders, "--datasets", "first") == 0
    assert summary(folders)["datasets"]["first"]["undefined_wFm"] == 1
    assert "first, maps: wFm is undefined for 1 of 5 images (empty mask" in capsys.readouterr().err


def test_comparison_with_the_paper(folders, capsys):
    for root in ("gt", "maps"):
        (folders / root / "first").rename(folders / root / "Kvasir")
    assert evaluate(folders, "--compare") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    figures = summary(folders)["datasets"]["Kvasir"]
    assert sum(len(networks) for networks in PAPER.values()) == 16
    for dataset, networks in PAPER.items():
        for network, published in networks.items():
            line = next(line for line in lines if line[:2] == [dataset, network])
            if dataset == "Kvasir":
                assert line[2::2] == [f"{figure:.2f}" for figure in published]
                own = [figures[name] for name in ("meanDic", "meanIoU", "wFm", "Sm", "meanEm", "mae")]
                assert [float(cell) for cell in line[3::2]] == [
                    round(100 * ours - figure, 2) for ours, figure in zip(own, published)]
            else:
                assert line[2:] == [f"{figure:.2f}" for figure in published]


def test_benchmark_compares_equal_figures(folders, capsys):
    assert main(["benchmark", "--what", "evaluate", "--pred_root", str(folders / "maps"), "--gt_root",
                 str(folders / "gt"), "--rounds", "1", "--workers", "1", "2", "--images", "8"]) == 0
    printed = capsys.readouterr().out
    assert float(re.search("differ by (.*) at most", printed)[1]) <= TOLERANCES["metrics"].absolute
    assert "1 worker(s)" in printed and "2 worker(s)" in printed
    assert main(["benchmark", "--what", "evaluate", "--gt_root", str(folders / "gt")]) == 2
    assert "needs --pred_root and --gt_root" in capsys.readouterr().err


# ---------------------------------------------------------------- maps with a defect


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def replace_by_text(path: Path) -> None:
    path.write_text("not an image")


def halve(path: Path) -> None:
    write(path, np.zeros((20, 30), np.uint8))


def colour(path: Path) -> None:
    save(path, Image.new("RGB", (60, 40), (255, 0, 0)))


def colour_palette(path: Path) -> None:
    image = Image.new("P", (60, 40), 1)
    image.putpalette([0, 0, 0, 128, 0, 0])
    save(path, image)


def make_transparent(path: Path) -> None:
    save(path, Image.new("LA", (60, 40), (255, 0)))


def deepen(path: Path) -> None:
    write(path, np.full((40, 60), 65535, np.uint16))


def replace_by_floats(path: Path) -> None:
    path.unlink()
    save(path.with_suffix(".tif"), Image.fromarray(np.full((40, 60), 0.5, np.float32)))


DEFECTS = {
    remove: "maps/first: no map for 1 of 5 masks: 2.png",
    truncate: "2.png: cannot be read as an image",
    replace_by_text: "2.png: cannot be read as an image",
    halve: "2.png: is 30x20 pixels, its mask 60x40",
    colour: "2.png: has 2400 coloured pixels (mode RGB), expected grey levels",
    colour_palette: "2.png: has 2400 coloured pixels (mode P), expected grey levels",
    make_transparent: "2.png: has transparent pixels",
    deepen: "2.png: has pixels of mode I;16, expected 8 bits",
    replace_by_floats: "2.tif: has pixels of mode F, expected 8 bits",
}


@pytest.mark.parametrize("spoil", DEFECTS, ids=lambda spoil: spoil.__name__)
def test_a_defect_stops_the_program_and_is_named(folders, capsys, spoil):
    spoil(folders / "maps" / "first" / "2.png")
    assert evaluate(folders) == 2
    error = capsys.readouterr().err
    assert DEFECTS[spoil] in error and "--allow_missing" in error
    assert error.count("error:") == 1 and "Traceback" not in error
    assert not (folders / "out").exists()


@pytest.mark.parametrize("spoil", DEFECTS, ids=lambda spoil: spoil.__name__)
def test_a_defect_is_left_out_if_allowed_and_said(folders, capsys, spoil):
    spoil(folders / "maps" / "first" / "2.png")
    assert evaluate(folders, "--allow_missing") == 0
    printed = capsys.readouterr()
    assert DEFECTS[spoil] in printed.err
    assert "4 of 5" in next(line for line in printed.out.splitlines() if line.startswith("first"))
    figures = summary(folders)["datasets"]["first"]
    assert (figures["images"], figures["masks"]) == (4, 5)
    images = [row["image"] for row in rows(folders / "out" / "per_image.csv") if row["dataset"] == "first"]
    assert images == ["0.png", "1.png", "3.png", "4.png"]
    report = (folders / "out" / "report.html").read_text()
    assert "4 of 5" in report and DEFECTS[spoil].split(": ")[0] in report


def test_an_extra_map_stops_the_program(folders, capsys):
    write(folders / "maps" / "first" / "other.png", np.zeros((40, 60), np.uint8))
    assert evaluate(folders) == 2
    assert "maps/first: no mask for 1 of 6 maps: other.png" in capsys.readouterr().err
    assert evaluate(folders, "--allow_missing") == 0
    assert summary(folders)["datasets"]["first"]["images"] == IMAGES


def test_all_defects_are_named_at_once(folders, capsys):
    halve(folders / "maps" / "first" / "0.png")
    truncate(folders / "maps" / "second" / "1.png")
    assert evaluate(folders, "--workers", "2") == 2
    error = capsys.readouterr().err
    assert "first/0.png: is 30x20" in error and "second/1.png: cannot be read" in error


def test_a_set_without_any_map_to_score(folders, capsys):
    for path in (folders / "maps" / "first").iterdir():
        halve(path)
    assert evaluate(folders, "--allow_missing") == 2
    assert "first: no map of maps can be scored" in capsys.readouterr().err


def test_masks_of_0_and_1_are_refused(folders, capsys):
    mask = folders / "gt" / "first" / "masks" / "0.png"
    write(mask, np.asarray(Image.open(mask)) // 255)
    assert evaluate(folders) == 2
    assert "masks/0.png: mask holds the levels 0 and 1 only" in capsys.readouterr().err
    assert evaluate(folders, "--mask_rule", "published") == 0


def test_maps_of_0_and_1_are_measured_and_remarked(folders, capsys):
    for path in (folders / "maps" / "first").iterdir():
        write(path, np.asarray(Image.open(folders / "gt" / "first" / "masks" / path.name)) // 255)
    assert evaluate(folders) == 0
    assert "first, maps: no map has a level above 1, expected 0..255" in capsys.readouterr().err
    assert {row["brightest"] for row in rows(folders / "out" / "per_image.csv")[:IMAGES]} == {"1"}


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "LA", "RGBA"])
def test_other_modes_of_the_same_levels_give_the_same_figures(folders, mode):
    for path in (folders / "maps" / "first").iterdir():
        write(path, np.where(np.asarray(Image.open(path)) > 127, np.uint8(255), np.uint8(0)))
    assert evaluate(folders) == 0
    expected = summary(folders)
    for root in ("maps/first", "gt/first/masks"):
        for path in (folders / root).iterdir():
            save(path, Image.open(path).convert(mode))
    assert evaluate(folders) == 0
    assert summary(folders) == expected


# ---------------------------------------------------------------- wrong folders and arguments


@pytest.mark.parametrize("pred_root, gt_root, more, complaint", [
    ("maps", "nowhere", [], "nowhere: no such folder"),
    ("maps", "maps", [], "maps: holds no test set (a folder with masks/ in it)\n"),
    ("maps", "gt/first", [], "first: holds no test set (a folder with masks/ in it); give "),
    ("maps", "gt", ["--datasets", "third"], "has no set third; with masks/ it holds first, second"),
    ("nowhere", "gt", [], "nowhere/first: no such folder"),
    ("gt", "gt", [], "gt/first: holds no image"),
    ("maps", "gt", ["--pred_root", "{maps}/"], "maps: is given twice"),
])
def test_the_wrong_folders(folders, capsys, pred_root, gt_root, more, complaint):
    more = [word.format(maps=folders / "maps") for word in more]
    assert main(["evaluate", "--pred_root", str(folders / pred_root), "--gt_root", str(folders / gt_root),
                 "--result_path", str(folders / "out"), *more]) == 2
    assert complaint in capsys.readouterr().err
    assert not (folders / "out").exists()


def test_a_folder_that_cannot_be_written(folders, capsys):
    (folders / "out").write_text("a file")
    assert evaluate(folders) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--workers", "-1"], ["--workers", "two"], ["--mask_rule", "half"]])
def test_wrong_arguments(folders, arguments):
    with pytest.raises(SystemExit) as stopped:
        evaluate(folders, *arguments)
    assert stopped.value.code == 2


def test_sets_and_workers_by_default(folders):
    (folders / "gt" / "notes").mkdir()
    assert find_datasets(folders / "gt") == list(SETS)
    assert find_datasets(folders / "gt", ["second", "second"]) == ["second"]
    assert default_workers(0, IMAGES_PER_WORKER) == default_workers(60, IMAGES_PER_WORKER) == 1
    assert default_workers(10 ** 6, IMAGES_PER_WORKER) >= 1


def test_the_command_imports_no_framework():
    code = ("import sys; from jittor_pranet.__main__ import main\n"
            "try: main(['evaluate', '-h'])\n"
            "finally: print(*sorted({name.split('.')[0] for name in sys.modules}))")
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout
    loaded = set(printed.splitlines()[-1].split())
    assert "scipy" in loaded and not {"jittor", "torch", "cv2"} & loaded


# ---------------------------------------------------------------- ended from outside

PATIENCE_S = 60


@pytest.fixture
def start(folders):
    """Starts the program on a map that is a pipe; gives it, and the pipe once somebody waits to read it.

    The program would refuse the pipe, so Python is made to leave out that check at its start.
    """
    pipe = folders / "maps" / "first" / "0.png"
    pipe.unlink()
    os.mkfifo(pipe)
    site = folders / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "from utils import image_io\nimage_io._require_no_pipe = lambda path: None\n")
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    started = []

    def run(workers: int) -> tuple[subprocess.Popen, BinaryIO]:
        started.append(subprocess.Popen(
            [sys.executable, "-m", "jittor_pranet", "evaluate", "--pred_root", folders / "maps", "--gt_root",
             folders / "gt", "--result_path", folders / "out", "--workers", str(workers)],
            cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1], wait_for(lambda: open_to_write(pipe))

    yield run
    for program in started:
        program.kill()
        program.wait()
        program.stderr.close()


def wait_for(found: Callable[[], object]):
    """What a function finds as soon as it finds something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"nothing happened in {PATIENCE_S} s")


def open_to_write(pipe: Path) -> BinaryIO | None:
    """The pipe, or None while nobody reads it."""
    with contextlib.suppress(OSError):
        return open(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0)
    return None


def reader_of(pipe: Path) -> int | None:
    """The process other than this one that has the pipe open, or None."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        process = int(folder.parent.name)
        with contextlib.suppress(OSError):  # processes come and go
            if process != os.getpid() and str(pipe) in map(os.readlink, folder.iterdir()):
                return process
    return None


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c(folders, start, workers):
    program, pipe = start(workers)
    with pipe:
        os.killpg(program.pid, signal.SIGINT)
        time.sleep(0.5)  # for the signal to arrive before the map ends
    error = program.communicate(timeout=PATIENCE_S)[1]
    assert program.returncode == 130
    assert error == "interrupted\n"
    assert not (folders / "out").exists()


def test_a_killed_worker(folders, start):
    program, pipe = start(workers=2)
    with pipe:
        os.kill(wait_for(lambda: reader_of(folders / "maps" / "first" / "0.png")), signal.SIGKILL)
        error = program.communicate(timeout=PATIENCE_S)[1]
    assert program.returncode == 2
    assert "error: one of 2 worker processes was killed" in error and "Traceback" not in error
    assert not (folders / "out").exists()


def test_workers_end_with_a_killed_program(start):
    program, pipe = start(workers=2)
    with pipe, pytest.raises(BrokenPipeError):
        program.kill()
        wait_for(lambda: not pipe.write(b" "))

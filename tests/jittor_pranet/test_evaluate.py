"""The program `evaluate`: its figures, its files, and what it compares them with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.__main__ import main
from jittor_pranet.reference_metrics import binary
from tests.helpers.compare import TOLERANCES, assert_close
from tests.helpers.evaluations import IMAGES, SETS, evaluate, rows, summary, write, write_folders
from tests.helpers.paths import ROOT, visible_files
from utils.csv_log import text_of
from utils.metrics.binary import THRESHOLDS
from utils.metrics.evaluation import IMAGES_PER_WORKER, find_datasets
from utils.metrics.scoring import default_workers
from utils.metrics.tables import PAPER

DATA = ROOT.parent / "shared" / "data"


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path)


def reference(folders: Path, dataset: str) -> dict[str, float]:
    """The plain loop's means over a set's images, but for those that are a maximum over thresholds."""
    figures = []
    for path in sorted((folders / "maps" / dataset).iterdir()):
        mask = np.asarray(Image.open(folders / "gt" / dataset / "masks" / path.name)) > 127
        figures.append(binary.measure(np.asarray(Image.open(path)), mask))
    return {name: np.mean([each[name] for each in figures])
            for name in figures[0] if not name.startswith("max")}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real images in ../shared/data")
def test_published_maps_give_the_published_figures(tmp_path, capsys):
    assert main(["evaluate", "--pred_root", str(DATA / "predictions/PraNet-V1"), "--datasets", "CVC-300",
                 "--gt_root", str(DATA / "polyp/TestDataset"), "--result_path", str(tmp_path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("CVC-300"))
    assert line.split() == ["CVC-300", "PraNet-V1", "60",
                            "87.101", "79.674", "84.330", "92.542", "95.000", "0.987"]


def test_names_that_a_spreadsheet_would_run_are_marked_in_tables(folders):
    names = ["=1+1.png", "-x.png", "new\nline.png", os.fsdecode(b"\xe9.png"), "plain.png"]
    for number, name in enumerate(names):
        for folder, suffix in (("gt/first/masks", "png"), ("maps/first", "png"), ("gt/first/images", "jpg")):
            path = folders / folder / f"{number}.{suffix}"
            path.rename(path.with_name(name.replace(".png", f".{suffix}")))
    assert evaluate(folders, "--datasets", "first") == 0
    table = rows(folders / "out" / "per_image.csv")
    assert sorted(text_of(row["image"]) for row in table) == sorted(names)
    assert all(row["image"].isprintable() and row["image"][0] not in "=+-@" for row in table)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_figures_equal_the_reference(folders, workers):
    assert evaluate(folders, "--workers", workers) == 0
    for dataset in SETS:
        figures = summary(folders)["datasets"][dataset]
        assert figures["images"] == figures["masks"] == IMAGES
        for name, expected in reference(folders, dataset).items():
            assert_close(figures[name], expected, "metrics", f"{dataset} {name}")


def test_files_do_not_depend_on_the_number_of_workers(folders):
    written = []
    for workers in ("1", "2", "3"):
        assert evaluate(folders, "--workers", workers) == 0
        written.append(visible_files(folders / "out"))
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
    other = folders / "other" / "maps"
    for name in SETS:
        for path in (folders / "maps" / name).iterdir():
            write(other / name / path.name, np.asarray(Image.open(path)))
    assert evaluate(folders, "--pred_root", str(other)) == 0
    first, second = summary(folders)["methods"].items()
    assert first[0].endswith("_maps") and second[0].endswith("_other_maps")
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

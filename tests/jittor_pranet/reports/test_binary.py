"""The report of an evaluation: its numbers, its order, its pictures, and that it needs nothing but itself."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.__main__ import main
from jittor_pranet.reports import binary
from jittor_pranet.reports import page as parts
from jittor_pranet.reports.overlay import MAP_COLOUR
from jittor_pranet.reports.scales import ticks
from tests.helpers.compare import assert_close
from tests.helpers.html_page import Page, decoded
from utils.metrics.tables import COLUMNS

IMAGES = 6


@pytest.fixture
def folders(tmp_path):
    """A set whose images get worse with their number, and photographs for it."""
    y, x = np.mgrid[:48, :64]
    mask = np.hypot(y - 24, x - 32) < 12
    for number in range(IMAGES):
        shifted = np.hypot(y - 24, x - 32 - 3 * number) < 12
        for path, values in (("gt/set & <b>/masks", np.uint8(255 * mask)),
                             ("gt/set & <b>/images", np.full((48, 64, 3), (200, 80, 60), np.uint8)),
                             ("maps/set & <b>", np.uint8(255 * shifted))):
            (tmp_path / path).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / path / f"{number}.png")
    return tmp_path


def evaluate(folders: Path, *more: str) -> Page:
    assert main(["evaluate", "--pred_root", str(folders / "maps"), "--gt_root", str(folders / "gt"),
                 "--result_path", str(folders / "out"), *more]) == 0
    return Page(folders / "out" / "report.html")


def test_numbers_are_those_of_the_summary(folders):
    page = evaluate(folders)
    figures = json.loads((folders / "out" / "summary.json").read_text())["datasets"]["set & <b>"]
    assert page.rows == [["set", "method", "images", *COLUMNS.values()],
                         ["set & <b>", "maps", "6", *(f"{100 * figures[name]:.3f}" for name in COLUMNS)]]


def test_images_come_worst_first_with_their_dice(folders):
    page = evaluate(folders)
    with open(folders / "out" / "per_image.csv", newline="", encoding="utf-8") as file:
        dice = {row["image"]: float(row["meanDic"]) for row in csv.DictReader(file)}
    assert page.captions == [f"{name} {100 * dice[name]:.1f}" for name in sorted(dice, key=dice.get)]
    assert page.captions[0].startswith(f"{IMAGES - 1}.png")
    assert all(image["loading"] == "lazy" for image in page.images)


@pytest.mark.parametrize("thumbnails", [0, 2, IMAGES])
def test_the_first_images_are_drawn_and_the_others_listed(folders, thumbnails):
    page = evaluate(folders, "--thumbnails", str(thumbnails))
    text = (folders / "out" / "report.html").read_text(encoding="utf-8")
    assert len(page.images) == len(page.captions) == thumbnails
    assert (f"{IMAGES - thumbnails} more images" in text) == (thumbnails < IMAGES)
    assert all(f"{number}.png" in text for number in range(IMAGES))


def test_the_page_needs_nothing_but_itself(folders):
    page = evaluate(folders, "--compare")
    assert len(page.images) == IMAGES
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in page.addresses)
    text = (folders / "out" / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)


def test_a_picture_shows_photograph_map_and_mask(folders):
    image = evaluate(folders).images[0]  # the map lies to the right of the mask
    shown = decoded(image).astype(int)
    assert shown.shape == (48, 64, 3) == (int(image["height"]), int(image["width"]), 3)
    assert np.abs(shown[5, 5] - (200, 80, 60)).max() < 20
    tint = 0.65 * np.array([200, 80, 60]) + 0.35 * np.array(MAP_COLOUR)
    assert np.abs(shown[24, 50:54] - tint).max() < 40
    assert shown[12, 30:34, 2].max() < 130 < shown[12, 30:34, :2].min()  # the mask's yellow line


def test_without_photographs_the_maps_are_drawn_on_black(folders):
    photographs = folders / "gt" / "set & <b>" / "images"
    (photographs / "0.png").write_text("not an image")
    (photographs / "1.png").unlink()
    captions = {caption.split()[0]: caption for caption in evaluate(folders).captions}
    assert "cannot be read as an image" in captions["0.png"] and "(no photograph)" in captions["1.png"]

    photographs.rename(folders / "elsewhere")
    page = evaluate(folders)
    assert len(page.images) == IMAGES and decoded(page.images[0])[5, 5].max() < 20
    assert "map on black" in (folders / "out" / "report.html").read_text(encoding="utf-8")


def test_charts_show_every_method_threshold_and_image(folders):
    shutil.copytree(folders / "maps", folders / "again")
    evaluate(folders, "--pred_root", str(folders / "again"))
    text = (folders / "out" / "report.html").read_text(encoding="utf-8")
    histogram, *charts = re.findall("<svg.*?</svg>", text)
    assert len(charts) == 3
    with np.load(folders / "out" / "curves.npz") as curves:
        for name, chart in zip(("Dic", "IoU", "Em"), charts):
            lines = re.findall("polyline points='(.*?)'", chart)
            drawn = np.array([[point.split(",") for point in line.split()] for line in lines], float)
            assert drawn.shape == (2, 256, 2)
            height = parts.BOTTOM - drawn[..., 1]
            expected = [curves[f"{method}/set & <b>/{name}"] for method in ("maps", "again")]
            np.testing.assert_allclose(height / (parts.BOTTOM - parts.TOP), expected, atol=1e-3)
    bars = np.array(re.findall("height='(.*?)'", histogram), float).reshape(2, binary.HISTOGRAM_BINS)
    top = float(re.findall("text-anchor='end'>(.*?)<", histogram)[-1])
    np.testing.assert_allclose(bars.sum(axis=1) / (parts.BOTTOM - parts.TOP) * top, IMAGES, atol=0.05)


@pytest.mark.parametrize(("highest", "marks"), [
    (1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, [0, 1, 2, 3]), (0.26, [0, 0.1, 0.2, 0.3]),
    (25, [0, 5, 10, 15, 20, 25]), (81.4, [0, 20, 40, 60, 80, 100]),
    (100.5, [0, 50, 100, 150]), (6e4, [0, 2e4, 4e4, 6e4])])
def test_marks_of_an_axis_are_round(highest, marks):
    assert_close(ticks(0, highest, 5), marks, "float64")

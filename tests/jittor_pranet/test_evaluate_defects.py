"""The program `evaluate`: every way in which a folder of maps can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.__main__ import main
from tests.helpers.evaluations import IMAGES, evaluate, rows, save, summary, write, write_folders


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path)


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

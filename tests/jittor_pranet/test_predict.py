"""The program predict with a network that takes green for polyp, on good files, bad files and full disks."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet import predict
from jittor_pranet.reports.overlay import MAP_COLOUR
from tests.helpers.green_network import KINDS, GreenIsPolyp, draw, green_network, rows, run
from tests.helpers.paths import files_of
from utils.data.image_io import read_levels
from utils.errors import BadFile

__all__ = ["green_network"]  # a fixture that every test uses


# ---- What is written

def test_map_mask_overlay_and_row_of_an_image(tmp_path, capsys):
    path = draw(tmp_path / "in" / "sub" / "frame.1.png", box=(4, 8, 16, 12), level=204)
    assert run(tmp_path) == 0
    read = {kind: tmp_path / "out" / kind / "sub" / "frame.1.png" for kind in KINDS}
    expected = np.full((32, 32), 20)
    expected[8:20, 4:20] = 204
    np.testing.assert_allclose(read_levels(read["maps"]).astype(int), expected, atol=1)
    np.testing.assert_array_equal(read_levels(read["masks"]), np.where(expected > 100, 255, 0))
    line = (np.asarray(Image.open(read["overlays"])) == MAP_COLOUR).all(axis=2)
    assert line[8, 4] and line[7, 4] and not line[12, 12] and not line[0, 0]
    row, = rows(tmp_path / "out")
    assert row == {"output": "sub/frame.1.png", "file": str(path), "width": "32", "height": "32",
                   "frames": "1", "area_px": "192", "area_percent": "18.750", "components": "1",
                   "confidence": "0.8000", "highest": "0.8000", "boxes": "4 8 16 12"}
    assert "1 predicted, 0 done before, 0 left out for a defect" in capsys.readouterr().out


def test_a_frame_without_polyp_stays_empty_unless_stretched(tmp_path):
    draw(tmp_path / "in" / "a.png", level=30)
    assert run(tmp_path) == 0
    row, = rows(tmp_path / "out")
    assert (row["area_px"], row["components"], row["confidence"], row["boxes"]) == ("0", "0", "", "")
    assert read_levels(tmp_path / "out" / "maps" / "a.png").max() <= 30
    assert run(tmp_path, tmp_path / "in", "--minmax", out="stretched") == 0
    assert rows(tmp_path / "stretched")[0]["area_px"] == "192"


def test_the_threshold_is_that_of_the_mask(tmp_path):
    draw(tmp_path / "in" / "a.png", level=153)  # 0.6
    for threshold, area in (("0.55", "192"), ("0.65", "0")):
        assert run(tmp_path, tmp_path / "in", "--threshold", threshold, out=threshold) == 0
        assert rows(tmp_path / threshold)[0]["area_px"] == area


def test_results_do_not_depend_on_batch_workers_or_working_directory(tmp_path, monkeypatch):
    for number in range(7):
        draw(tmp_path / "in" / f"{number}.png", box=(number, 3, 9, 9), size=(30 + number, 40))
    assert run(tmp_path, out="first") == 0
    for batch, workers in ((1, 0), (3, 2), (7, 1)):
        assert run(tmp_path, tmp_path / "in", "--batch", batch, out=f"out{batch}", workers=workers) == 0
        assert files_of(tmp_path / f"out{batch}") == files_of(tmp_path / "first")
    monkeypatch.chdir(tmp_path / "in")
    assert run(tmp_path, "../in", out="elsewhere") == 0
    assert files_of(tmp_path / "elsewhere") == files_of(tmp_path / "first")


def test_a_turned_photograph_is_predicted_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "in" / "photo.png", box=(0, 0, 8, 8), size=(32, 64), exif=exif)  # upright: to the right
    assert run(tmp_path) == 0
    row, = rows(tmp_path / "out")
    assert (row["width"], row["height"]) == ("64", "32")
    left, top, width, _height = map(int, row["boxes"].split())
    assert (left + width, top) == (64, 0)


# ---- Files and folders that are wrong

def make_bad_files(folder: Path) -> dict[str, str]:
    """Files that cannot be predicted, and what is to be said of each."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    image = Image.fromarray(noise)
    encoded = {kind: io.BytesIO() for kind in ("PNG", "JPEG", "WEBP", "TIFF")}
    for kind, stream in encoded.items():
        image.save(stream, kind)
    bad = {}

    def add(name: str, content: bytes, reason: str) -> None:
        (folder / os.fsdecode(name)).write_bytes(content)
        bad[os.fsdecode(name)] = reason

    for number in range(12):
        for kind, stream in encoded.items():
            part = stream.getvalue()[:len(stream.getvalue()) * number // 15]
            add(f"cut {kind} {number}.{kind.lower()}", part, "cannot be read as an image")
    for name, content in (("empty.png", b""), (b"new\nline\xff \x1b[31m.png", b"text"),
                          ("text.jpg", b"polyp"), ("archive.png", b"PK\3\4" + bytes(100)),
                          ("x" * 250 + ".png", b"GIF89a")):
        add(name, content, "the file is empty" if not content else "no known image format")
    for name, mode in (("16bit.png", "I;16"), ("float.tif", "F"), ("int.tif", "I")):
        Image.new(mode, (8, 8)).save(folder / name)
        bad[name] = "expected 8 bits"
    Image.new("RGB", (8, 8)).save(folder / "moving.webp", save_all=True,
                                  append_images=[Image.new("RGB", (8, 8), (9, 9, 9))])
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    draw(folder / "twin.jpg")
    draw(folder / "twin.png")
    return {**bad, "moving.webp": "holds 2 frames", "huge.png": "more than 89 million pixels",
            "pipe.png": "is a pipe or a device", "dangling.png": "a link to nowhere.png, which is not there",
            "twin.png": "its outputs would be called as those of"}


def make_good_files(folder: Path) -> set[str]:
    """Odd files that can be predicted, by the names of their outputs."""
    draw(folder / "plain.png")
    draw(folder / "with space é.png")
    draw(folder / os.fsdecode(b"latin1 \xe9\n.png"))
    draw(folder / "pixel.png", size=(1, 1))
    draw(folder / "line.png", size=(300, 1))
    draw(folder / "x.jpeg").rename(folder / "jpeg.png")  # a wrong suffix
    green = Image.open(folder / "plain.png")
    green.convert("CMYK").save(folder / "cmyk.jpg")
    palette = green.convert("P")
    palette.save(folder / "palette.png", transparency=bytes(range(256)))
    green.convert("LA").save(folder / "grey-alpha.png")
    green.convert("1").save(folder / "bits.tif")
    (folder / "twin").mkdir(exist_ok=True)
    draw(folder / "twin" / "deep.png")
    (folder / "twin" / "loop").symlink_to("..")
    names = {"plain", "with space é", "latin1 \\udce9\\n", "pixel", "line", "jpeg", "cmyk", "palette",
             "grey-alpha", "bits", "twin", "twin/deep"}
    return {f"{name}.png" for name in names}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_every_bad_file_is_named_once_and_the_good_ones_are_done(tmp_path, capfd, workers):
    folder = tmp_path / "in"
    folder.mkdir()
    bad, good = make_bad_files(folder), make_good_files(folder)
    (folder / "notes.md").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    assert len(bad) > 50
    assert run(tmp_path, workers=workers) == 1
    printed = capfd.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("left out: ")]
    for name, reason in bad.items():
        shown = f"{folder}/{name}".encode("unicode_escape", "surrogatepass").decode()
        named = [line for line in lines if line.startswith(f"left out: {shown}: ")]
        assert len(named) == 1 and reason in named[0], (name, named)
    assert len(lines) == len(bad)
    assert {row["output"] for row in rows(tmp_path / "out")} == good
    assert all(len(list((tmp_path / "out" / kind).rglob("*.png"))) == len(good) for kind in KINDS)
    assert f"{len(good)} predicted, 0 done before, {len(bad)} left out for a defect" in printed.out
    assert "neither images nor videos: 1 .md" in printed.out
    assert "Traceback" not in printed.err and "hidden" not in printed.err


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_the_network_cannot_do_is_named_and_the_others_are_done(tmp_path, monkeypatch, capfd,
                                                                              workers):
    def try_maps(self, images, sizes, minmax=False, names=None):
        for name, values in zip(names, whole(self, images, sizes, minmax, names)):
            yield BadFile(f"{name}: is not finite") if name.endswith("b.png") else values

    whole = GreenIsPolyp.try_maps
    monkeypatch.setattr(GreenIsPolyp, "try_maps", try_maps)
    for number, name in enumerate("abc"):
        draw(tmp_path / "in" / f"{name}.png", box=(number, 0, 5, 5))
    assert run(tmp_path, workers=workers) == 1
    assert [row["output"] for row in rows(tmp_path / "out")] == ["a.png", "c.png"]
    assert [row["boxes"] for row in rows(tmp_path / "out")] == ["0 0 5 5", "2 0 5 5"]
    assert f"left out: {tmp_path}/in/b.png: is not finite" in capfd.readouterr().err


def test_an_output_folder_inside_the_input_is_not_read(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "in").symlink_to(tmp_path)
    for _ in range(2):
        assert run(tmp_path, tmp_path) == 0
    assert [row["output"] for row in rows(tmp_path / "out")] == ["a.png"]


def test_outputs_never_take_the_place_of_inputs(tmp_path, capsys):
    draw(tmp_path / "out" / "maps" / "a.png")
    before = files_of(tmp_path / "out")
    assert run(tmp_path, tmp_path / "out" / "maps", "--overwrite") == 2
    assert "out/maps, which is written" in capsys.readouterr().err
    assert files_of(tmp_path / "out") == before


def test_a_place_that_cannot_be_written_is_named_before_the_network_is_loaded(tmp_path, capsys, monkeypatch):
    draw(tmp_path / "in" / "a.png")
    (tmp_path / "file").touch()
    monkeypatch.setattr(predict, "load_segmenter", None)
    assert run(tmp_path, out="file/out") == 2
    assert f"error: {tmp_path}/file/out: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere"], "nowhere: no such file or folder"),
    (["*.gif"], "*.gif: matches no file"),
    (["empty"], "empty: no image or video is there"),
    (["in", "--threshold", "1"], "1 is not from 0 to below 1"),
    (["in", "--batch", "some"], "'some' is no whole number"),
    (["in", "--batch", "0"], "expected 1 or more"),
])
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    draw(tmp_path / "in" / "a.png")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    try:
        code = run(tmp_path, *arguments)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "out").exists()

"""The program predict with a network that takes green for polyp, on good files, bad files and full disks."""

from __future__ import annotations

import csv
import io
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet import predict
from jittor_pranet.__main__ import main
from jittor_pranet.reports.overlay import MAP_COLOUR
from lib.inference import PolypSegmenter
from utils.checkpoint import save_arrays
from utils.data.image_io import read_levels
from utils.data.polyps import MEAN, STD
from utils.errors import UserError

SIZE = 32
KINDS = ("maps", "masks", "overlays")


class GreenIsPolyp(PolypSegmenter):
    """The map is the green of the image, 0 to 1."""

    def __init__(self, size: int = SIZE):
        self.model_type, self.device, self.size, self.max_batch = "PraNet-V2", "cpu", size, 1000

    def maps(self, images: np.ndarray, sizes: list, minmax: bool = False) -> Iterator[np.ndarray]:
        greens = images[:, 1] * STD[1] + MEAN[1]
        maps = [np.asarray(Image.fromarray(green).resize(size[::-1], Image.NEAREST)).clip(0, 1)
                for green, size in zip(greens, sizes)]
        yield from [(each - each.min()) / (np.ptp(each) + 1e-8) for each in maps] if minmax else maps


@pytest.fixture(autouse=True)
def green_network(monkeypatch):
    monkeypatch.setattr(predict, "load_segmenter",
                        lambda kind, checkpoint, args: GreenIsPolyp(args.testsize))


def run(folder: Path, *arguments, out: str = "out", workers: int = 0) -> int:
    save_arrays({"green": np.ones(1, np.float32)}, folder / "weights.npz")
    arguments = arguments or (folder / "in",)
    return main(["predict", *map(str, arguments), "--out", str(folder / out), "--weights",
                 str(folder / "weights.npz"), "--model_type", "PraNet-V2", "--testsize", str(SIZE),
                 "--workers", str(workers)])


def draw(path: Path, box: tuple[int, int, int, int] = (4, 8, 16, 12), level: int = 255,
         size: tuple[int, int] = (32, 32), **options) -> Path:
    """A dark picture with a green rectangle (left, top, width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size[::-1], 3), (60, 20, 40), np.uint8)
    left, top, width, height = box
    pixels[top:top + height, left:left + width, 1] = level
    Image.fromarray(pixels).save(path, **options)
    return path


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def files_of(out: Path) -> dict[str, bytes]:
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


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


# ---- Going on

def test_a_second_run_does_what_is_left(tmp_path, capsys):
    for name in "abc":
        draw(tmp_path / "in" / f"{name}.png")
    assert run(tmp_path) == 0
    whole = files_of(tmp_path / "out")
    (tmp_path / "out" / "masks" / "b.png").unlink()
    table = tmp_path / "out" / "predictions.csv"
    table.write_bytes(table.read_bytes()[:-20])  # killed while the last row was written
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert "2 predicted, 1 done before" in capsys.readouterr().out
    assert files_of(tmp_path / "out") == whole
    assert run(tmp_path, tmp_path / "in", "--overwrite") == 0
    assert "3 predicted, 0 done before" in capsys.readouterr().out
    assert files_of(tmp_path / "out") == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_files_and_the_rest_for_later(tmp_path, monkeypatch, capsys, number, code):
    for name in "abcde":
        draw(tmp_path / "in" / f"{name}.png")
    assert run(tmp_path, out="unbroken") == 0

    def interrupting(self, row, add=predict.CsvLog.add):
        add(self, row)
        if row[0] == "b.png":
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patched:
        patched.setattr(predict.CsvLog, "add", interrupting)
        assert run(tmp_path, workers=1) == code
    assert "stopped with 3 files to go; run again" in capsys.readouterr().out
    assert [row["output"] for row in rows(tmp_path / "out")] == ["a.png", "b.png"]
    assert run(tmp_path) == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "unbroken")


def test_workers_that_a_signal_ends_too_are_no_mistake(tmp_path, monkeypatch, capsys):
    draw(tmp_path / "in" / "a.png")

    def ended(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from ()
        raise UserError("one of 2 worker processes was killed")

    monkeypatch.setattr(predict, "predict_images", ended)
    assert run(tmp_path) == 143
    assert "stopped with 1 files to go" in capsys.readouterr().out


def test_results_of_other_settings_or_programs_are_not_mixed(tmp_path, capsys):
    draw(tmp_path / "in" / "a.png")
    assert run(tmp_path) == 0
    assert run(tmp_path, tmp_path / "in", "--threshold", "0.6") == 2
    assert "holds predictions with threshold 0.5, now 0.6; choose another --out" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "in", "--threshold", "0.6", "--overwrite") == 0
    (tmp_path / "out" / "settings.json").unlink()
    assert run(tmp_path) == 2
    assert "holds maps/, masks/, overlays/ but no settings.json" in capsys.readouterr().err
    (tmp_path / "out" / "settings.json").write_text("[[1")
    assert run(tmp_path) == 2
    assert "settings.json: cannot be read" in capsys.readouterr().err


def test_a_name_that_belongs_to_another_file_is_not_taken_for_done(tmp_path, capsys):
    draw(tmp_path / "in" / "a.png")
    draw(tmp_path / "other" / "a.png")
    assert run(tmp_path) == 0
    assert run(tmp_path, tmp_path / "other") == 1
    assert f"a.png of {tmp_path}/in/a.png already" in capsys.readouterr().err


def test_files_of_any_name_are_predicted_once(tmp_path, capsys):
    names = ["new\nline.png", "=1+1.png", "-x.png", "@a.png", "'q.png", "back\\nslash.png", "tab\t.png",
             os.fsdecode(b"latin1 \xe9.png")]
    for name in names:
        draw(tmp_path / "in" / name)
    assert run(tmp_path) == 0
    before = files_of(tmp_path / "out")
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert "0 predicted, 8 done before, 0 left out" in capsys.readouterr().out
    assert files_of(tmp_path / "out") == before
    outputs = [row["output"] for row in rows(tmp_path / "out")]
    assert len(outputs) == 8 and all(name.isprintable() and name[0] not in "=+-@" for name in outputs)


@pytest.mark.parametrize("content", [b"", b"output,file", "output,file\né".encode()[:-1], b"\xff\n",
                                     b"other\n", b'"\n'])
def test_a_broken_table_is_written_over_where_that_is_asked_for(tmp_path, capsys, content):
    draw(tmp_path / "in" / "a.png")
    assert run(tmp_path) == 0
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "predictions.csv").write_bytes(content)
    assert run(tmp_path, tmp_path / "in", "--overwrite") == 0
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("content", [b"", b"output,fi", b"\xc3"])
def test_a_table_without_a_whole_line_is_begun_anew(tmp_path, content):
    draw(tmp_path / "in" / "a.png")
    assert run(tmp_path) == 0
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "predictions.csv").write_bytes(content)
    assert run(tmp_path) == 0
    assert files_of(tmp_path / "out") == before


def test_a_table_cut_inside_of_a_character_keeps_its_whole_rows(tmp_path, capsys):
    for name in "aé":
        draw(tmp_path / "in" / f"{name}.png")
    assert run(tmp_path) == 0
    before = files_of(tmp_path / "out")
    table = tmp_path / "out" / "predictions.csv"
    table.write_bytes(table.read_bytes()[:table.read_bytes().rindex("é".encode()) + 1])
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert "1 predicted, 1 done before" in capsys.readouterr().out
    assert files_of(tmp_path / "out") == before


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


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a full disk, no file can grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_whole_files_and_a_second_run_goes_on(tmp_path, capsys):
    for name in "abc":
        draw(tmp_path / "in" / f"{name}.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "in" / "b.png")  # its overlay takes more than 4 kB
    with largest_file(4000):
        assert run(tmp_path) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {tmp_path}/out/overlays/b.png: cannot be written (File too large)")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".part")]
    assert [row["output"] for row in rows(tmp_path / "out")] == ["a.png"]
    assert run(tmp_path) == 0
    assert run(tmp_path, out="unbroken") == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "unbroken")


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

"""Finding, pairing, reading and writing images, mostly the ways in which a stranger's folder can be wrong."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from tests.helpers.damage import damage
from tests.helpers.polyp_sets import error_of
from utils.data.image_io import (
    check_headers,
    check_sizes,
    find_images,
    find_pairs,
    image_size,
    name_some,
    read_grey,
    read_indices,
    read_levels,
    read_pixels,
    read_rgb,
    write_map,
)
from utils.errors import UserError


def draw(path, size=(6, 4), colour=0, mode="L"):
    """A one-coloured image file of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def test_finds_images_of_any_suffix_and_case_by_stem_in_order(tmp_path):
    for name in ("b.JPG", "a.jpeg", "c.d.PNG", "10.tif", "9.bmp"):
        draw(tmp_path / name)
    for name in (".hidden.png", "._a.png", "notes.txt", "Thumbs.db"):
        (tmp_path / name).write_text("no image")
    found = find_images(tmp_path)
    assert list(found) == ["10", "9", "a", "b", "c.d"]
    assert found["b"] == tmp_path / "b.JPG"


def test_two_files_of_one_stem_are_named(tmp_path):
    draw(tmp_path / "a.jpg")
    draw(tmp_path / "a.PNG")
    message = error_of(find_images, tmp_path)
    assert "a.jpg" in message
    assert "a.PNG" in message


def test_a_missing_folder_is_named_with_what_is_there_instead(tmp_path):
    (tmp_path / "image").mkdir()
    draw(tmp_path / "cover.png")
    assert error_of(find_images, tmp_path / "images" / "deep") == (
        f"{tmp_path}/images/deep: no such folder; {tmp_path} holds image/, 1 .png")


def test_a_file_in_place_of_a_folder(tmp_path):
    assert "this is a file" in error_of(find_images, draw(tmp_path / "images.png"))


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    for name in ("1.gif", "2.gif", "readme"):
        (tmp_path / name).touch()
    (tmp_path / "images").mkdir()
    assert "it holds images/, 2 .gif, 1 without suffix" in error_of(find_images, tmp_path)
    assert "it holds nothing" in error_of(find_images, tmp_path / "images")


def test_pairs_by_stem_not_by_order(tmp_path):
    for stem in ("1", "2", "10"):
        draw(tmp_path / "images" / f"{stem}.jpg")
    for stem in ("1", "2", "10"):
        draw(tmp_path / "masks" / f"{stem}.{'bmp' if stem == '1' else 'png'}")
    pairs = find_pairs(tmp_path / "images", tmp_path / "masks")
    assert [(pair.stem, pair.image.name, pair.mask.name) for pair in pairs] == [
        ("1", "1.jpg", "1.bmp"), ("10", "10.jpg", "10.png"), ("2", "2.jpg", "2.png")]


def test_files_without_a_partner_are_named_on_both_sides(tmp_path):
    for stem in ("both", *"abcdefg"):
        draw(tmp_path / "images" / f"{stem}.jpg")
    for stem in ("both", "x"):
        draw(tmp_path / "masks" / f"{stem}.png")
    assert error_of(find_pairs, tmp_path / "images", tmp_path / "masks") == (
        f"{tmp_path}/images: 7 of 8 files have no mask in {tmp_path}/masks: "
        "a.jpg, b.jpg, c.jpg, d.jpg, e.jpg and 2 more; "
        f"{tmp_path}/masks: 1 of 2 files have no image in {tmp_path}/images: x.png")


def test_masks_of_another_size_are_all_named(tmp_path):
    for stem, size in (("a", (6, 4)), ("b", (4, 6)), ("c", (6, 5))):
        draw(tmp_path / "images" / f"{stem}.png")
        draw(tmp_path / "masks" / f"{stem}.png", size)
    pairs = find_pairs(tmp_path / "images", tmp_path / "masks")
    message = error_of(check_sizes, pairs)
    assert message.startswith("2 of 3")
    assert f"{tmp_path}/masks/b.png: is 4x6 pixels, its image b.png 6x4" in message
    assert f"{tmp_path}/masks/c.png: is 6x5 pixels, its image c.png 6x4" in message
    check_sizes(pairs[:1])


def test_headers_name_what_is_no_image(tmp_path):
    good, text = draw(tmp_path / "good.png"), tmp_path / "text.png"
    text.write_text("I am a text file")
    check_headers([good])
    assert error_of(check_headers, [good, text]).startswith(f"{text}: cannot be read as an image")


@pytest.mark.parametrize("mode, colour, rgb", [
    ("RGB", (10, 20, 30), (10, 20, 30)),
    ("RGBA", (10, 20, 30, 0), (10, 20, 30)),  # dropped, not blended: hidden pixels keep their colour
    ("L", 77, (77, 77, 77)),
    ("LA", (77, 0), (77, 77, 77)),
    ("1", 1, (255, 255, 255)),
])
def test_every_kind_of_8_bit_image_reads_as_rgb(tmp_path, mode, colour, rgb):
    image = read_rgb(draw(tmp_path / "image.png", colour=colour, mode=mode))
    assert image.mode == "RGB"
    assert image.size == (6, 4)
    assert image.getcolors() == [(24, rgb)]


def test_a_palette_with_transparent_entries_reads_by_its_colours(tmp_path):
    image = Image.new("P", (6, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "palette.png", transparency=b"\x00\x80")
    assert read_rgb(tmp_path / "palette.png").getcolors() == [(24, (200, 100, 50))]
    assert read_grey(tmp_path / "palette.png").getcolors() == [(24, 124)]


def test_grey_is_the_luma_of_a_colour(tmp_path):
    grey = read_grey(draw(tmp_path / "mask.png", colour=(200, 100, 50), mode="RGB"))
    assert grey.getcolors() == [(24, 124)]  # 0.299*200 + 0.587*100 + 0.114*50 = 124.2


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_8_bits_are_refused_and_not_clipped(tmp_path, mode):
    path = draw(tmp_path / "deep.tif", colour=3, mode=mode)
    assert f"mode {mode}" in error_of(read_grey, path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format={"jpg": "JPEG", "png": "PNG"}[suffix])
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.getvalue()[:-len(whole.getvalue()) // 3])
    assert image_size(path) == (64, 64), "the header is whole"
    assert error_of(read_rgb, path).startswith(f"{path}: cannot be read as an image")


def test_a_dangling_link_says_where_it_points(tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to("gone.png")
    assert "a link to gone.png, which is not there" in error_of(read_rgb, find_images(tmp_path)["link"])


def test_a_folder_named_like_an_image(tmp_path):
    (tmp_path / "folder.png").mkdir()
    assert "Is a directory" in error_of(read_rgb, find_images(tmp_path)["folder"])


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = draw(tmp_path / "bomb.png", size=(30, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "as a decompression bomb would" in error_of(read_grey, path)


CORNERS = np.array([[10, 60], [110, 160], [210, 250]], np.uint8)  # a picture that every turn changes
STORED = {1: CORNERS, 2: CORNERS[:, ::-1], 3: CORNERS[::-1, ::-1], 4: CORNERS[::-1], 5: CORNERS.T,
          6: CORNERS.T[::-1], 7: CORNERS.T[::-1, ::-1], 8: CORNERS.T[:, ::-1]}
"""How the picture is stored for each EXIF orientation, from the standard's table of first row and column."""


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_image_and_mask_are_read_upright(tmp_path, suffix, orientation):
    path, exif = tmp_path / f"turned.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(STORED[orientation], np.ones((16, 16), np.uint8))  # whole blocks of JPEG
    Image.fromarray(stored).save(path, exif=exif, lossless=True)
    upright = np.kron(CORNERS, np.ones((16, 16), np.uint8))
    assert image_size(path) == (32, 48)
    for read in (read_grey, read_levels, lambda file: read_rgb(file).getchannel("G")):
        np.testing.assert_allclose(np.asarray(read(path), int), upright, atol=2)


def test_a_damaged_exif_block_says_nothing(tmp_path):
    path = tmp_path / "image.jpg"
    Image.new("L", (6, 4), 50).save(path, exif=b"Exif\0\0nonsense, no TIFF header")
    assert image_size(path) == read_rgb(path).size == (6, 4)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_several_frames_are_refused(tmp_path, suffix):
    frames = [Image.new("RGB", (6, 4), (level, 0, 0)) for level in (0, 200)]
    frames[0].save(tmp_path / f"frames.{suffix}", save_all=True, append_images=frames[1:])
    for read in (read_rgb, read_levels, image_size):
        assert "holds 2 frames or pages, expected one image" in error_of(read, tmp_path / f"frames.{suffix}")


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9460, 20_000])  # Pillow warns of the first and refuses the second
def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, side):
    (tmp_path / "huge.png").write_bytes(png_header(side, side))
    for read in (read_rgb, read_levels, image_size):
        assert "more than 89 million pixels" in error_of(read, tmp_path / "huge.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of oddities on the way to an error
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("kind", "options"), [
    ("PNG", {}), ("JPEG", {}), ("JPEG", {"exif": b"Exif\0\0" + Image.Exif().tobytes()}), ("WEBP", {}),
    ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})])
def test_damaged_images_are_read_or_named(tmp_path, kind, options):
    noise, path = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8), tmp_path / "image"
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, kind, **options)
    outcomes = set()
    for seed in range(150):
        path.write_bytes(damage(whole.getvalue(), np.random.default_rng(seed)))
        for read in (image_size, read_rgb, read_levels):
            try:
                outcomes.add((read.__name__, len(np.shape(read(path))) > 0))
            except UserError as error:
                assert str(error).startswith(f"{path}: ")
                outcomes.add((read.__name__, "named"))
    assert {(read, "named") for read in ("image_size", "read_rgb", "read_levels")} <= outcomes


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "empty.png").touch()
    assert "the file is empty" in error_of(read_rgb, tmp_path / "empty.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "is a pipe or a device" in error_of(read_rgb, tmp_path / "pipe.png")


def test_errors_show_any_name_in_one_line(tmp_path):
    path = tmp_path / os.fsdecode(b"new\nline \xff.png")
    path.touch()
    message = error_of(read_rgb, path)
    assert "new\\nline \\udcff.png" in message
    message.encode()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\n%%EOF\n"


def test_postscript_named_png_starts_no_ghostscript(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "a.png"
    path.write_bytes(POSTSCRIPT)
    for read in (read_rgb, read_grey, read_levels, read_pixels, read_indices, image_size):
        assert "no known image format" in error_of(read, path)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["GIF", "PPM", "TGA", "PCX", "ICNS", "JPEG2000"])
def test_other_formats_than_those_of_the_docs_are_refused(tmp_path, kind):
    try:
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png", kind)
    except OSError:
        pytest.skip("this Pillow does not write it")
    assert "no known image format" in error_of(read_rgb, tmp_path / "a.png")


def test_a_map_is_written_as_it_is(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_map(tmp_path / "new" / "map.png", values)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "map.png")), values)


def test_a_map_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = draw(tmp_path / "map.png", colour=9)
    with pytest.raises(TypeError):
        write_map(path, np.zeros((2, 2), np.complex64))
    assert read_grey(path).getcolors() == [(24, 9)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count, text", [(1, "0"), (2, "0, 1"), (3, "0, 1 and 1 more")])
def test_names_some(count, text):
    assert name_some([str(number) for number in range(count)], limit=2) == text

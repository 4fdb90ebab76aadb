"""What the words of a command line stand for, and what outputs are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from utils.data.inputs import find_inputs
from utils.errors import UserError


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    for name in ("data/b.png", "data/a.JPG", "data/clip.MP4", "data/sub/a.tif", "data/sub/deep/c.webp",
                 "data/notes.txt", "data/.hidden/d.png", "more/a.png", "more/odd.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*texts: str, out: str = "out") -> dict[str, str]:
    """The files found, from the working directory, and what their outputs are called."""
    found = find_inputs(list(texts), Path(out))
    assert not found.defects
    return {os.path.relpath(source.path): source.name for source in found.sources}


def test_a_folder_is_searched_in_order_and_keeps_its_structure(tree):
    found = find_inputs(["data"], tree / "out")
    assert [source.name for source in found.sources] == ["a", "b", "clip", "sub/a", "sub/deep/c"]
    assert [source.is_video for source in found.sources] == [False, False, True, False, False]
    assert found.others == [Path("data/notes.txt")]
    assert names("data", out="data/sub") == {"data/a.JPG": "a", "data/b.png": "b", "data/clip.MP4": "clip"}


def test_files_are_called_by_their_stems_whatever_their_suffix(tree):
    assert names("data/sub/a.tif", "more/odd.gif") == {"data/sub/a.tif": "a", "more/odd.gif": "odd"}


@pytest.mark.parametrize(("pattern", "expected"), [
    ("data/*.png", {"data/b.png": "b"}),
    ("data/**/*.*", {"data/b.png": "b", "data/a.JPG": "a", "data/clip.MP4": "clip", "data/sub/a.tif": "sub/a",
                     "data/sub/deep/c.webp": "sub/deep/c"}),
    ("d*/s*", {"data/sub/a.tif": "data/sub/a", "data/sub/deep/c.webp": "data/sub/deep/c"}),
    ("[m]ore/a.png", {"more/a.png": "more/a"}),
    ("data/s*/../../more/a.png", {"more/a.png": "a"}),  # a name never leads upwards
])
def test_a_glob_is_called_from_its_first_wildcard_on(tree, pattern, expected):
    assert names(pattern) == expected


def test_a_list_is_relative_to_itself(tree):
    (tree / "data" / "list.txt").write_bytes(b"# comment\n\na.JPG\nsub/deep/c.webp \r\n../more/\xff.png\n")
    found = find_inputs(["data/list.txt"], tree / "out")
    assert [str(source.path) for source in found.sources] == [
        f"{tree}/data/a.JPG", f"{tree}/data/sub/deep/c.webp", f"{tree}/more/\udcff.png"]


def test_one_name_for_two_files_is_a_defect_and_one_file_twice_is_none(tree):
    assert names("data/b.png", "data/b.png", "data") == names("data/b.png", "data")
    found = find_inputs(["data", "more/a.png"], tree / "out")
    assert found.defects == [f"more/a.png: its outputs would be called as those of {tree}/data/a.JPG; rename "
                             "one, or give the folder that holds both folders"]


def test_links_to_folders_are_followed_once(tree):
    (tree / "data" / "sub" / "up").symlink_to("..")
    (tree / "data" / "sub" / "more").symlink_to(tree / "more")
    assert names("data/sub") == {"data/sub/a.tif": "a", "data/sub/deep/c.webp": "deep/c",
                                 "data/sub/more/a.png": "more/a", "data/sub/up/a.JPG": "up/a",
                                 "data/sub/up/b.png": "up/b", "data/sub/up/clip.MP4": "up/clip"}


def test_nothing_there_is_said(tree):
    for text, message in (("gone.png", "no such file or folder"), ("*.xyz", "matches no file"),
                          ("data/.hidden/e*", "matches no file")):
        with pytest.raises(UserError, match=message):
            find_inputs([text], tree / "out")

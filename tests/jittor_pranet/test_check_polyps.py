"""The program check-data: a drawn set, copies of it with defects planted, and what training says to those."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.__main__ import main
from tests.helpers.paths import ROOT
from utils.data.checks.polyps import ERRORS, WARNINGS, source_of
from utils.data.polyps import TrainSet
from utils.data.synthetic import deterministic
from utils.errors import UserError

REAL = ROOT.parent / "shared" / "data" / "polyp"
SIDE = 24
CUID = "cju0qkwl35piu0993l0dewei{}"  # a stem as Kvasir's are


def picture(number: int, side: int = SIDE) -> np.ndarray:
    values = deterministic.images(1, side, seed=number)[0] * 40 + 120
    return values.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def blob(low: int = 0, high: int = 255, side: int = SIDE) -> np.ndarray:
    return np.where(deterministic.masks(1, side)[0, 0] > 0, high, low).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_set(root: Path, stems: list[str], seed: int) -> None:
    for number, stem in enumerate(stems):
        save(root / "images" / f"{stem}.png", picture(seed + number))
        save(root / "masks" / f"{stem}.png", blob())


@pytest.fixture
def sound(tmp_path) -> Path:
    """Training and test sets that nothing is wrong with."""
    write_set(tmp_path / "train", [*map(str, range(1, 10)), *(CUID.format(k) for k in range(3))], seed=0)
    write_set(tmp_path / "test" / "One", ["a", "b", "c"], seed=100)
    write_set(tmp_path / "test" / "Two", ["a", "b"], seed=200)
    return tmp_path


def check(place: Path, *arguments: str, code: int = 0) -> dict:
    """Runs the program; gives what its JSON says of the sets by their folder's name."""
    written = place / "found.json"
    assert main(["check-data", "--train_path", str(place / "train"), "--test_path", str(place / "test"),
                 "--json", str(written), *arguments]) == code
    found = json.loads(written.read_text())
    assert (found["stops"] > 0) == (code == 1)
    return {Path(each["path"]).name: each for each in found["sets"]}


def files_by_kind(found: dict) -> dict[str, list[str]]:
    return {kind: [finding["file"] for finding in findings]
            for kind, findings in found["findings"].items() if findings}


def test_a_sound_set_has_no_findings(sound, capsys):
    found = check(sound)
    assert {name: files_by_kind(each) for name, each in found.items()} == {"train": {}, "One": {}, "Two": {}}
    assert found["train"]["sources"] == {"CVC-ClinicDB": 9, "Kvasir": 3}
    assert found["train"]["sizes"] == {"24x24": 12}
    assert (found["One"]["images"], found["One"]["masks"]) == (3, 3)
    printed = capsys.readouterr().out
    assert "12 images, 12 masks" in printed and "CVC-ClinicDB (9), Kvasir (3)" in printed
    assert "nothing stops" in printed and "!" not in printed


# Each plants one defect.

def plant_image_without_mask(place: Path) -> None:
    (place / "train" / "masks" / "1.png").unlink()


def plant_mask_without_image(place: Path) -> None:
    (place / "train" / "images" / "2.png").unlink()


def plant_same_stem(place: Path) -> None:
    save(place / "train" / "images" / "3.bmp", picture(300))


def plant_truncated_image(place: Path) -> None:
    path = place / "train" / "images" / "4.png"
    path.write_bytes(path.read_bytes()[:-300])


def plant_text_for_a_mask(place: Path) -> None:
    (place / "test" / "One" / "masks" / "a.png").write_text("version https://git-lfs.github.com/spec/v1")


def plant_mask_of_another_size(place: Path) -> None:
    save(place / "train" / "masks" / "5.png", blob(side=SIDE + 1))


def plant_mask_of_16_bits(place: Path) -> None:
    save(place / "train" / "masks" / "6.png", blob().astype(np.uint16) * 257)


def plant_grey_mask(place: Path) -> None:
    save(place / "train" / "masks" / "7.png", blob(low=7, high=250))


def plant_labels(place: Path) -> None:
    save(place / "train" / "masks" / "8.png", blob(high=1))


def plant_empty_mask(place: Path) -> None:
    save(place / "train" / "masks" / "9.png", np.zeros((SIDE, SIDE), np.uint8))


def plant_full_mask(place: Path) -> None:
    save(place / "train" / "masks" / f"{CUID.format(0)}.png", np.full((SIDE, SIDE), 255, np.uint8))


def plant_coloured_mask(place: Path) -> None:
    red = np.stack([blob(), blob(high=0), blob(high=0)], axis=2)
    save(place / "train" / "masks" / f"{CUID.format(1)}.png", red)


def plant_image_twice(place: Path) -> None:
    save(place / "train" / "images" / f"{CUID.format(2)}.png", picture(6))  # that of 7.png


def plant_image_of_the_training_set(place: Path) -> None:
    save(place / "test" / "One" / "images" / "b.bmp", picture(7))  # that of 8.png, in another format
    (place / "test" / "One" / "images" / "b.png").unlink()


def plant_image_of_another_test_set(place: Path) -> None:
    shutil.copy(place / "test" / "One" / "images" / "c.png", place / "test" / "Two" / "images" / "b.png")


def plant_no_image_file(place: Path) -> None:
    (place / "train" / "images" / "Thumbs.db").touch()


PLANTED: list[tuple[Callable[[Path], None], str, str, str]] = [
    (plant_image_without_mask, "train", "image without mask", "images/1.png"),
    (plant_mask_without_image, "train", "mask without image", "masks/2.png"),
    (plant_same_stem, "train", "same stem", "images/3.png"),
    (plant_truncated_image, "train", "unreadable", "images/4.png"),
    (plant_text_for_a_mask, "One", "unreadable", "masks/a.png"),
    (plant_mask_of_another_size, "train", "mask of another size", "masks/5.png"),
    (plant_mask_of_16_bits, "train", "unreadable", "masks/6.png"),
    (plant_grey_mask, "train", "grey mask", "masks/7.png"),
    (plant_labels, "train", "faint mask", "masks/8.png"),
    (plant_empty_mask, "train", "empty mask", "masks/9.png"),
    (plant_full_mask, "train", "full mask", f"masks/{CUID.format(0)}.png"),
    (plant_coloured_mask, "train", "coloured mask", f"masks/{CUID.format(1)}.png"),
    (plant_image_twice, "train", "image twice", f"images/{CUID.format(2)}.png"),
    (plant_image_of_the_training_set, "One", "image of another set", "images/b.bmp"),
    (plant_image_of_another_test_set, "Two", "image of another set", "images/b.png"),
    (plant_no_image_file, "train", "no image file", "images/Thumbs.db"),
]
ALSO = {  # findings that one planted file makes besides its own
    plant_labels: {("train", "grey mask", "masks/8.png")},
    plant_coloured_mask: {("train", "grey mask", f"masks/{CUID.format(1)}.png"),
                          ("train", "faint mask", f"masks/{CUID.format(1)}.png")},
}


def triples(found: dict[str, dict]) -> set[tuple[str, str, str]]:
    return {(name, kind, file) for name, each in found.items()
            for kind, files in files_by_kind(each).items() for file in files}


def name_of(value) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("plant", "name", "kind", "file"), PLANTED, ids=name_of)
def test_one_defect_is_found_and_no_other(sound, plant, name, kind, file):
    plant(sound)
    found = check(sound, code=int(kind in ERRORS))
    assert triples(found) == {(name, kind, file), *ALSO.get(plant, ())}


def test_all_defects_are_found_at_once_and_the_first_named_on_a_line_each(sound, capsys):
    for plant, *_ in PLANTED:
        plant(sound)
    found = triples(check(sound, code=1))
    assert found == {tuple(planted) for _, *planted in PLANTED} | set().union(*ALSO.values())
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:2] in ("! ", "  ")]
    for name, kind, file in found:
        mark = "!" if kind in ERRORS else " "
        assert any(line.startswith(f"{mark} {kind} ") and file in line for line in lines), (name, kind, file)
    kinds = {(name, kind) for name, kind, _ in found}
    assert len([line for line in lines if not line.startswith(("  sources ", "  sizes "))]) == len(kinds)


@pytest.mark.parametrize(("plant", "kind"), [planted[::2] for planted in PLANTED if planted[1] == "train"],
                         ids=name_of)
def test_training_refuses_what_is_said_to_stop_it_and_takes_the_rest(sound, plant, kind):
    plant(sound)
    if kind in WARNINGS:
        assert len(TrainSet(sound / "train", 32)) == 12
        return
    with pytest.raises(UserError):
        TrainSet(sound / "train", 32)


def test_a_set_of_labels_stops_training(sound):
    for path in (sound / "train" / "masks").iterdir():
        save(path, blob(high=1))
    found = check(sound, code=1)["train"]["findings"]
    assert [finding["detail"] for finding in found["no polyp in any mask"]] == [
        "none is brighter than 1 of 255"]
    assert len(found["faint mask"]) == 12


def test_test_sets_may_be_without_masks_or_polyps(sound):
    shutil.rmtree(sound / "test" / "One" / "masks")
    for path in (sound / "test" / "Two" / "masks").iterdir():
        save(path, blob(high=0))
    found = check(sound)
    assert (found["One"]["images"], found["One"]["masks"]) == (3, 0)
    assert list(files_by_kind(found["Two"])) == ["empty mask"]


def test_many_files_of_a_kind_are_counted_and_the_first_named(sound, capsys):
    for number in range(1, 10):
        save(sound / "train" / "masks" / f"{number}.png", blob(high=200))
    check(sound)
    line, = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  grey mask"))
    assert " 9: masks/1.png (1 levels in " in line and "masks/3.png" in line and "and 6 more" in line


@pytest.mark.parametrize(("stem", "source"), [
    ("cju0qkwl35piu0993l0dewei2", "Kvasir"), ("cjyzkmjy8evns070165gf9dmq", "Kvasir"), ("612", "CVC-ClinicDB"),
    ("synthetic_train_0003", "synthetic_train"), ("frame-12b", "frame"), ("3a", "other"), ("polyp", "polyp")])
def test_sources_by_name(stem, source):
    assert source_of(stem) == source


@pytest.mark.parametrize("arguments", [
    ["--train_path", "nowhere"], ["--train_path", "train/images"], ["--train_path", "test"],
    ["--train_path", "train", "--test_path", "train"],
    ["--train_path", "train", "--json", "train/images/1.png/found.json"]])
def test_wrong_paths_exit_2_in_one_line(sound, capsys, monkeypatch, arguments):
    monkeypatch.chdir(sound)
    assert main(["check-data", *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1


def test_a_training_set_without_images_is_a_wrong_path(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "images" / "a.gif").touch()
    assert main(["check-data", "--train_path", str(tmp_path)]) == 2
    assert "holds no image; it holds 1 .gif" in capsys.readouterr().err


def test_needs_no_jittor(sound):
    code = ("import sys; from jittor_pranet.__main__ import main; main(sys.argv[1:]); "
            "print('jittor' in sys.modules, 'torch' in sys.modules)")
    arguments = ["check-data", "--train_path", str(sound / "train")]
    output = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, check=True,
                            capture_output=True).stdout
    assert output.splitlines()[-1] == "False False"


@pytest.mark.skipif(not REAL.is_dir(), reason="the benchmark's images are not here")
def test_the_benchmarks_sets(tmp_path):
    (tmp_path / "train").symlink_to(REAL / "TrainDataset")
    (tmp_path / "test").symlink_to(REAL / "TestDataset")
    found = check(tmp_path)
    assert found["train"]["sources"] == {"Kvasir": 900, "CVC-ClinicDB": 550}
    assert {name: files_by_kind(each).get("image of another set") for name, each in found.items()} == {
        "train": None, "CVC-300": None, "CVC-ClinicDB": None, "Kvasir": None}
    assert len(found["Kvasir"]["findings"]["grey mask"]) == 100

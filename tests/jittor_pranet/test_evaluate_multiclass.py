"""The program `evaluate` on label maps of several classes: its figures and files, and wrong maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.__main__ import main
from jittor_pranet.reference_metrics import multiclass
from tests.helpers.compare import assert_close
from tests.helpers.evaluations import rows, summary
from tests.helpers.html_page import Page
from tests.helpers.label_maps import (
    SCAN_OPTIONS,
    SCANS,
    SETS,
    SPACING,
    evaluate,
    per_scan,
    predicted_labels,
    write_folders,
    write_maps,
)
from tests.helpers.paths import visible_files
from tests.helpers.saved_scans import save_npz
from utils.data.scans import find_scans, read_scan


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path)


# ---------------------------------------------------------------- figures


def test_figures_equal_the_reference(folders):
    assert evaluate(folders) == 0
    found = per_scan(folders)
    assert len(found) == len(SETS) * SCANS * 3
    for place, dataset in enumerate(SETS):
        for scan in find_scans(folders / "gt" / dataset):
            truth = read_scan(scan, SCAN_OPTIONS).labels
            maps = predicted_labels(int(scan.name[-1]), place)
            row = found[dataset, scan.name, "1"]
            expected = multiclass.measure(maps == 1, truth == 1)
            in_mm = multiclass.measure(maps == 1, truth == 1, SPACING)
            reached = [row[name] for name in ("Dice", "IoU", "HD95", "ASSD", "HD95_mm", "ASSD_mm")]
            assert_close(reached, expected + in_mm[2:], "label metrics", scan.name)
            assert row["state"] == "both"


def test_absent_classes_by_both_rules(folders, capsys):
    states = ["both", "missed", "false"]
    for rule, figures in (("sound", [(0.0, None), (0.0, None)]), ("published", [(0.0, 0.0), (1.0, 0.0)])):
        assert evaluate(folders, "--absent", rule, "--datasets", "first") == 0
        found = [per_scan(folders)["first", f"volume{number}", "2"] for number in range(SCANS)]
        assert [row["state"] for row in found] == states
        assert [(row["Dice"], row["HD95_mm"]) for row in found[1:]] == figures
        entry = summary(folders)["datasets"]["first"]
        assert summary(folders)["absent"] == rule
        dice = entry["classes"]["2"]["Dice"]
        assert dice == (found[0]["Dice"] + figures[0][0] + figures[1][0]) / 3
        assert [entry["classes"]["2"][state] for state in states] == [1, 1, 1]
        of_all = [each["Dice"] for each in entry["classes"].values()]
        if rule == "sound":
            assert of_all[2] is None
            assert_close(entry["mean"]["Dice"], np.mean(of_all[:2]), "label metrics")
        else:
            assert of_all[2] == 0.0
            assert_close(entry["mean"]["Dice"], np.mean(of_all), "label metrics")
        error = capsys.readouterr().err
        assert "first, maps: of 3 classes in 3 scans, 1 missed, 1 false, 3 absent: " in error
        assert ("Dice is defined in no scan for 3;" in error) == (rule == "sound")


def test_confusion_and_its_rows(folders):
    assert evaluate(folders, "--datasets", "first") == 0
    counts = np.array(summary(folders)["datasets"]["first"]["confusion"])
    assert counts.sum() == SCANS * 4 * 24 * 30
    assert counts.sum(axis=1)[1:].tolist() == [SCANS * 3 * 10 * 11, 2 * 3 * 12 * 10, 0]
    assert counts[2, 2] == 2 * 12 * 10  # found in volume 0 alone, two slices of three


def test_files_do_not_depend_on_the_number_of_workers(folders):
    written = []
    for workers in ("1", "2"):
        assert evaluate(folders, "--workers", workers) == 0
        written.append(visible_files(folders / "out"))
    assert set(written[0]) == {"summary.json", "summary.csv", "per_scan.json", "per_scan.csv", "report.html"}
    assert written[0] == written[1]


def test_files_agree_with_each_other(folders):
    assert evaluate(folders, "--class_names", "liver", "left kidney", "spleen") == 0
    entries, of_scans = summary(folders)["datasets"], per_scan(folders)
    assert list(entries) == list(SETS)
    for row in rows(folders / "out" / "summary.csv"):
        entry = entries[row["dataset"]]
        expected = entry["mean"] if row["class"] == "mean" else entry["classes"][row["class"]]
        for name, figure in expected.items():
            assert row[name] == ("" if figure is None else str(figure))
    for row in rows(folders / "out" / "per_scan.csv"):
        expected = of_scans[row["dataset"], row["scan"], row["class"]]
        assert row == {name: "" if value is None else str(value) for name, value in expected.items()}
    dice = [of_scans["first", f"volume{number}", "liver"]["Dice"] for number in range(SCANS)]
    assert_close(entries["first"]["classes"]["liver"]["Dice"], np.mean(dice), "label metrics")


def test_the_table_shows_means_and_classes(folders, capsys):
    assert evaluate(folders, "--datasets", "first", "--class_names", "liver", "kidney", "spleen") == 0
    lines = {tuple(line.split()[:2]): line.split()[2:] for line in capsys.readouterr().out.splitlines()}
    entry = summary(folders)["datasets"]["first"]
    mean = entry["mean"]
    cells = [f"{100 * mean['Dice']:.2f}", f"{100 * mean['IoU']:.2f}", f"{mean['HD95']:.2f}",
             f"{mean['ASSD']:.2f}", f"{mean['HD95_mm']:.2f}", f"{mean['ASSD_mm']:.2f}"]
    assert lines["first", "maps"] == ["3", *cells]
    assert lines["mean", "maps"] == [*cells, "4", "1", "1", "3"]
    assert lines["kidney", "maps"][-4:] == ["1", "1", "1", "0"]
    assert lines["spleen", "maps"] == [*"------", "0", "0", "0", "3"]


def test_several_methods_and_the_paper(folders, capsys):
    for root in ("gt", "maps"):
        (folders / root / "first").rename(folders / root / "Synapse")
    for number in range(SCANS):  # a perfect method
        with np.load(folders / "gt" / "Synapse" / f"volume{number}.npz") as volume:
            save_npz(folders / "perfect" / "Synapse" / f"volume{number}.npz", label=volume["label"])
    more = ["--pred_root", str(folders / "perfect"), "--datasets", "Synapse", "--compare"]
    assert evaluate(folders, *more) == 0
    found = summary(folders)["methods"]
    assert list(found) == ["maps", "perfect"]
    mean = found["perfect"]["datasets"]["Synapse"]["mean"]
    assert (mean["Dice"], mean["HD95"], mean["ASSD_mm"]) == (1, 0, 0)
    tables = capsys.readouterr().out.split("\n\n")
    line = next(line for line in tables[-2].splitlines() if line.startswith("Synapse  EMCAD-B2-DSRA"))
    assert line.split()[2:] == ["83.75", "+16.25", "74.81", "+25.19", "17.77", "-17.77"]


# ---------------------------------------------------------------- other files


def test_a_set_given_by_itself(folders):
    assert main(["evaluate", "--task", "multiclass", "--num_class", "4", "--pred_root", str(folders / "maps"),
                 "--gt_root", str(folders / "gt" / "first"), "--result_path", str(folders / "out")]) == 0
    assert list(summary(folders)["datasets"]) == ["first"]


def test_pictures(folders):
    rng = np.random.default_rng(0)
    gt, maps = folders / "pictures" / "set", folders / "found" / "set"
    for number in range(2):
        truth = np.zeros((20, 26), np.uint8)
        truth[4:12, 5:15], truth[10:18, 10:24] = 1, 2
        for name, pixels in (("images", rng.integers(0, 255, (20, 26, 3), np.uint8)), ("labels", truth)):
            (gt / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(gt / name / f"{number}.png")
    write_maps(gt, maps, {str(number): np.roll(truth, number, axis=1)[None] for number in range(2)})
    assert main(["evaluate", "--task", "multiclass", "--num_class", "3", "--pred_root", str(maps.parent),
                 "--gt_root", str(gt.parent), "--result_path", str(folders / "out")]) == 0
    row = per_scan(folders)["set", "1", "2"]
    expected = multiclass.measure(np.roll(truth, 1, axis=1) == 2, truth == 2)
    assert_close([row[name] for name in ("Dice", "IoU", "HD95", "ASSD")], expected, "label metrics")
    assert row["HD95_mm"] is None
    opened = Page(folders / "out" / "report.html")
    assert "HD95 mm" not in opened.rows[0] and len(opened.images) == 2 * 3


def test_maps_as_nifti_give_the_same_figures(folders):
    pytest.importorskip("nibabel")
    assert evaluate(folders, "--datasets", "first") == 0
    expected = summary(folders)["datasets"]
    for path in (folders / "maps" / "first").iterdir():
        path.unlink()
    # The volumes are no NIfTI, so that the axis is that of NIfTI's own: the last.
    write_maps(folders / "gt" / "first", folders / "maps" / "first",
               {f"volume{number}": predicted_labels(number, 0) for number in range(SCANS)}, nifti=True)
    assert evaluate(folders, "--datasets", "first") == 0
    assert summary(folders)["datasets"] == expected


def test_images_that_are_not_scaled_are_measured_and_shown_on_black(folders):
    assert evaluate(folders, "--datasets", "first") == 0
    expected = summary(folders)["datasets"]
    for path in (folders / "gt" / "first").iterdir():
        with np.load(path) as volume:
            arrays = dict(volume)
        save_npz(path, **{**arrays, "image": arrays["image"] * 2000 - 1000})
    assert evaluate(folders, "--datasets", "first") == 0
    assert summary(folders)["datasets"] == expected
    captions = Page(folders / "out" / "report.html").captions
    assert all("on black: " in caption and "expected 0 to 1" in caption for caption in captions)


def test_a_list_of_scans(folders, capsys):
    (folders / "list.txt").write_text("volume0\nvolume2\n")
    more = ["--datasets", "first", "--test_list", str(folders / "list.txt")]
    assert evaluate(folders, *more) == 2
    assert "no label map for 1 of 3 maps: volume1.npz" in capsys.readouterr().err
    (folders / "maps" / "first" / "volume1.npz").unlink()
    assert evaluate(folders, *more) == 0
    assert summary(folders)["datasets"]["first"]["scans"] == 2


# ---------------------------------------------------------------- maps with a defect


def change(path: Path, **arrays) -> None:
    path.unlink()
    save_npz(path, **arrays)


DEFECTS = {
    "missing": (lambda path: path.unlink(), "maps/first: no map for 1 of 3 label maps: volume1.npz"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:200]), "volume1.npz: cannot be read as .npz"),
    "text": (lambda path: path.write_text("none"), "volume1.npz: cannot be read as .npz"),
    "no label": (lambda path: change(path, other=np.zeros(3)), "volume1.npz: holds no label"),
    "smaller": (lambda path: change(path, label=np.zeros((4, 24, 29), np.uint8)),
                "volume1.npz: has the shape (4, 24, 29), its scan (4, 24, 30)"),
    "classes": (lambda path: change(path, label=np.full((4, 24, 30), 4, np.uint8)),
                "volume1.npz: holds the label 4, expected 0..3"),
    "probabilities": (lambda path: change(path, label=np.full((4, 24, 30), 0.5)), "volume1.npz: "),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_named_and_can_be_left_out(folders, capsys, defect):
    spoil, complaint = DEFECTS[defect]
    spoil(folders / "maps" / "first" / "volume1.npz")
    assert evaluate(folders) == 2
    error = capsys.readouterr().err
    assert complaint in error and "--allow_missing" in error
    assert error.count("error:") == 1 and "Traceback" not in error
    assert not (folders / "out").exists()

    assert evaluate(folders, "--allow_missing") == 0
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "2 of 3" in next(line for line in printed.out.splitlines() if line.startswith("first"))
    entry = summary(folders)["datasets"]["first"]
    assert (entry["scans"], entry["label_maps"]) == (2, 3)
    assert ("first", "volume1", "1") not in per_scan(folders)


def test_scans_without_labels(folders, capsys):
    with np.load(folders / "gt" / "first" / "volume0.npz") as volume:
        change(folders / "gt" / "first" / "volume0.npz", image=volume["image"])
    assert evaluate(folders) == 2
    assert "gt/first/volume0.npz: has no label map" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "complaint"), [
    (["--class_names", "liver"], "--class_names: 1 names given, expected 3"),
    (["--class_names", "a", "b", "a"], "--class_names a b a: two classes have the same name"),
    (["--datasets", "third"], "has no set third"),
    (["--task", "binary"], "--num_class: is not for --task binary; leave it out, or give --task multiclass"),
    (["--gt_root", "{}/maps/first/none"], "no such folder"),
    (["--pred_root", "{}/none"], "none/first: no such folder"),
    (["--pred_root", "{}"], "first: no such folder"),
])
def test_wrong_arguments(folders, capsys, more, complaint):
    assert evaluate(folders, *(word.format(folders) for word in more)) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert not (folders / "out").exists()


def test_the_number_of_classes_has_to_be_given(folders, capsys):
    assert main(["evaluate", "--task", "multiclass", "--pred_root", str(folders / "maps"),
                 "--gt_root", str(folders / "gt")]) == 2
    assert "--num_class" in capsys.readouterr().err


def test_folders_of_maps(folders, capsys):
    maps = folders / "maps" / "first"
    (maps / "volume0.nii.gz").write_bytes(b"")
    assert evaluate(folders) == 2
    assert "is of the same scan as" in capsys.readouterr().err
    for path in maps.iterdir():
        path.unlink()
    assert evaluate(folders) == 2
    assert "maps/first: holds no label map (looked for" in capsys.readouterr().err

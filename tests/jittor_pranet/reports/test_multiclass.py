"""The report of label maps: its tables, confusion matrix, scans, colours and charts."""

from __future__ import annotations

import re

import numpy as np
import pytest

from jittor_pranet.reports import page
from jittor_pranet.reports.overlay import OPACITY
from jittor_pranet.reports.scales import ticks
from tests.helpers.evaluations import summary
from tests.helpers.html_page import Page, decoded
from tests.helpers.label_maps import SCANS, evaluate, per_scan, predicted_labels, write_folders
from tests.helpers.saved_scans import save_npz
from utils.data.scans import PALETTE


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path)


def test_the_report_shows_the_tables_and_needs_nothing_but_itself(folders, capsys):
    assert evaluate(folders, "--compare") == 0
    opened = Page(folders / "out" / "report.html")
    printed = {tuple(line.split()) for line in capsys.readouterr().out.splitlines()}
    tables = [row for row in opened.rows if tuple(" ".join(row).split()) in printed]
    assert len(tables) == (1 + 2) + 2 * (1 + 4) + (1 + 8)
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in opened.addresses)
    text = (folders / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)


def test_the_confusion_matrix_in_the_report(folders):
    assert evaluate(folders, "--datasets", "first") == 0
    counts = np.array(summary(folders)["datasets"]["first"]["confusion"])
    text = (folders / "out" / "report.html").read_text(encoding="utf-8")
    matrix = re.search("<table class=matrix.*?</table>", text, re.S)[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", matrix)
    expected = [f"{100 * count / row.sum():.1f}<small>{count:,}</small>" if count else "0"
                for row in counts for count in row]
    assert [cell for cell in cells if "&lt;" not in cell] == [
        cell for cell in expected if not cell.startswith("0.0<")]
    assert len(cells) == 16
    coloured = re.findall(r"<td style='background:rgb\((.*?) /", matrix)
    assert coloured == ["0 114 178" if true == found else "213 94 0" for true, found in np.argwhere(counts)]


def test_scans_without_any_class(folders):
    for path in (folders / "gt" / "first").iterdir():
        with np.load(path) as volume:
            arrays = dict(volume)
        save_npz(path, **{**arrays, "label": np.zeros_like(arrays["label"])})
        save_npz(folders / "maps" / "first" / path.name, label=np.zeros_like(arrays["label"]))
    assert evaluate(folders, "--datasets", "first") == 0
    assert set(summary(folders)["datasets"]["first"]["mean"].values()) == {None}
    opened = Page(folders / "out" / "report.html")
    assert opened.captions[0] == "volume0 - (1 -, 2 -, 3 -)"
    assert len(opened.images) == SCANS * 3  # the middle slices, none of them wrong


def test_scans_come_worst_first_with_their_worst_slice(folders):
    assert evaluate(folders, "--datasets", "first", "--thumbnails", "2") == 0
    opened, found = Page(folders / "out" / "report.html"), per_scan(folders)
    means = {f"volume{number}": np.mean([found["first", f"volume{number}", name]["Dice"] for name in "12"])
             for number in range(SCANS)}
    order = sorted(means, key=means.get)[:2]
    assert [caption.split(" (")[0] for caption in opened.captions] == [
        f"{name} {100 * means[name]:.2f}" for name in order]
    text = (folders / "out" / "report.html").read_text(encoding="utf-8")
    assert "1 more scans" in text
    with np.load(folders / "gt" / "first" / f"{order[0]}.npz") as volume:
        truth = volume["label"]
    wrong = (predicted_labels(int(order[0][-1]), 0) != truth).sum(axis=(1, 2))
    worst = wrong.argmax()
    assert worst != 2
    assert f"slice 3 of 4, middle slice: {wrong[2]} wrong voxels" in text
    assert f"slice {worst + 1} of 4, most wrong: {wrong[worst]} wrong voxels" in text


def test_classes_have_their_colours(folders):
    for path in (folders / "gt" / "first").iterdir():
        with np.load(path) as volume:
            arrays = dict(volume)
        save_npz(path, **{**arrays, "image": np.full_like(arrays["image"], 0.5)})
    assert evaluate(folders, "--datasets", "first") == 0
    opened = Page(folders / "out" / "report.html")
    names = [image["alt"].split(", ")[-1] for image in opened.images]
    assert names[:3] == ["image", "predicted", "true"]
    place = next(place for place, image in enumerate(opened.images)
                 if image["alt"] == "volume0, slice 3, true")
    shown = decoded(opened.images[place]).astype(int)
    assert shown.shape == (24, 30, 3)
    for (row, column), label in (((1, 1), 0), ((9, 8), 1), ((14, 23), 2)):
        colour = 127.5 if label == 0 else (1 - OPACITY) * 127.5 + OPACITY * PALETTE[label]
        assert np.abs(shown[row, column] - colour).max() < 25


def test_charts_have_a_dot_for_every_figure(folders):
    assert evaluate(folders, "--datasets", "first") == 0
    found = per_scan(folders).values()
    strips = re.findall("<svg.*?</svg>", (folders / "out" / "report.html").read_text(encoding="utf-8"))
    for name, chart in zip(("Dice", "HD95"), strips):
        figures = sorted(row[name] for row in found if row[name] is not None)
        dots = np.array(sorted(map(float, re.findall("<circle cx='(.*?)'", chart))))
        texts = re.findall(r"<text x='([\d.]+)' y='\d+' text-anchor='middle'>(.*?)<", chart)
        places, marks = np.array(texts, float).T
        assert marks.tolist() == (page.QUARTERS if name == "Dice" else ticks(0, figures[-1], 5))
        np.testing.assert_allclose(dots, np.interp(figures, marks, places), atol=0.11)
    lines = re.findall("polyline points='(.*?)'", strips[2])
    assert len(lines) == 2  # the third class has no figures
    points = np.array([point.split(",") for point in lines[0].split()], float)
    dice = sorted(row["Dice"] for row in found if row["class"] == "1")
    x, y = [page.x_at(value) for value in dice], [page.y_at(share) for share in (1, 2 / 3, 1 / 3, 0)]
    expected = [(page.x_at(0), y[0]), (x[0], y[0]), (x[0], y[1]), (x[1], y[1]), (x[1], y[2]), (x[2], y[2]),
                (x[2], y[3])]
    np.testing.assert_allclose(points, expected, atol=0.051)

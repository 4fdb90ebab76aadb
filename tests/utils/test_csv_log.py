"""CSV files: what a spreadsheet could run is marked, and all is read back as it was written."""

from __future__ import annotations

import os

import numpy as np
import pytest

from utils.csv_log import CsvLog, cell_of, read_rows, text_of
from utils.errors import UserError

FORMULAS = ["=HYPERLINK(\"http://x\";A1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "＝1+1", "＋1+1",
            "－1+1", "＠SUM(A1)", "-", "=", "-5.png", "--5"]
TEXTS = [*FORMULAS, "'", "''", "'=1", "'a", "''=1", "\t=1", "\r=1", "\n=1", "a\nb.png", "a\\nb.png",
         "a\\\\nb", "\\", "\\x41", "\\u0041", "a\\", "é ü 内視鏡 😀", "\u200b=1", "\0", "\x7f", "\U000e0001",
         "\U0010ffff", "a,b;c\"d\"", os.fsdecode(b"latin1 \xe9\xff"), "", " ", "frame 1.png",
         "C:\\new\\table.png"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_back_from_its_cell(text):
    cell = cell_of(text)
    assert text_of(cell) == text
    assert cell.isprintable() and not cell.startswith(tuple("=+-@＝＋－＠\t\r"))


def test_cells_of_different_texts_differ():
    assert len({cell_of(text) for text in TEXTS}) == len(TEXTS)


def test_any_text_is_read_back():
    rng = np.random.default_rng(0)
    letters = [*"=+-@'\\\n\r\tnxuU0041e.,\"", "é", "\u200b", "\udce9", "\U000e0001"]
    for _ in range(3000):
        text = "".join(rng.choice(letters, rng.integers(0, 12)))
        assert text_of(cell_of(text)) == text


@pytest.mark.parametrize("number", [-1, -0.5, -1e-07, -1.5e+300, 3, 0.25, np.float64(-0.125), np.int64(-7),
                                    -float("inf"), "-1", "-0.25", "+3", "-1e-07", "-.5"])
def test_numbers_stay_numbers(number):
    assert float(cell_of(number)) == float(number) and cell_of(number) == str(number)


@pytest.mark.parametrize("cell", ["\\U99999999", "\\xzz", "\\q", "\\N{BULLET}", "\\", "\\101", "'"])
def test_what_is_no_escape_stays(cell):
    assert text_of(cell) == cell


def test_rows_are_read_back(tmp_path):
    log = CsvLog(tmp_path / "a.csv", ["file", "value"], [[TEXTS[0], None]])
    for text in TEXTS[1:]:
        log.add([text, -0.5])
    expected = [[TEXTS[0], ""], *([text, "-0.5"] for text in TEXTS[1:])]
    assert read_rows(tmp_path / "a.csv", ["file", "value"]) == expected
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + len(TEXTS), "a line for each row"


@pytest.mark.parametrize("end", range(1, 40))
def test_a_file_cut_anywhere_keeps_its_whole_rows(tmp_path, end):
    log = CsvLog(tmp_path / "a.csv", ["file"], [])
    for text in ("内視鏡.png", "é.png"):
        log.add([text])
    content = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(content[:-end])
    lines = content[:-end].count(b"\n")
    assert read_rows(tmp_path / "a.csv", ["file"]) == [["内視鏡.png"], ["é.png"]][:max(lines - 1, 0)]


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "a.csv").touch()
    assert read_rows(tmp_path / "a.csv", ["file"]) == []


def test_a_file_of_other_columns_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("other\n1\n")
    with pytest.raises(UserError, match=r"a\.csv: has the columns other, expected file"):
        read_rows(tmp_path / "a.csv", ["file"])

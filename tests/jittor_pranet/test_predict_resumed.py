"""The program predict goes on where it was stopped, by a signal, a kill or a full disk."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from jittor_pranet import predict
from tests.helpers.green_network import draw, green_network, rows, run
from tests.helpers.paths import files_of
from utils.errors import UserError

__all__ = ["green_network"]  # a fixture that every test uses


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

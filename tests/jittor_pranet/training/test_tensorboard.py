"""The logs for TensorBoard, with a stand-in for its writer, which need not be installed."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from jittor_pranet.training.tensorboard import TensorBoardLog


class StandIn:
    def __init__(self, folder: str):
        self.folder, self.points = folder, []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.points.append((name, value, step))

    def flush(self) -> None:
        self.points.append("flushed")


def test_each_figure_becomes_a_point(tmp_path, monkeypatch):
    summary = ModuleType("tensorboard.summary")
    summary.Writer = StandIn
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "tensorboard.summary", summary)
    board = TensorBoardLog(tmp_path)
    board.add("log", 7, {"loss": 0.5, "val_mDice": None})
    assert board.writer.folder == str(tmp_path)
    assert board.writer.points == [("log/loss", 0.5, 7), "flushed"]


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    board = TensorBoardLog(tmp_path)
    board.add("log", 7, {"loss": 0.5})
    assert "pip install tensorboard" in capsys.readouterr().out


def test_the_real_writer_takes_what_the_stand_in_takes(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    TensorBoardLog(tmp_path).add("log", 7, {"loss": 0.5})
    assert list(tmp_path.glob("events*"))

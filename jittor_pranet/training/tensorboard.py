"""The logs for TensorBoard, where it is installed."""

from __future__ import annotations

from pathlib import Path


class TensorBoardLog:
    """Scalars in ``folder``, for `tensorboard --logdir`. Without the package it says so and does nothing.

    Steps that a resumed run makes again are written again, with the same values.
    """

    def __init__(self, folder: Path):
        try:
            from tensorboard.summary import Writer
        except ImportError:
            print("--tensorboard: the writer is not installed; python -m pip install tensorboard")
            self.writer = None
        else:
            self.writer = Writer(str(folder))

    def add(self, group: str, step: int, scalars: dict) -> None:
        """Shows each value but None as group/name."""
        if self.writer is None:
            return
        for name, value in scalars.items():
            if value is not None:
                self.writer.add_scalar(f"{group}/{name}", value, step)
        self.writer.flush()

"""What `test` has to know of a task; binary.py and multiclass.py beside this file are the two."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jittor_pranet.cli.arguments import NetworkOptions


@dataclass(frozen=True)
class MapOptions:
    """The network to test, what it is tested on, and where its maps go."""

    network: NetworkOptions
    test_path: str
    datasets: list[str] | None  # all that are there if None
    save_path: Path
    overlays: Path | None  # folder of pictures of maps over images, if they are wanted
    batch_size: int
    workers: int


class Task(Protocol):
    """Finds the test sets when it is made.

    Attributes:
        sets: the images or scans of each test set.
        unit: what these are called.
    """

    sets: dict[str, Sized]
    unit: str

    def load(self) -> None:
        """Loads the network; prints what is to be done."""

    def write_maps(self) -> Iterator[str]:
        """Yields the set of each image or scan as soon as its map is written."""

    def has_ground_truth(self, name: str) -> bool:
        """Whether the set of this name can be evaluated."""

    def evaluate_flags(self) -> list[str]:
        """Flags that the program evaluate needs beside the folders."""

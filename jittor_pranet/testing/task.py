"""What `test` has to know of a task; binary.py and multiclass.py beside this file are the two."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class MapOptions:
    """How maps are made, and where they go."""

    save_path: Path
    overlays: Path | None  # folder of pictures of maps over images, if they are wanted
    batch_size: int
    workers: int


class Task(Protocol):
    """Test sets and a network for them; as text, what there is to test on.

    Attributes:
        sets: the images or scans of each test set.
        unit: what these are called.
    """

    sets: dict[str, Sized]
    unit: str

    def write_maps(self) -> Iterator[str]:
        """Yields the set of each image or scan as soon as its map is written."""

    def has_ground_truth(self, name: str) -> bool:
        """Whether the set of this name can be evaluated."""

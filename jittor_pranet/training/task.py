"""What `train` has to know of a task; binary.py and multiclass.py beside this file are the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from utils.signals import Interruption


@dataclass(frozen=True)
class Validation:
    """Scores of a network at the end of an epoch: mean Dice, others by name; samples to draw."""

    dice: float
    samples: list
    scores: dict[str, float | None] = field(default_factory=dict)


class Task(Protocol):
    """Made of a configuration and whether to keep the files in memory; as text, what there is to train on.

    Attributes:
        fingerprint: tells training sets apart.
        channels: of the images, 1 for grey ones and 3 for colour.
        sizes: sides of the squares that every batch is resized to; each makes a step.
        batches_per_epoch: how many `batches` yields from the first one on.
        selects: whether there is something to choose the best weights on.
        score_names: of the scores beside the mean Dice.
    """

    fingerprint: str
    channels: int
    sizes: list[int]
    batches_per_epoch: int
    selects: bool
    score_names: tuple[str, ...]

    def batches(self, epoch: int, workers: int, first_batch: int,
                ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
        """This rank's shard of each batch, augmented: images, targets; the names of the whole batch."""

    def loss_names(self, model) -> list[str]:
        """The losses that are summed and trained."""

    def losses(self, model, images, targets, size: int) -> list:
        """Those losses, each the mean over the images, which are resized to squares of side ``size``.

        Images and targets are those of `batches`, in variables of Jittor that take no gradients.
        """

    def validate(self, model, interruption: Interruption) -> Validation | None:
        """Scores of the network as it is, left in training mode; None after a signal."""

    def write_samples(self, path: Path, samples: list, title: str) -> None:
        """Draws samples of a validation."""

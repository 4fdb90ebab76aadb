"""The task binary: polyps, each image with a mask, three sizes of every batch, one loss for each stage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jittor_pranet.training.augmentation import augment
from jittor_pranet.training.options import Config
from jittor_pranet.training.pictures import write_samples
from jittor_pranet.training.task import Validation
from jittor_pranet.training.validation import Sample, find_selection, mean_dice
from utils import ranks
from utils.data.image_io import Pair
from utils.data.polyps import TrainSet, batches_per_epoch, epoch_batches
from utils.signals import Interruption

SCALES = (0.75, 1.0, 1.25)  # each batch makes one optimizer step at each
AUGMENTATION = 2  # tells its random numbers from those of the order and the split


class BinaryTask:
    """See `jittor_pranet.training.task`.

    Raises:
        UserError: a defect of the training set, or of the sets to choose the best weights on.
    """

    score_names: tuple[str, ...] = ()
    channels = 3

    def __init__(self, config: Config, in_memory: bool):
        self.config = config
        full_set = TrainSet(config.train_path, config.trainsize, in_memory)
        self.fingerprint = fingerprint(full_set.pairs)
        pairs, self.selection = find_selection(config, full_set.pairs)
        self.train_set = full_set.subset(pairs)
        self.sizes = scaled_sizes(config.trainsize)
        self.batches_per_epoch = batches_per_epoch(self.train_set, config.batchsize)

    def __str__(self) -> str:
        held = sum(map(len, self.selection.values()))
        return f"{len(self.train_set)} pairs, {held} to choose the best weights on"

    @property
    def selects(self) -> bool:
        return bool(self.selection)

    def batches(self, epoch: int, workers: int, first_batch: int,
                ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
        config = self.config
        batches = epoch_batches(self.train_set, config.batchsize, config.seed, epoch, workers, first_batch)
        for number, (images, masks, stems) in enumerate(batches, first_batch):
            if config.flips or config.rot90:
                rng = np.random.default_rng([config.seed, epoch, number, AUGMENTATION])
                shard = ranks.shard_of(len(stems))
                images, masks = augment(images, masks, rng, shard, config.flips, config.rot90)
            yield images, masks, stems

    def loss_names(self, model) -> list[str]:
        return [f"map{stage}" for stage in model.decoder.supervised_stages]

    def losses(self, model, images, masks, size: int) -> list:
        from lib.ops import resize_bilinear

        images, masks = (resize_bilinear(batch, (size, size), align_corners=True).stop_grad()
                         for batch in (images, masks))
        return model.losses(model(images), masks, self.config.weighted_bce)

    def validate(self, model, interruption: Interruption) -> Validation | None:
        return mean_dice(model, self.selection, self.config, interruption)

    def write_samples(self, path: Path, samples: list[Sample], title: str) -> None:
        write_samples(path, samples, title)


def scaled_sizes(size: int) -> list[int]:
    """The sides of the three scales: multiples of 32 next to 0.75, 1 and 1.25 times ``size``."""
    return [max(round(size * scale / 32), 1) * 32 for scale in SCALES]


def fingerprint(pairs: list[Pair]) -> str:
    """Tells sets of other files apart: a digest of all stems and the files' sizes in bytes."""
    listed = [(pair.stem, pair.image.stat().st_size, pair.mask.stat().st_size) for pair in pairs]
    return hashlib.sha256(repr(listed).encode()).hexdigest()

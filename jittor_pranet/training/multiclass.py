"""The task multiclass: scans whose every pixel has a class, at one size, with AdamW at a constant rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jittor_pranet.training.options import Config
from jittor_pranet.training.pictures import write_label_samples
from jittor_pranet.training.task import Validation
from jittor_pranet.training.validation import SAMPLES, SPLIT, batches_to_test, spread
from lib.inference import argmax_labels
from utils import ranks
from utils.data.image_io import name_some
from utils.data.polyps import batches_per_epoch
from utils.data.slices import LabelledSlices, Slice, network_input, resize_labels, slice_batches
from utils.errors import UserError
from utils.metrics.multiclass import METRICS, MulticlassMetrics, ScanScores, count_labels
from utils.runtime import backend, collectives
from utils.signals import Interruption


@dataclass(frozen=True)
class LabelSample:
    """A slice: its image (C,H,W) in [0,1], predicted labels and target (H,W)."""

    piece: Slice
    image: np.ndarray
    prediction: np.ndarray
    target: np.ndarray


class MulticlassTask:
    """See `jittor_pranet.training.task`.

    Raises:
        UserError: a defect of the training set, or of the one to choose the best weights on.
    """

    def __init__(self, config: Config, in_memory: bool):
        self.config = config
        slices = LabelledSlices(config.train_path, config.scan_options, config.trainsize, in_memory,
                                config.train_list)
        self.fingerprint, self.channels = slices.fingerprint, slices.channels
        self.train_set, self.selection = split(config, slices)
        self.sizes = [config.trainsize]
        self.batches_per_epoch = batches_per_epoch(self.train_set, config.batchsize)
        self.score_names = tuple(f"val_dice{label}" for label in range(1, config.num_class))

    def __str__(self) -> str:
        train, held = (f"{len(each)} slices of {len({scan.group for scan in each.scans})} patients"
                       for each in (self.train_set, self.selection))
        return f"{train}, {held} to choose the best weights on"

    @property
    def selects(self) -> bool:
        return bool(self.selection.scans)

    def batches(self, epoch: int, workers: int, first_batch: int,
                ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
        config = self.config
        return slice_batches(self.train_set, config.batchsize, config.seed, epoch, not config.no_augmentation,
                             workers, first_batch)

    def loss_names(self, model) -> list[str]:
        return list(model.decoder.multiclass_terms)

    def losses(self, model, images, labels, size: int) -> list:
        return model.multiclass_losses(model(images), labels)

    def validate(self, model, interruption: Interruption) -> Validation | None:
        """Mean Dice over the classes of every patient's slices together."""
        pieces = self.selection.slices
        shown = spread(pieces, SAMPLES)
        counts, samples = defaultdict(int), []
        for sample in self.predict(model, pieces[ranks.RANK::ranks.WORLD_SIZE]):
            counts[sample.piece.scan.group] += count_labels(sample.prediction[None], sample.target[None],
                                                            self.config.num_class)
            samples += [sample] if sample.piece in shown else []
            if interruption.signal:
                break
        if collectives.any_signal(interruption):
            return None
        gathered = collectives.all_gather((dict(counts), samples))
        order = {piece: number for number, piece in enumerate(pieces)}
        samples = sorted((each for _, part in gathered for each in part), key=lambda each: order[each.piece])
        return self._scores([counts for counts, _ in gathered], samples)

    def _scores(self, counts: list[dict[str, np.ndarray]], samples: list[LabelSample]) -> Validation:
        """Of the confusion matrices of patients, each of whom more than one process may have seen."""
        metrics = MulticlassMetrics(self.config.num_class)
        for group in sorted(set().union(*counts)):
            metrics.add(ScanScores(sum(part[group] for part in counts if group in part)))
        dice = metrics.class_means()[:, METRICS.index("Dice")]
        scores = {name: None if np.isnan(each) else float(each) for name, each in zip(self.score_names, dice)}
        return Validation(metrics.means()["Dice"], samples, scores)

    def predict(self, model, pieces: list[Slice]) -> Iterator[LabelSample]:
        """The label maps that the program test would write, one after the other."""
        size, batch_size = self.config.trainsize, ranks.shard_of(self.config.batchsize).size
        options = self.selection.options

        def load(piece: Slice) -> tuple[Slice, np.ndarray, np.ndarray, np.ndarray]:
            image, labels = piece.read(options)
            return piece, image, network_input(image[None], size), labels

        for batch in batches_to_test(model, load, pieces, batch_size):
            with backend.jt.no_grad():
                images = backend.jt.array(np.concatenate([each for _, _, each, _ in batch]))
                names = [f"{piece.scan.image}, slice {piece.index}" for piece, *_ in batch]
                predictions = argmax_labels(self.merge(model, model(images)), names)
            for (piece, image, _, labels), each in zip(batch, predictions):
                yield LabelSample(piece, image, resize_labels(each, labels.shape), labels)

    def merge(self, model, maps: list):
        """The logits to choose the best weights by."""
        logits = model.final_logits(maps)
        return logits - sum(maps[len(maps) // 2:]) if self.config.published_validation else logits

    def write_samples(self, path: Path, samples: list[LabelSample], title: str) -> None:
        write_label_samples(path, [(each.image, each.prediction, each.target) for each in samples], title)


def split(config: Config, slices: LabelledSlices) -> tuple[LabelledSlices, LabelledSlices]:
    """What to train on, and what to choose the best weights on, if anything.

    Raises:
        UserError: too few patients, none held out shows a class, or a defect of --val_path.
    """
    if config.val_path:
        return slices, LabelledSlices(config.val_path, slices.options, config.trainsize,
                                      names=config.val_list)
    groups = sorted({scan.group for scan in slices.scans})
    if config.val_fraction == 0:
        return slices, slices.subset([])
    if len(groups) < 2:
        raise UserError(f"--val_fraction {config.val_fraction}: {config.train_path} has one patient only, "
                        f"{groups[0]}, none to hold out; train on all with --val_fraction 0, or give "
                        "--val_path")
    count = min(max(round(config.val_fraction * len(groups)), 1), len(groups) - 1)
    chosen = np.random.default_rng([config.seed, SPLIT]).permutation(len(groups))[:count]
    held = {groups[index] for index in chosen}
    parts = [[scan for scan in slices.scans if (scan.group in held) == wanted] for wanted in (False, True)]
    if not slices.labelled.intersection(parts[1]):
        raise UserError(f"--val_fraction {config.val_fraction}: the patients held out show no class "
                        f"({name_some(sorted(held))}); take another --seed, or give --val_path")
    return slices.subset(parts[0]), slices.subset(parts[1])

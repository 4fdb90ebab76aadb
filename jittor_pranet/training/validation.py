"""Which weights are the best: by mDice on pairs held out of the training set, or on test sets by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, TypeVar

import numpy as np

from jittor_pranet.training.options import Config
from jittor_pranet.training.task import Validation
from lib.inference import check_logits, finish_map
from utils import ranks
from utils.data.checks.polyps import SOURCES, source_of
from utils.data.clinicdb import sequence_of
from utils.data.image_io import Pair, check_sizes, find_pairs, read_grey, read_rgb
from utils.data.polyps import find_test_sets, normalise
from utils.errors import UserError
from utils.metrics.binary import MASK_RULES, BinaryMetrics, PairScores, measure_pair
from utils.parallel import WORKERS, prefetch
from utils.runtime import backend, collectives
from utils.signals import Interruption

SAMPLES = 6  # pairs whose maps are shown
SPLIT = 1  # tells the split's random numbers from those of the epochs' order

Item, Loaded = TypeVar("Item"), TypeVar("Loaded")


@dataclass(frozen=True)
class Sample:
    """A pair, its map (uint8, of the image's own size) and its mask (bool)."""

    pair: Pair
    levels: np.ndarray
    mask: np.ndarray


def hold_out(pairs: list[Pair], fraction: float, seed: int, whole_sequences: bool = False,
             ) -> tuple[list[Pair], list[Pair]]:
    """Splits pairs into those to train on and those to select on, both in the given order.

    Each source gives its fraction, rounded, but at least one pair where it has two.

    Args:
        whole_sequences: the frames of a video sequence of CVC-ClinicDB stay together, one being like
            another. The fraction is then met as nearly as sequences, taken in random order, come to it.

    Raises:
        UserError: nothing would be left to select on.
    """
    if fraction == 0:
        return pairs, []
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        # Names of other sets tell nothing certain: they are one group.
        source = source_of(pair.stem)
        groups.setdefault(source if source in SOURCES else "other", []).append(pair)
    held: set[Pair] = set()
    for number, name in enumerate(sorted(groups)):
        group = groups[name]
        units: dict[object, list[Pair]] = {}
        for pair in group:
            sequence = sequence_of(pair.stem) if whole_sequences else None
            units.setdefault(pair if sequence is None else sequence, []).append(pair)
        count = min(max(round(fraction * len(group)), 1), len(group) - 1)
        order = np.random.default_rng([seed, number, SPLIT]).permutation(len(units))
        held.update(_nearest([list(units.values())[index] for index in order], count))
    if not held:
        raise UserError(f"--val_fraction {fraction}: {len(pairs)} pairs are too few to hold some out; train "
                        "on all with --val_fraction 0")
    return [pair for pair in pairs if pair not in held], [pair for pair in pairs if pair in held]


def _nearest(units: list[list[Pair]], count: int) -> list[Pair]:
    """About ``count`` pairs, of whole units that each bring their number nearer to it; never of all units."""
    chosen: list[Pair] = []
    for unit in units[:-1]:
        if abs(len(chosen) + len(unit) - count) < abs(len(chosen) - count):
            chosen += unit
    return chosen or [pair for unit in units[:-1][:1] for pair in unit]


def find_selection(config: Config, pairs: list[Pair]) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """The pairs to train on, and those to select on by set; no set where the last weights are taken.

    Raises:
        UserError: too few pairs, or a test set is missing or has a defect.
    """
    if not config.select_on_test:
        train, held = hold_out(pairs, config.val_fraction, config.seed, config.hold_out == "sequences")
        return train, {"validation": held} if held else {}
    folders = find_test_sets(config.test_path, list(config.select_on_test))
    sets = {name: find_pairs(images, Path(images).parent / "masks") for name, images in folders.items()}
    for tests in sets.values():
        check_sizes(tests)
    return pairs, sets


def mean_dice(model, sets: dict[str, list[Pair]], config: Config, interruption: Interruption,
              ) -> Validation | None:
    """The mean over the sets of mDice, as `test --evaluate` gives it, and some samples.

    None after a signal. The model is left in training mode. Each rank takes its part and knows the
    outcome of all.
    """
    pairs = [pair for pairs in sets.values() for pair in pairs]
    shown = spread(pairs, SAMPLES)
    scores, samples = {}, {}
    for sample in predict(model, pairs[ranks.RANK::ranks.WORLD_SIZE], config.trainsize,
                          ranks.shard_of(config.batchsize).size):
        scores[sample.pair] = measure_pair(sample.levels, sample.mask)
        if sample.pair in shown:
            samples[sample.pair] = sample
        if interruption.signal:
            break
    if collectives.any_signal(interruption):
        return None
    for others_scores, others_samples in collectives.all_gather((scores, samples)):
        scores.update(others_scores)
        samples.update(others_samples)
    means = [_mean_dice(scores[pair] for pair in pairs) for pairs in sets.values()]
    return Validation(sum(means) / len(means), [samples[pair] for pair in pairs if pair in samples])


def _mean_dice(scores: Iterable[PairScores]) -> float:
    metrics = BinaryMetrics()
    for each in scores:
        metrics.add(each)
    return metrics.result()["meanDic"]


def predict(model, pairs: list[Pair], size: int, batch_size: int) -> Iterator[Sample]:
    """The maps that the program test would write, one after the other."""
    def load(pair: Pair) -> tuple[Pair, np.ndarray, np.ndarray]:
        mask = np.asarray(read_grey(pair.mask)) > MASK_RULES["mid"]
        return pair, normalise(read_rgb(pair.image), size), mask

    for batch in batches_to_test(model, load, pairs, batch_size):
        with backend.jt.no_grad():
            logits = model.final_logits(model(backend.jt.array(np.stack([image for _, image, _ in batch]))))
            check_logits(logits, [str(pair.image) for pair, _, _ in batch])
            maps = [finish_map(logits[index:index + 1], mask.shape, minmax=True)
                    for index, (_, _, mask) in enumerate(batch)]
        for (pair, _, mask), values in zip(batch, maps):
            yield Sample(pair, (values * 255).astype(np.uint8), mask)


def batches_to_test(model, load: Callable[[Item], Loaded], items: list[Item], batch_size: int,
                    ) -> Iterator[list[Loaded]]:
    """What ``load`` makes of the items, read ahead; the model is in testing mode as long as they come."""
    loaded = prefetch(load, items, WORKERS, ahead=batch_size)
    model.eval()
    try:
        for start in range(0, len(items), batch_size):
            yield [next(loaded) for _ in items[start:start + batch_size]]
    finally:
        loaded.close()
        model.train()


def spread(items: list[Item], count: int) -> set[Item]:
    """Some of the items, evenly spread over all."""
    return {items[index] for index in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)}

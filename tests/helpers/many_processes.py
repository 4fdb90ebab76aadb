"""Run by mpirun: batch normalisation, gradients and messages of many processes.

Every process computes a whole batch by itself, then its shard of it together with the others.
"""

from __future__ import annotations

import sys

import numpy as np

from tests.helpers.compare import assert_close
from utils import ranks
from utils.data.synthetic.deterministic import stream
from utils.runtime import collectives
from utils.runtime.backend import jt


def outcome(images: np.ndarray, factors: np.ndarray, shard: ranks.Shard | None) -> dict[str, np.ndarray]:
    """Maps, gradients and running statistics of two normalised layers; all by itself without a ``shard``."""
    from lib.layers import BatchNorm2d

    norms = [BatchNorm2d(images.shape[1]) for _ in range(2)]
    part = shard.images if shard else slice(None)
    with collectives.sharding(shard):
        x = jt.array(images[part])
        maps = norms[1](jt.nn.relu(norms[0](x)) * 3.0 + x)
        loss = (maps * jt.array(factors[part])).mean() * (shard.fraction if shard else 1.0)
        of_images, *of_parameters = jt.grad(loss, [x, *(value for norm in norms
                                                        for value in (norm.weight, norm.bias))])
        if shard:
            of_parameters = [collectives.all_reduce(gradient) for gradient in of_parameters]
        variables = {"maps": maps, "gradient of the images": of_images,
                     "gradient of the parameters": jt.concat(of_parameters),
                     "running statistics": jt.concat([value for norm in norms for value in (
                         norm.running_mean, norm.running_var)])}
        return {name: value.numpy() for name, value in variables.items()}


def check_batch(total: int) -> None:
    rng = stream("batch", total)
    images, factors = rng.normal(1.0, 2.0, (2, total, 3, 4, 5)).astype(np.float32)
    shard = ranks.shard_of(total)
    alone, together = (outcome(images, factors, each) for each in (None, shard))
    for name in ("maps", "gradient of the images"):
        alone[name] = alone[name][shard.images]
    if not shard.split:
        alone["gradient of the images"] /= ranks.WORLD_SIZE
    for name, expected in alone.items():
        assert_close(together[name], expected, "float32", f"{name}, batch of {total}")


def multiclass_losses(maps: list[np.ndarray], labels: np.ndarray, shard: ranks.Shard | None):
    """The terms of the loss of several classes, and the gradients of two foreground and background maps."""
    from lib.losses import mutation_loss

    part = shard.images if shard else slice(None)
    with collectives.sharding(shard):
        given = [jt.array(each[part]) for each in maps]
        terms = mutation_loss(given[:2], given[2:], jt.array(labels[part]))
        terms = [term * (shard.fraction if shard else 1.0) for term in terms]
        gradients = [each.numpy() for each in jt.grad(sum(terms), given)]
        return np.array([term.item() for term in terms]), np.array(gradients)


def check_class_losses(total: int) -> None:
    """Dice is that of the whole batch: no mean of the shards' own."""
    rng = stream("classes", total)
    maps = list(rng.normal(0.0, 2.0, (4, total, 3, 5, 4)).astype(np.float32))
    labels = rng.randint(0, 3, (total, 5, 4)).astype(np.int32)
    shard = ranks.shard_of(total)
    (alone, of_all), (own, of_shard) = (multiclass_losses(maps, labels, each) for each in (None, shard))
    together = np.sum(collectives.all_gather(own), axis=0)
    assert_close(together, alone, "loss", f"terms, batch of {total}")
    expected = of_all[:, shard.images] if shard.split else of_all / ranks.WORLD_SIZE
    assert_close(of_shard, expected, "float32", f"gradients of the terms, batch of {total}")


def main() -> None:
    for total in (6, 5, 2, 1):  # even, uneven, and fewer images than processes
        check_batch(total)
        check_class_losses(total)
    values = collectives.all_gather({"rank": ranks.RANK, "text": "x" * ranks.RANK})
    assert values == [{"rank": rank, "text": "x" * rank} for rank in range(ranks.WORLD_SIZE)]
    variable = jt.array(np.float32([ranks.RANK + 7.0]))
    collectives.broadcast_parameters([variable])
    assert variable.item() == 7.0
    print(f"{ranks.WORLD_SIZE} processes agree")
    if sys.argv[1:] == ["fail"]:
        assert ranks.is_rank_0(), "the second has failed"
        collectives.all_gather("while the first one waits for it")


if __name__ == "__main__":
    with ranks.rank_0_only():
        main()

"""Tests and trains networks a little and names the operations that Jittor ran on the CPU: there must be none.

    python -m tests.dry_cuda -m tests.dry_cuda.networks [NETWORK ...]

With ``--precision``, as elsewhere. Networks are taken with one class and with nine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from jittor_pranet.cli.arguments import add_precision_argument
from lib.registry import NETWORKS
from utils.runtime import backend

SIZE, CALLS = 64, 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="all if left out")
    add_precision_argument(parser)
    args = parser.parse_args()
    backend.prepare("cuda", args.precision)
    strays = 0
    for name in args.networks or NETWORKS:
        for classes in (1, 9):
            test, train = passes(name, classes)
            for what, run in (("test", test), ("train", train)):
                with backend.compiling(f"{what} {name}"):
                    run()
                start = time.perf_counter()
                for _ in range(CALLS):
                    run()
                seconds = (time.perf_counter() - start) / CALLS
                found = on_cpu(run)
                print(f"{name}, {classes} classes, {what}: {1e3 * seconds:.1f} ms of the host, "
                      f"{len(found)} kinds of operations on the CPU", *found, sep="\n    ", flush=True)
                strays += len(found)
    return int(strays > 0)


def passes(name: str, classes: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """One pass in testing mode, of a network whose weights stay; one step of training, of another."""
    from lib import build_model
    from lib.optimizer import Adam, trainable_parameters

    jt = backend.jt
    rng = np.random.default_rng(0)
    images = rng.random((2, 3, SIZE, SIZE), np.float32)
    masks = (rng.random((2, 1, SIZE, SIZE)) < 0.5).astype(np.float32)
    labels = rng.integers(0, classes, (2, SIZE, SIZE), np.int32)
    tested, trained = build_model(name, classes), build_model(name, classes)
    tested.eval()
    tested.fuse()
    trained.train()
    optimizer = Adam(trainable_parameters(trained), clip=0.5, loss_scale=2.0)

    def test() -> None:
        with jt.no_grad():
            tested.final_logits(tested(jt.array(images))).numpy()

    def train() -> None:
        maps = trained(jt.array(images))
        losses = (trained.losses(maps, jt.array(masks)) if classes == 1 else
                  trained.multiclass_losses(maps, jt.array(labels)))
        optimizer.step(sum(losses), 1e-4)
        jt.sync_all(True)

    return test, train


def on_cpu(run: Callable[[], None]) -> list[str]:
    """The kinds of operations that one call ran on the CPU, though the device is CUDA."""
    with backend.jt.profile_scope(warmup=0, rerun=0) as rows:
        run()
    return [str(row[0])[:200] for row in rows[1:] if "JIT_cpu" in row[0]]


if __name__ == "__main__":
    sys.exit(main())

"""Writes the weights that a seed draws: python -m tests.gpu.initial_weights NETWORK SEED FILE."""

from __future__ import annotations

import sys


def main(network: str, seed: int, file: str) -> None:
    from lib import build_model
    from utils.checkpoint import save_weights
    from utils.runtime.backend import jt

    jt.set_global_seed(seed)
    save_weights(build_model(network), file, {"model_type": network, "seed": seed})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

"""The choice between the CPU and CUDA."""

from __future__ import annotations

import os
import sys

from utils import ranks
from utils.errors import UserError
from utils.runtime import cuda

DEVICES = ("auto", "cpu", "cuda")
DEVICE_VARIABLE = "JITTOR_PRANET_DEVICE"  # what "auto" stands for, where it is set


def choose_device(device: str) -> str:
    """"cpu" or "cuda" for one of `DEVICES`. Raises UserError where CUDA is asked for and cannot be used."""
    if device == "auto":
        device = os.environ.get(DEVICE_VARIABLE, device)
    if device not in DEVICES:
        raise UserError(f"{DEVICE_VARIABLE}={device}: expected one of {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    problems = cuda.find().problems
    if device == "cuda" and problems:
        raise UserError("--device cuda: " + "; ".join(problems))
    return "cpu" if problems else "cuda"


def warn_of_unused_gpu() -> None:
    """Says why "auto" takes the CPU beside a GPU: silently, it is a day lost."""
    found = cuda.find()
    if found.devices and ranks.is_rank_0() and not os.environ.get(DEVICE_VARIABLE):
        print(f"computing on the CPU, although there is a GPU: {'; '.join(found.problems)}", file=sys.stderr)

"""Shows what was found on this machine and what will be used."""

from __future__ import annotations

import argparse
import os

from utils import backend, cuda
from utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    backend.add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    checks = backend.requirements()
    for check in checks:
        _line(check.name, check.found if check.ok else f"MISSING: {check.found}")
    _line("cores", str(len(os.sched_getaffinity(0))))
    found = cuda.find()
    _line("CUDA", "; ".join(found.missing) or f"{'.'.join(map(str, found.version))} at {found.nvcc}")
    try:
        device = backend.choose_device(args.device)
    except UserError as error:
        _line("device", f"none: {error}")
        return 1
    ready = all(check.ok for check in checks)
    _line("device", f"{device} will be used" if ready else "none: mend what is missing above")
    return 0 if ready else 1


def _line(name: str, text: str) -> None:
    print(f"{name:<10}{text}")

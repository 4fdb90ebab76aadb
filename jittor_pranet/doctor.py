"""The program `doctor`: shows what is on this machine and which device will be used."""

from __future__ import annotations

import argparse
import os

from jittor_pranet.cli.arguments import add_device_argument
from utils.errors import UserError
from utils.runtime import backend, cuda, cuda_home
from utils.runtime.device import choose_device
from utils.runtime.requirements import check_requirements


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_device_argument(parser)
    parser.add_argument("--smoke", action="store_true",
                        help="compute a few operations on the device and check them; compiles their kernels")


def run(args: argparse.Namespace) -> int:
    checks = check_requirements()
    for check in checks:
        _line(check.name, check.detail if check.ok else f"MISSING: {check.detail}")
    _line("cores", str(len(os.sched_getaffinity(0))))
    _show_cuda(cuda.find())
    try:
        device = choose_device(args.device)
    except UserError as error:
        _line("device", f"none: {error}")
        return 1
    ready = all(check.ok for check in checks)
    _line("device", f"{device} will be used" if ready else "none: mend what is missing above")
    if not ready:
        return 1
    return _smoke(device) if args.smoke else 0


def _show_cuda(found: cuda.Cuda) -> None:
    if found.driver.devices:
        _line("driver", "runs CUDA up to " + ".".join(map(str, found.driver.version)))
    for number, device in enumerate(found.driver.devices):
        _line(f"GPU {number}", f"{device.name}, sm_{device.sm}")
    if found.toolkit:
        _line("nvcc", f"{found.toolkit.name} at {found.toolkit.nvcc}")
    for name, part in found.parts.items():
        _line(name, f"{part.version} at {part.lib or part.include}".strip())
    if found.parts and not found.missing_parts:
        for shim in cuda_home.layout(found).shims:
            _line("shim", shim)
    _line("CUDA", "; ".join(found.problems) or "all that Jittor needs is here")


def _smoke(device: str) -> int:
    from lib import self_test

    backend.prepare(device)
    passed = True
    for result in self_test.check_operations():
        _line("smoke", str(result))
        passed &= result.passed
    return 0 if passed else 1


def _line(name: str, text: str) -> None:
    print(f"{name:<10}{text}", flush=True)

"""Kinds of values on the command line, and the flags of all programs that use a trained network."""

from __future__ import annotations

import argparse
import math
import os
from typing import TypeVar

from lib.inference import Segmenter
from lib.registry import GAINS, NETWORKS
from utils.checkpoint import Checkpoint
from utils.runtime import backend, cuda, precisions
from utils.runtime.device import DEVICES

MAX_SEED = 2**32 - 1  # NumPy's and Jittor's generators take no more
Kind = TypeVar("Kind", bound=Segmenter)


def whole(at_least: int, at_most: int = 2**31 - 1):
    """An argparse type: a whole number from ``at_least`` to ``at_most``."""
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < at_least:
            raise argparse.ArgumentTypeError(f"{value} is too small, expected {at_least} or more")
        if value > at_most:
            raise argparse.ArgumentTypeError(f"{text[:40]} is too large, expected at most {at_most}")
        return value
    return parse


def positive(text: str) -> float:
    """An argparse type: a finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above zero")
    return value


def fraction(text: str) -> float:
    """An argparse type: a number from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to below 1")
    return value


class _SetCudaHome(argparse.Action):
    """Sets CUDA_HOME, for this process and those that it starts."""

    def __call__(self, parser, namespace, value, option=None):
        os.environ["CUDA_HOME"] = os.path.abspath(value)
        os.environ.pop("nvcc_path", None)
        cuda.find.cache_clear()


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto",
                        help="where to compute; auto takes CUDA where a GPU and all of CUDA are found")
    parser.add_argument("--cuda_home", metavar="FOLDER", action=_SetCudaHome, default=argparse.SUPPRESS,
                        help="the CUDA toolkit to take, as CUDA_HOME names one; looked for if left out")


def add_precision_argument(parser: argparse.ArgumentParser, default: str = "fp32") -> None:
    parser.add_argument("--precision", choices=precisions.PRECISIONS, default=default,
                        help="CUDA: what convolutions and matrix products may round their inputs to: tf32 "
                             "keeps 3 digits, amp is float16, as many and a small range; all else is float32")


def add_device_arguments(parser: argparse.ArgumentParser, precision: str = "fp32") -> None:
    """Adds all flags of programs that compute; ``precision`` is the one where the flag is not given."""
    add_device_argument(parser)
    add_precision_argument(parser, precision)
    parser.add_argument("--plain_ops", action="store_true",
                        help="compute by plain formulas in Jittor's own operations, several times slower, in "
                             "place of the fused operations of lib/ops")


def prepare_device(device: str, precision: str, plain_ops: bool) -> str:
    """Sets up what the flags of `add_device_arguments` ask for. Returns the device, "cpu" or "cuda"."""
    device = backend.prepare(device, precision)
    if plain_ops:
        from lib import ops

        ops.use_plain_ops()
    return device


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, metavar="FILE", default=argparse.SUPPRESS,
                        help=".npz of this program, or the .pth, .safetensors or .pkl of another")
    parser.add_argument("--model_type", default=None, metavar="NAME",
                        help=f"one of {', '.join(NETWORKS)}; left out, what the weights say of themselves")
    parser.add_argument("--gain", default=None, choices=GAINS,
                        help="of V2 and DSRA networks, see docs/dsra.md; left out, what the weights say, or "
                             "softmax as published")
    parser.add_argument("--testsize", type=int, default=None,
                        help="side the images are resized to, in pixels; left out, that of the training, or "
                             "352 as published, 224 with several classes")
    parser.add_argument("--tta", choices=("none", "flips"), default="none",
                        help="flips averages each image's logits with those of its three mirror images, in "
                             "four times the time; not published")


def load_segmenter(kind: type[Kind], checkpoint: Checkpoint, args: argparse.Namespace) -> Kind:
    """The network that the flags of `add_network_arguments` ask for. Raises what `Segmenter` does."""
    prepare_device(args.device, args.precision, args.plain_ops)
    return kind(checkpoint, args.model_type, args.testsize, args.device, args.tta == "flips",
                getattr(args, "num_class", None), args.gain)

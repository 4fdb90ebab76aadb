"""The program `convert`: weights from one kind of file into another, and networks into ONNX.

Names become the published ones. PyTorch writes .pth (requirements-torch.txt) and .onnx
(requirements-onnx.txt). The network in an ONNX file is that of jittor_pranet/reference_torch, which the tests
hold to the published values as they do ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import warnings
from pathlib import Path

import numpy as np

from jittor_pranet.cli.arguments import whole
from lib.registry import BARE_ENCODERS, GAINS, NETWORKS, find_network, identify_network
from lib.timm_names import published_weights
from lib.trained import Usage, usage_of
from utils.checkpoint import Checkpoint, check_values, read_checkpoint, safetensors, save_arrays
from utils.errors import UserError
from utils.files import atomic_write
from utils.outputs import check_output_file

SUFFIXES = (".npz", ".pth", safetensors.SUFFIX, ".onnx")
MAX_DIFFERENCE = 1e-5  # of onnxruntime's logits from PyTorch's, relative to the whole map
OPSET = 17
PARAMETERS = (".weight", ".bias", ".running_mean", ".running_var")  # a file may hold other things as well
UNUSED = ("backbone.fc.", "resnet.fc.")  # published parts that no image passes through


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = argparse.SUPPRESS  # keeps "(default: None)" out of the help
    parser.add_argument("--weights", required=True, metavar="FILE", default=default,
                        help=".npz of the program train, or the .pth, .safetensors or .pkl of another")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", default=default,
                        help="what to write, by its suffix: .npz (ours), .pth (PyTorch's), .safetensors, "
                             ".onnx")
    parser.add_argument("--model_type", default=None, metavar="NAME",
                        help=f"one of {', '.join(NETWORKS)}; left out, what the weights look like")
    parser.add_argument("--num_class", type=whole(1), default=None, metavar="N",
                        help="classes of an .onnx; left out, those of the weights")
    parser.add_argument("--gain", choices=GAINS, default=None,
                        help="of the .onnx of a V2 or DSRA network; left out, what the weights say, or "
                             "softmax")
    parser.add_argument("--testsize", type=int, default=None,
                        help="side of the images that an .onnx takes; left out, that of the training, or 352 "
                             "as published, 224 with several classes")
    parser.add_argument("--overwrite", action="store_true", help="write over --out if it is there")
    channels = parser.add_mutually_exclusive_group()
    channels.add_argument("--grey", action="store_const", const=1, dest="channels", default=None,
                          help="the .onnx takes grey images of one channel; left out, what the weights say")
    channels.add_argument("--colour", action="store_const", const=3, dest="channels", default=None,
                          help="the .onnx takes colour images; also where the weights say nothing")


def run(args: argparse.Namespace) -> int:
    if args.out.suffix not in SUFFIXES:
        raise UserError(f"{args.out}: ends in {args.out.suffix or 'nothing'}, expected one of "
                        f"{', '.join(SUFFIXES)}")
    channels = {None: "grey", 1: "grey", 3: "colour"}[args.channels]
    for flag, value in (("num_class", args.num_class), ("gain", args.gain), ("testsize", args.testsize),
                        (channels, args.channels)):
        if value is not None and args.out.suffix != ".onnx":
            raise UserError(f"--{flag}: is for an .onnx, other files hold the weights alone; leave it out")
    check_output_file(args.out, [args.weights], args.overwrite)
    checkpoint = read_checkpoint(args.weights)
    weights = published_weights(checkpoint.arrays)
    model_type = args.model_type or identify_network(weights)
    if model_type is None:
        raise UserError(f"{args.weights}: has the names of none of {', '.join(NETWORKS)}; give --model_type")
    info = checkpoint.info
    if args.model_type or model_type not in BARE_ENCODERS:
        find_network(model_type)
        info = {**info, "model_type": model_type}
    elif args.out.suffix == ".onnx":
        raise UserError(f"{args.weights}: holds {model_type}, an .onnx takes the weights of a whole network")
    for name, array in weights.items():
        if name.endswith(PARAMETERS):
            check_values(str(checkpoint), name, array)
    if args.out.suffix == ".npz":
        save_arrays(weights, args.out, info)
        content = f"{len(weights)} arrays"
    elif args.out.suffix == ".pth":
        content = write_pth(args.out, weights)
    elif args.out.suffix == safetensors.SUFFIX:
        with atomic_write(args.out) as file:
            safetensors.write(file, weights)
        content = f"{len(weights)} tensors"
    else:
        usage = usage_of(checkpoint, args.testsize, args.num_class, args.gain, args.channels)
        usage.warn()
        content = write_onnx(args.out, checkpoint, model_type, usage)
    print(f"{args.out}: {model_type}, {content}")
    return 0


def write_pth(out: Path, weights: dict[str, np.ndarray]) -> str:
    """Writes weights for PyTorch. Returns what the file holds, in words."""
    _require(out, "requirements-torch.txt", "torch")
    import torch

    with atomic_write(out) as file:
        torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, file)
    return f"a plain state dict of {len(weights)} tensors"


def write_onnx(out: Path, checkpoint: Checkpoint, model_type: str, usage: Usage) -> str:
    """Writes a network from normalised images (N,C,size,size) to logits of their size; N is free.

    Returns what the file holds, in words.
    """
    _require(out, "requirements-onnx.txt", "torch", "onnx", "onnxruntime")
    import torch

    channels, size = usage.channels or 3, usage.size
    network = _merging(_reference(checkpoint, model_type, usage.num_class, usage.gain, grey=channels == 1))
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that shapes are fixed, and of a newer exporter, which needs more
        torch.onnx.export(network, (images[:1],), content, dynamo=False, opset_version=OPSET,
                          input_names=["images"], output_names=["logits"],
                          dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}})
    difference = _check(network, images, content.getvalue())
    with atomic_write(out) as file:
        file.write(content.getvalue())
    return (f"{usage}: images (N,{channels},{size},{size}) to logits (N,{usage.num_class},{size},{size}); "
            f"onnxruntime differs from PyTorch by {difference:.1e} of the map")


def _check(network, images, content: bytes) -> float:
    """How far onnxruntime's logits are from PyTorch's. Raises UserError when that is more than rounding."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits, expected = session.run(None, {"images": images.numpy()})[0], network(images).detach().numpy()
    difference = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
    if not difference <= MAX_DIFFERENCE:
        raise UserError(f"onnxruntime differs from PyTorch by {difference:.1e} of the map, at most "
                        f"{MAX_DIFFERENCE:.0e} is expected; take the versions of requirements-onnx.txt")
    return difference


def _reference(checkpoint: Checkpoint, model_type: str, num_class: int, gain: str, grey: bool):
    """The network in PyTorch with these weights. Raises UserError when they do not fit."""
    import torch

    from jittor_pranet.reference_torch import build_torch_model

    unused = UNUSED if grey else (*UNUSED, "conv.")
    reference = build_torch_model(model_type, num_class, gain).eval()
    shapes = {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    fitting = {name: torch.from_numpy(array) for name, array in checkpoint.arrays.items()
               if shapes.get(name) == array.shape}
    missing = [name for name in reference.load_state_dict(fitting, strict=False).missing_keys
               if not name.endswith("num_batches_tracked") and not name.startswith(unused)]
    if missing:
        raise UserError(f"{checkpoint}: does not fit {model_type}: {len(missing)} names are missing or of "
                        f"another shape, {missing[0]} the first")
    return reference


def _merging(reference):
    import torch

    class Merging(torch.nn.Module):
        """Gives the one map to test with."""

        def __init__(self):
            super().__init__()
            self.reference = reference

        def forward(self, images):
            return self.reference.final_logits(self.reference(images))

    return Merging().eval()


def _require(out: Path, requirements: str, *packages: str) -> None:
    missing = [name for name in packages if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"{out}: {' and '.join(missing)} must be installed to write it; python -m pip "
                        f"install -r {requirements}")

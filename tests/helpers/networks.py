"""Networks with synthetic weights, and the published values they are held against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jittor_pranet.benchmarks.network_tasks import seed_jittor, seed_torch, stop_drop_path
from tests.helpers.paths import GOLDEN
from utils.data.synthetic import deterministic
from utils.runtime.backend import jt


def golden(name: str):
    """The JSON of golden/<name>.json."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def golden_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of golden/<name>.npz."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


PUBLISHED_STATE = {**golden("state_dict"), **golden("multiclass_state_dict")}


def published_classes(name: str) -> int:
    """How many the network of `PUBLISHED_STATE` has."""
    return 9 if name.startswith("EMCAD") else 1


def seeded_network(name: str, num_class: int = 1, seed: int = 0, gain: str = "softmax"):
    """A network whose parameters and statistics are seeded by their published names; without DropPath."""
    from lib import build_model

    model = build_model(name, num_class, gain)
    seed_jittor(model, seed)
    stop_drop_path(model)
    return model


def reference_network(name: str, num_class: int = 1, seed: int = 0, gain: str = "softmax"):
    """The same network in PyTorch, in float64 unless changed, with the same weights; without DropPath."""
    from jittor_pranet.reference_torch import build_torch_model

    reference = build_torch_model(name, num_class, gain).double()
    seed_torch(reference, seed)
    stop_drop_path(reference)
    return reference


def onnx_errors(name: str, size: int, folder: Path, num_class: int = 1, channels: int = 3,
                ) -> tuple[float, float]:
    """How far the logits of `convert`'s ONNX file are from Jittor's and from PyTorch's, relatively."""
    import onnxruntime
    import torch

    from jittor_pranet.__main__ import main
    from utils.checkpoint import save_weights

    model, images = seeded_network(name, num_class), deterministic.images(3, size, channels=channels)
    save_weights(model, folder / "w.npz", {"num_class": num_class})
    assert main(["convert", "--weights", str(folder / "w.npz"), "--out", str(folder / "w.onnx"),
                 "--model_type", name, "--testsize", str(size), *["--grey"] * (channels == 1)]) == 0
    session = onnxruntime.InferenceSession(folder / "w.onnx", providers=["CPUExecutionProvider"])
    exported, = session.run(["logits"], {"images": images})
    model.eval()
    reference = reference_network(name, num_class).float().eval()
    with jt.no_grad(), torch.no_grad():
        in_jittor = model.final_logits(model(jt.array(images))).numpy()
        in_torch = reference.final_logits(reference(torch.from_numpy(images))).numpy()
    return relative_error(exported, in_jittor), relative_error(exported, in_torch)


def relative_error(values: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(values - expected) / np.linalg.norm(expected))


def soft_masks(count: int, size: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Synthetic masks resized to three quarters and back, bilinear between corners: float64 in [0, 1]."""
    small = size * 3 // 4
    through = _corner_weights(small, size) @ _corner_weights(size, small)
    return through @ deterministic.masks(count, size, seed, channels).astype(np.float64) @ through.T


def _corner_weights(size: int, to: int) -> np.ndarray:
    """(to,size): what each new pixel takes of each old one; first and last pixels stay where they are."""
    position = np.linspace(0, size - 1, to)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(size)))


def forward_errors(case: dict, index: int, file: str = "forward") -> list[tuple[float, float]]:
    """(our relative error, PyTorch's float32 one) of each map of a case of forward.json, or of its like."""
    model = seeded_network(case["model"], case.get("num_class", 1), case["seed"])
    model.eval()
    with jt.no_grad():
        images = deterministic.images(case["batch"], case["size"], case["seed"], case["channels"])
        maps = model(jt.array(images))
    errors = []
    for number, (prediction, floor) in enumerate(zip(maps, case["float32_relative_error"])):
        expected = golden_arrays(file)[f"case{index}_map{number}"]
        prediction = prediction.numpy()[..., ::case["stride"], ::case["stride"]]
        errors.append((relative_error(prediction, expected), floor))
    return errors

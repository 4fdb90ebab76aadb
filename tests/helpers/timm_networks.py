"""timm's networks with synthetic weights, for comparisons with ours."""

from __future__ import annotations

import warnings

import pytest

from jittor_pranet.benchmarks.network_tasks import seed_torch

# What torchvision names on import. It lacks them where it was built for CUDA and PyTorch was not.
TORCHVISION_OPS = {"nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
                   "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"}


def import_timm():
    """timm, or the test is skipped. It imports torchvision, whose operations no encoder uses."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision's missing library, and of timm's own ways
        try:
            return pytest.importorskip("timm")
        except RuntimeError:
            for name, signature in TORCHVISION_OPS.items():
                torch.library.define(f"torchvision::{name}", signature)
            return pytest.importorskip("timm")


def timm_encoder(name: str, seed: int = 0):
    """A network in float64, for testing, whose parameters and statistics are seeded by timm's names."""
    network = import_timm().create_model(name, pretrained=False).double().eval()
    seed_torch(network, seed)
    return network


def timm_features(network, images):
    """Its features at 1/4, 1/8, 1/16 and 1/32 of (N,3,H,W), as arrays."""
    import torch

    with torch.no_grad():
        features = network.forward_intermediates(images, intermediates_only=True)[-4:]
    return [feature.numpy() for feature in features]

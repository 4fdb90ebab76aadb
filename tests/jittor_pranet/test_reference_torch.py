"""The PyTorch port that we compare with is the published network, and weights go to it and back unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.compare import assert_close
from tests.helpers.networks import (
    PUBLISHED_STATE,
    golden,
    golden_arrays,
    published_classes,
    reference_network,
    seeded_network,
    soft_masks,
)
from utils.data.synthetic import deterministic

torch = pytest.importorskip("torch")

FORWARD = [(file, index, case) for file in ("forward", "multiclass")
           for index, case in enumerate(golden(file))]


def reference_of(name: str):
    """The published network with fresh weights."""
    from jittor_pranet.reference_torch import build_torch_model

    return build_torch_model(name, published_classes(name))


def name_case(case: dict) -> str:
    return f"{case['model']}-{case.get('num_class', 1)}"


@pytest.mark.parametrize(("file", "index", "case"), FORWARD, ids=[name_case(case) for *_, case in FORWARD])
def test_maps(file, index, case):
    expected = golden_arrays(file)
    reference = reference_network(case["model"], case.get("num_class", 1), case["seed"]).eval()
    images = deterministic.images(case["batch"], case["size"], case["seed"], case["channels"])
    with torch.no_grad():
        maps = reference(torch.from_numpy(images).double())
    assert len(maps) == len(case["norm"])
    for number, (found, norm) in enumerate(zip(maps, case["norm"])):
        sampled = found[..., ::case["stride"], ::case["stride"]]
        assert_close(sampled, expected[f"case{index}_map{number}"], "float64", f"map {number}")
        assert_close(found.norm(), norm, "float64", f"norm of map {number}")


@pytest.mark.parametrize("case", golden("train"), ids=name_case)
def test_training_pass(case):
    reference = reference_network(case["model"], seed=case["seed"]).train()
    images, masks = (torch.from_numpy(draw(case["batch"], case["size"], case["seed"])).double()
                     for draw in (deterministic.images, deterministic.masks))
    losses = reference.losses(reference(images), masks)
    sum(losses).backward()

    assert_close([loss.item() for loss in losses], case["losses"], "float64", "losses")
    gradients = {name: value.grad.numpy() for name, value in reference.named_parameters()
                 if value.grad is not None}
    assert set(gradients) == set(case["gradients"])
    for name, figure in case["gradients"].items():
        probe = deterministic.stream("probe" + name, case["seed"]).normal(size=gradients[name].shape)
        found = [np.linalg.norm(gradients[name]), (gradients[name] * probe).sum()]
        assert_close(found, figure, "float64", f"norm and projection of the gradient of {name}")
    statistics = {name: reference.state_dict()[name].norm().item() for name in case["running_statistics"]}
    for name, norm in case["running_statistics"].items():
        assert_close(statistics[name], norm, "float64", name)


@pytest.mark.parametrize("index", range(2), ids=["binary", "soft"])
def test_losses(index):
    from jittor_pranet.reference_torch import v1_loss, v2_loss

    case, expected = golden("loss")[index], golden_arrays("loss")
    shape = (case["batch"], case["channels"], case["size"], case["size"])
    rng = deterministic.stream(f"loss{case['seed']}", case["seed"])
    fg, bg = (torch.from_numpy(rng.normal(0, 2, shape).astype(np.float32)).double().requires_grad_()
              for _ in range(2))
    draw = soft_masks if case["soft"] else deterministic.masks
    mask = draw(case["batch"], case["size"], case["seed"], case["channels"]).astype(np.float64)
    assert_close(mask.sum(), case["gt_sum"], "float64", "mask")
    mask = torch.from_numpy(mask)
    loss = v2_loss(fg, bg, mask)
    assert_close([loss.item(), v1_loss(fg, mask).item()], [case["v2"], case["v1"]], "float64", "losses")
    for gradient, side, norm in zip(torch.autograd.grad(loss, [fg, bg]), ("fg", "bg"), case["grad_norm"]):
        sampled = expected[f"case{index}_grad_{side}"]
        stride = gradient.shape[-1] // sampled.shape[-1]
        assert_close(gradient[..., ::stride, ::stride], sampled, "float64", f"gradient of {side}")
        assert_close(gradient.norm(), norm, "float64", f"norm of the gradient of {side}")


@pytest.mark.parametrize("name", PUBLISHED_STATE)
def test_names_shapes_and_order_are_the_published_ones(name):
    own = [[key, list(value.shape)] for key, value in reference_of(name).state_dict().items()]
    assert own == PUBLISHED_STATE[name]


@pytest.mark.parametrize("name", PUBLISHED_STATE)
def test_weights_go_to_pytorch_and_back_unchanged(name, tmp_path):
    """Our file, strictly into PyTorch, saved there as .pth, strictly into a fresh network of ours."""
    from lib import build_model
    from utils.checkpoint import load_weights, save_weights

    classes = published_classes(name)
    model, reference, fresh = seeded_network(name, classes), reference_of(name), build_model(name, classes)
    save_weights(model, tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz") as file:
        reference.load_state_dict({key: torch.from_numpy(value) for key, value in file.items()}, strict=True)
    torch.save(reference.state_dict(), tmp_path / "theirs.pth")
    load_weights(fresh, tmp_path / "theirs.pth", strict=True)

    published = {key: shape for key, shape in PUBLISHED_STATE[name]
                 if not key.endswith("num_batches_tracked")}
    for state in (reference.state_dict(), fresh.state_dict()):
        arrived = {key: state[key].numpy() for key in state if not key.endswith("num_batches_tracked")}
        assert {key: list(value.shape) for key, value in arrived.items()} == published
        for key, value in arrived.items():
            np.testing.assert_array_equal(value, deterministic.weights(key, value.shape), err_msg=key)

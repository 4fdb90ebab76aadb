"""Set-up that all tests share: on which device they run."""

from __future__ import annotations

import os

import pytest

from utils import backend, cuda


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"),
                     help="where Jittor computes: cpu, or cuda for the tests marked gpu (which -m gpu means)")


def pytest_configure(config: pytest.Config) -> None:
    """The variable reaches the programs that tests start as well."""
    os.environ[backend.DEVICE_VARIABLE] = _device(config)


def _device(config: pytest.Config) -> str:
    return config.getoption("--device") or ("cuda" if config.getoption("markexpr") == "gpu" else "cpu")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On CUDA runs the tests marked `gpu`, or skips them where it is not whole, and says what is missing."""
    if _device(config) == "cpu":
        return
    config.hook.pytest_deselected(items=[item for item in items if not item.get_closest_marker("gpu")])
    items[:] = [item for item in items if item.get_closest_marker("gpu")]
    missing = "; ".join(cuda.find().missing)
    if missing:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture
def on_cuda() -> None:
    """Skips a test that has nothing to say where Jittor computes on the CPU."""
    if os.environ[backend.DEVICE_VARIABLE] != "cuda":
        pytest.skip("compares CUDA with the CPU: run it by --device cuda")

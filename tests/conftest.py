"""Set-up that all tests share: on which device they run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator

import pytest

from utils import signals
from utils.runtime import cuda
from utils.runtime.device import DEVICE_VARIABLE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"),
                     help="where Jittor computes: cpu, or cuda for the tests marked gpu (which -m gpu means)")


def _on_cuda(config: pytest.Config) -> bool:
    asked = config.getoption("--device")
    return asked == "cuda" or (asked is None and config.getoption("markexpr") == "gpu")


def pytest_configure(config: pytest.Config) -> None:
    """The variable reaches the programs that tests start as well, and so does whether Ctrl-C is ignored, as a
    shell has it for what it runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    usable = _on_cuda(config) and not cuda.find().problems
    os.environ[DEVICE_VARIABLE] = "cuda" if usable else "cpu"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For CUDA leaves the tests marked `gpu`, or skips them where it cannot be used and says why."""
    if not _on_cuda(config):
        return
    marked = [item for item in items if item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=[item for item in items if item not in marked])
    items[:] = marked
    problems = "; ".join(cuda.find().problems)
    for item in marked if problems else ():
        item.add_marker(pytest.mark.skip(reason=problems))


@pytest.fixture(scope="module", autouse=True)
def tidy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Takes away what a module has written, up to 5 GB of weights, once all of its tests have passed."""
    folder, failed = tmp_path_factory.getbasetemp(), request.session.testsfailed
    before = set(folder.iterdir())
    yield
    if request.session.testsfailed == failed:
        for path in set(folder.iterdir()) - before:
            path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_signal_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program takes one signal at most; here many tests that do are one process."""
    monkeypatch.setattr(signals, "_noted", 0)


@pytest.fixture
def on_cuda() -> None:
    """Skips a test that has nothing to say where Jittor computes on the CPU."""
    if os.environ[DEVICE_VARIABLE] != "cuda":
        pytest.skip("compares CUDA with the CPU: run it by --device cuda")


@pytest.fixture(params=["fused", "plain"])
def formulas(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs a test on the fused operations and on the plain formulas beside them."""
    from lib import ops

    ops.use_plain_ops(request.param == "plain")
    yield
    ops.use_plain_ops(False)

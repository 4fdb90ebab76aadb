"""The benchmark's comparisons: what is timed is the same work, and what is said of the timings is right."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jittor_pranet.__main__ import main
from jittor_pranet.benchmarks import cold_start, comparison
from jittor_pranet.benchmarks.comparison import CandidateError, CandidateProcess, Comparison
from jittor_pranet.benchmarks.frameworks import Jittor, Torch
from jittor_pranet.benchmarks.network_tasks import GMAC
from jittor_pranet.benchmarks.op_tasks import CASES, PARAMETERS, Operation, parameter_shapes
from jittor_pranet.benchmarks.report import Report
from jittor_pranet.benchmarks.timing import Timings, paired_ratio, quartiles
from lib.registry import NETWORKS
from tests.helpers.compare import assert_close, parity_bound
from tests.helpers.polyp_sets import write_set
from tests.utils.test_parallel import readers
from utils.progress import Progress


def benchmark(*arguments) -> int:
    return main(["benchmark", "--device", "cpu", "--testsize", "64", "--rounds", "2", *map(str, arguments)])


# ---------------------------------------------------------------- what is said of timings


def test_statistics_of_timings():
    assert quartiles([5.0]) == (5.0, 5.0, 5.0)
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 3.0, 4.0)
    # The third round was disturbed: a ratio of means would say 1.5, the pairs all say 2.
    jittor, torch = [2.0, 4.0, 20.0], [1.0, 2.0, 10.0]
    assert paired_ratio(jittor, torch) == 2.0
    assert Timings(torch).as_json(Timings([2.0, 2.0, 2.0])) == {
        "seconds": torch, "quartiles": (1.5, 2.0, 6.0), "ours_over_this": {"paired": 1.0, "medians": 1.0}}
    for reference in (timings := Timings(torch)), Timings(jittor, "killed"):
        assert timings.as_json(reference) == {"seconds": torch, "quartiles": (1.5, 2.0, 6.0)}


@pytest.mark.parametrize("name", NETWORKS)
def test_multiplications_of_the_networks(name):
    torch = pytest.importorskip("torch")
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from jittor_pranet.reference_torch import build_torch_model

    reference = build_torch_model(name).eval().to("meta")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reference(torch.zeros(1, 3, 352, 352, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(GMAC[name], rel=1e-3)


# ---------------------------------------------------------------- the same work


@pytest.mark.parametrize(("what", "differences"), [("infer", 1), ("train", 2)])
def test_networks_beside_pytorch(what, differences, tmp_path, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "timings" / "report.json"
    assert benchmark("--what", what, "--bs", 2, "--json", path) == 0
    report = json.loads(path.read_text())
    assert report["complete"] and report["settings"]["what"] == what and report["gmac_per_s"] > 0
    assert set(report["contenders"]) == {"jittor", "torch"} and "threads" in report["contenders"]["torch"]
    row, = report["rows"]
    assert (row["network"], row["batch"]) == ("PraNet-V2", 2) and row["floor_seconds"] > 0
    jittor, torch = row["contenders"]["jittor"], row["contenders"]["torch"]
    for each in (jittor, torch):
        assert len(each["seconds"]) == 2 and min(each["seconds"]) > row["floor_seconds"]
        assert each["peak_bytes"] > 100 * 2**20  # the parameters alone have more
    assert torch["ours_over_this"]["paired"] == paired_ratio(jittor["seconds"], torch["seconds"])
    assert torch["differences"][0] < parity_bound(0, "forward")
    if what == "train":  # on so few pixels a step differs by as much as PyTorch's own float32 does
        assert 0 < torch["differences"][1] < 1e-2
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("| PraNet-V2 | 2 | torch |"))
    cells = line.strip("| ").split(" | ")
    assert cells[3] == f"{500 * torch['quartiles'][1]:.4g}"  # ms per image
    assert len(cells[8].split(", ")) == differences


@pytest.mark.parametrize("case", ["resize map x1/4", "loss of a pair of maps, V2",
                                  "loss of 9 classes, 224 px"])
def test_operations_do_the_same_forward_and_backward(case):
    pytest.importorskip("torch")
    jittor, torch = Jittor("cpu", "fp32"), Torch("cpu", "fp32")
    for backward in (False, True):
        task = Operation(case, backward)
        values, expected = (each.to_numpy(each.callable_for(task)()) for each in (jittor, torch))
        inputs = CASES[case].inputs()[:CASES[case].differentiated]
        assert len(values) == len(expected) == (1 + len(inputs) if backward else 1)
        for value, reference in zip(values, expected):
            assert np.abs(value - reference).max() < parity_bound(0, "forward") * np.abs(reference).max()


def test_least_traffic_of_an_operation():
    task = Operation("resize map x1/4", False)
    result, gradient = np.zeros((4, 1, 11, 11), np.float32), np.zeros((4, 1, 44, 44), np.float32)
    assert task.traffic([result]) == result.nbytes + gradient.nbytes
    both = Operation("resize map x1/4", True).traffic([result, gradient])
    assert_close(both, 2 * result.nbytes + 3 * gradient.nbytes, "float64")


def test_adam_is_timed_on_the_same_parameters_in_both():
    pytest.importorskip("torch")
    from jittor_pranet.reference_torch import build_torch_model
    from lib import build_model

    shapes = parameter_shapes(build_model("PraNet-V2"))
    assert shapes == parameter_shapes(build_torch_model("PraNet-V2"))
    assert sum(map(np.prod, shapes)) == PARAMETERS


# ---------------------------------------------------------------- candidates that fail


@dataclass(frozen=True)
class Ending:
    """Works once, then ends its process."""

    def in_torch(self, torch):
        calls = []

        def work():
            calls.append(None)
            if len(calls) > 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return [0.0]
        return work


@dataclass(frozen=True)
class Refusing:
    def in_torch(self, torch):
        raise MemoryError("1 TiB cannot\nbe had")


def test_failures_stand_in_the_table(capsys):
    pytest.importorskip("torch")
    rounds = Comparison(["torch"], "cpu", False, 2, Report(None, "cpu", {}))
    process = CandidateProcess("torch", "cpu", False)
    for task, message in ((Refusing(), "MemoryError: 1 TiB cannot be had"),
                          (Ending(), "killed, most likely for want of memory")):
        with Progress(rounds.steps, "timing", "step") as progress:
            outcome = rounds.time({"torch": process}, task, progress)["torch"]
            assert progress.done == rounds.steps
        assert message in outcome.failure and outcome.as_json(outcome)["failure"] == outcome.failure
    with pytest.raises(CandidateError, match="killed"):
        process.ask("describe")
    process.close()


def test_a_start_counts_once_the_cache_is_warm(monkeypatch, tmp_path, capsys):
    seen = set()

    class Started:
        """Compiles in its first process for a task only; PyTorch cannot do the second task."""

        def __init__(self, name, *_):
            self.name = name

        def ask(self, request, task=None):
            if request == "describe":
                return {"version": "1"}
            if (self.name, type(task)) == ("torch", cold_start.TrainingStep):
                raise CandidateError("killed")
            fresh = (self.name, task) not in seen
            seen.add((self.name, task))
            return 17 * fresh

        def close(self):
            pass

    monkeypatch.setattr(comparison, "CandidateProcess", Started)
    monkeypatch.setattr(comparison, "check_baselines", lambda names: None)
    assert benchmark("--what", "cold_start", "--json", tmp_path / "report.json") == 1
    first, second = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert first["contenders"]["jittor"]["compiled"] == [17, 0, 0]
    assert len(first["contenders"]["torch"]["seconds"]) == 2
    assert second["contenders"]["torch"] == {"failure": "killed"} and second["until"] == "training step"
    printed = capsys.readouterr().out
    assert "17 before, 0 while timed |" in printed and "| torch | killed |" in printed


# ---------------------------------------------------------------- reading training data


@pytest.fixture
def root(tmp_path) -> Path:
    return write_set(tmp_path / "TrainDataset", 7)


def test_the_timing_names_every_way_to_read_and_what_training_takes(root, capsys):
    arguments = ["benchmark", "--what", "data", "--train_path", str(root), "--trainsize", "64", "--batchsize",
                 "2", "--rounds", "1", "--images", "9", "--workers", "0", "1"]
    assert main([*arguments, "--step_seconds", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "training           66.7 images/s; a batch has 3 steps in 0.03 s" in printed
    assert re.findall(r"^(--.*?) +[0-9.]+ images/s; training waits [0-9.]+ ms", printed, re.MULTILINE) == [
        "--workers 0", "--workers 1", "--cache ram"]
    assert not readers()


def test_training_is_timed_by_the_seconds_of_its_second_batch(root, capsys, monkeypatch):
    def train(command, **_):
        assert command[command.index("--max_steps") + 1] == "6"
        folder = Path(command[command.index("--train_save") + 1])
        rows = "".join(f"{step},{seconds}\n" for step, seconds in enumerate((90, 50, 40, 0.1, 0.2, 0.3), 1))
        (folder / "log.csv").write_text("step,seconds\n" + rows)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr("jittor_pranet.benchmarks.data.subprocess.run", train)
    arguments = ["benchmark", "--what", "data", "--train_path", str(root), "--trainsize", "64", "--rounds",
                 "1", "--images", "1", "--workers", "0"]
    code = 0
    assert main(arguments) == 0
    assert "13.3 images/s; a batch has 3 steps in 0.6 s" in capsys.readouterr().out
    code = 2
    assert main(arguments) == 2
    assert "the training to be timed has failed" in capsys.readouterr().err
    assert main(arguments[:3]) == 2
    assert "--what data needs --train_path" in capsys.readouterr().err


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(("arguments", "message"), [
    (("--what", "infer", "--model_type", "PraNet-V3"), "the known ones are PraNet-V1"),
    (("--what", "train", "--testsize", "100"), "96 or 128 would do"),
    (("--what", "infer", "--json", "/proc/none/report.json"), "/proc/none/report.json: cannot be written"),
    (("--what", "data", "--train_path", ".", "--model_type", *NETWORKS), "needs one network"),
])
def test_mistakes_are_named_before_anything_starts(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "CandidateProcess", None)
    monkeypatch.setattr(comparison, "check_baselines", lambda names: None)
    assert benchmark(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("what", ["infer", "ops", "cold_start"])
def test_missing_pytorch_is_named(what, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert benchmark("--what", what) == 2
    error = capsys.readouterr().err
    assert "--against torch: PyTorch is missing" in error and "requirements-torch.txt" in error

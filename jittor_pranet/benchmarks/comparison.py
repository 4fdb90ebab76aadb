"""Times candidates, Jittor and its baselines, on the same task in rounds, each in a process of its own."""

from __future__ import annotations

import importlib.util
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jittor_pranet.benchmarks import worker
from jittor_pranet.benchmarks.report import JITTOR, Report
from jittor_pranet.benchmarks.timing import Timings
from utils.errors import UserError
from utils.files import PROJECT_ROOT
from utils.progress import Progress
from utils.runtime import precisions
from utils.runtime.device import choose_device

BASELINES = tuple(name for name in worker.FRAMEWORKS if name != JITTOR)


@dataclass(frozen=True)
class Options:
    """The flags of --what infer, train, ops and cold_start."""

    what: str
    model_type: list[str]
    bs: list[int]
    testsize: int
    device: str
    precision: str
    against: list[str]
    rounds: int
    json: Path | None


def check_baselines(names: list[str]) -> None:
    """Raises UserError where PyTorch is asked for and is not installed."""
    if any(name.startswith("torch") for name in names) and importlib.util.find_spec("torch") is None:
        requirements = PROJECT_ROOT / "requirements-torch.txt"
        raise UserError(f"--against {' '.join(names)}: PyTorch is missing; run: {sys.executable} -m pip "
                        f"install -r {requirements}, or give --against without a value to time ours alone")


class CandidateError(Exception):
    """A candidate could not do what it was asked; the text says why."""


class CandidateProcess:
    """A process that serves the requests of a `worker.Candidate`."""

    def __init__(self, name: str, device: str, precision: str):
        context = multiprocessing.get_context("spawn")  # Jittor and CUDA do not survive a fork
        self.connection, other = context.Pipe()
        self.process = context.Process(target=worker.serve, args=(other, name, device, precision),
                                       daemon=True)
        self.process.start()
        other.close()

    def ask(self, *request):
        """The result of a request. Raises CandidateError if it fails, or if the process is gone."""
        try:
            self.connection.send(request)
            done, result = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise CandidateError(_exit_reason(self.process.exitcode)) from None
        if not done:
            raise CandidateError(result)
        return result

    def close(self) -> None:
        self.connection.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _exit_reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed, most likely for want of memory"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@dataclass
class Outcome(Timings):
    """What a candidate did: seconds of a call, by round, after a warm-up, and the peak memory in bytes."""

    warm_up: worker.WarmUp | None = None
    peak: int | None = None

    def differences(self, other: Outcome) -> list[float]:
        """Largest difference of the first two calls' outputs, in units of the other's largest value, or of 1
        where that is 0."""
        return [max(float(np.abs(mine - its).max() / (np.abs(its).max() or 1)) for mine, its in zip(*calls))
                for calls in zip(self.warm_up.outputs, other.warm_up.outputs)]

    def as_json(self, jittor: Outcome) -> dict:
        if self.failure:
            return {"failure": self.failure, "seconds": self.seconds}
        entry = {**super().as_json(jittor), "peak_bytes": self.peak,
                 "warm_up_seconds": self.warm_up.seconds, "warm_up_calls": self.warm_up.calls}
        return {**entry, "differences": jittor.differences(self)} if self.comparable_with(jittor) else entry


@dataclass(frozen=True)
class Comparison:
    """The candidates by name, on which device, and how often each is timed; and the report of it."""

    names: list[str]
    device: str
    precision: str
    rounds: int
    report: Report

    @classmethod
    def of(cls, options: Options, **settings) -> Comparison:
        """Raises UserError where the device, its precision or PyTorch is asked for and missing."""
        check_baselines(options.against)
        device = choose_device(options.device)
        precisions.check(options.precision, device)
        settings = {"what": options.what, "device": device, "rounds": options.rounds, **settings,
                    "precision": options.precision}
        return cls([JITTOR, *options.against], device, options.precision, options.rounds,
                   Report(options.json, device, settings))

    @property
    def steps(self) -> int:
        """Steps of progress that `time` makes."""
        return len(self.names) * (self.rounds + 2)

    def start(self, name: str) -> CandidateProcess:
        return CandidateProcess(name, self.device, self.precision)

    @contextmanager
    def processes(self) -> Iterator[dict[str, CandidateProcess]]:
        """One of each candidate, which end with the block."""
        with ExitStack() as stack:
            yield {name: stack.enter_context(closing(self.start(name))) for name in self.names}

    def describe(self, processes: dict[str, CandidateProcess]) -> None:
        """Puts into the report what each candidate says of itself."""
        for name, process in processes.items():
            try:
                self.report.candidate(name, process.ask("describe"))
            except CandidateError as error:
                self.report.candidate(name, {"failure": str(error)})

    def time(self, processes: dict[str, CandidateProcess], task, progress: Progress) -> dict[str, Outcome]:
        """Warms the candidates up one after another, then times them in rounds: A B, A B, ..."""
        outcomes = {name: Outcome() for name in processes}

        def ask(name: str, *request):
            """None once the candidate has failed."""
            progress.step(note=f"{task}, {name}")
            if outcomes[name].failure is None:
                try:
                    return processes[name].ask(*request)
                except CandidateError as error:
                    outcomes[name].failure = str(error)
            return None

        for name, outcome in outcomes.items():
            outcome.warm_up = ask(name, "warm_up", task)
        for _ in range(self.rounds):
            for name, outcome in outcomes.items():
                seconds = ask(name, "time")
                if seconds is not None:
                    outcome.seconds.append(seconds)
        for name, outcome in outcomes.items():
            outcome.peak = ask(name, "peak")
        return outcomes

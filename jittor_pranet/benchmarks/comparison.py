"""Lets contenders do the same task in turns, each in a process of its own."""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from jittor_pranet.benchmarks import worker
from jittor_pranet.benchmarks.report import Report
from jittor_pranet.benchmarks.timing import quartiles, summary
from utils.errors import UserError
from utils.files import PROJECT_ROOT
from utils.progress import Progress
from utils.runtime import precisions
from utils.runtime.device import choose_device

OURS = "jittor"
OPPONENTS = tuple(name for name in worker.FRAMEWORKS if name != OURS)


def check_opponents(names: list[str]) -> None:
    """Raises UserError where PyTorch is asked for and is not installed."""
    if any(name.startswith("torch") for name in names) and importlib.util.find_spec("torch") is None:
        requirements = PROJECT_ROOT / "requirements-torch.txt"
        raise UserError(f"--against {' '.join(names)}: PyTorch is missing; run: {sys.executable} -m pip "
                        f"install -r {requirements}, or give --against without a value to time ours alone")


class Failed(Exception):
    """A contender could not do what it was asked; the text says why."""


class Contender:
    """A process that serves requests; see `worker.Contender` for them."""

    def __init__(self, name: str, device: str, precision: str):
        context = multiprocessing.get_context("spawn")  # Jittor and CUDA do not survive a fork
        self.connection, other = context.Pipe()
        self.process = context.Process(target=worker.serve, args=(other, name, device, precision),
                                       daemon=True)
        self.process.start()
        other.close()

    def ask(self, *request):
        """The result of a request. Raises Failed if it cannot be done, or if the process is gone."""
        try:
            self.connection.send(request)
            done, result = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Failed(_how_it_ended(self.process.exitcode)) from None
        if not done:
            raise Failed(result)
        return result

    def close(self) -> None:
        self.connection.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _how_it_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed, most likely for want of memory"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@dataclass
class Outcome:
    """What a contender did: seconds of a call, by round; bytes; `failure` says why, if it could not."""

    warm_up: worker.WarmUp | None = None
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None
    failure: str | None = None

    @property
    def median(self) -> float:
        return quartiles(self.seconds)[1]

    def differences(self, other: Outcome) -> list[float]:
        """Largest difference of the first two calls' outputs, in units of the other's largest value, or of 1
        where that is 0."""
        return [max(float(np.abs(mine - its).max() / (np.abs(its).max() or 1)) for mine, its in zip(*calls))
                for calls in zip(self.warm_up.outputs, other.warm_up.outputs)]

    def as_json(self, ours: Outcome) -> dict:
        if self.failure:
            return {"failure": self.failure, "seconds": self.seconds}
        alone = ours is self or ours.failure
        found = {**summary(self.seconds, None if alone else ours.seconds), "peak_bytes": self.peak,
                 "warm_up_seconds": self.warm_up.seconds, "warm_up_calls": self.warm_up.calls}
        return found if alone else {**found, "differences": ours.differences(self)}


@dataclass(frozen=True)
class Contest:
    """Who takes part, on which device, and how often each is timed; and the report of it."""

    names: list[str]
    device: str
    precision: str
    rounds: int
    report: Report

    @classmethod
    def of(cls, args: argparse.Namespace, **settings) -> Contest:
        """Raises UserError where the device, its precision or PyTorch is asked for and missing."""
        check_opponents(args.against)
        device = choose_device(args.device)
        precisions.check(args.precision, device)
        settings = {"what": args.what, "device": device, "rounds": args.rounds, **settings,
                    "precision": args.precision}
        return cls([OURS, *args.against], device, args.precision, args.rounds,
                   Report(args.json, device, settings))

    @property
    def turns(self) -> int:
        """Steps of progress that `compete` makes."""
        return len(self.names) * (self.rounds + 2)

    @contextmanager
    def contenders(self) -> Iterator[dict[str, Contender]]:
        """All, started, and ended with the block."""
        with ExitStack() as stack:
            started = {}
            for name in self.names:
                started[name] = Contender(name, self.device, self.precision)
                stack.callback(started[name].close)
            yield started

    def introduce(self, started: dict[str, Contender]) -> None:
        """Puts into the report what each contender says of itself."""
        for name, each in started.items():
            try:
                self.report.contender(name, each.ask("describe"))
            except Failed as failure:
                self.report.contender(name, {"failure": str(failure)})

    def compete(self, started: dict[str, Contender], task, progress: Progress) -> dict[str, Outcome]:
        """Warms the contenders up one after another, then times them in turns: A B, A B, ..."""
        outcomes = {name: Outcome() for name in started}

        def ask(name: str, *request):
            """None once the contender has failed."""
            progress.step(note=f"{task}, {name}")
            if outcomes[name].failure is None:
                try:
                    return started[name].ask(*request)
                except Failed as failure:
                    outcomes[name].failure = str(failure)
            return None

        for name, outcome in outcomes.items():
            outcome.warm_up = ask(name, "begin", task)
        for _ in range(self.rounds):
            for name, outcome in outcomes.items():
                seconds = ask(name, "time")
                if seconds is not None:
                    outcome.seconds.append(seconds)
        for name, outcome in outcomes.items():
            outcome.peak = ask(name, "peak")
        return outcomes

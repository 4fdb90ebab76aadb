"""The folder that programs are attacked in: their inputs, and what each of them writes when left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.paths import ROOT
from tests.tools.attack.checks import differences, outputs, tree

INPUTS, OUT = "inputs", "out"  # below the scene's folder, where the programs are started
PATIENCE_S = 400  # for a program; it has hung if it takes longer
GRACE_S = 30  # for the processes of a program that has ended
SIZE = "64"
UNSEEMLY = ("Traceback", "Exception ignored", "Caught segfault", "core dumped")


@dataclass(frozen=True)
class Program:
    """A program with its flags; what it writes goes to `OUT`."""

    name: str
    flags: tuple[str, ...]
    more: tuple[str, ...] = ()  # flags that change no result, each taken or not

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "jittor_pranet", self.name, *self.flags]


PROGRAMS = {program.name: program for program in (
    Program("train", ("--train_path", "inputs/TrainDataset", "--train_save", OUT, "--resume", "auto",
                      "--trainsize", SIZE, "--batchsize", "2", "--epoch", "2", "--save_steps", "2",
                      "--ema", "0.9", "--device", "cpu"), ("--workers=0", "--workers=3", "--cache=ram")),
    Program("test", ("--weights", "inputs/weights.npz", "--test_path", "inputs/TestDataset", "--save_path",
                     OUT, "--testsize", SIZE, "--overlays", "--evaluate", "--device", "cpu"),
            ("--workers=0", "--bs=3")),
    Program("predict", ("inputs/TestDataset", "--weights", "inputs/weights.npz", "--out", OUT, "--testsize",
                        SIZE, "--device", "cpu"), ("--workers=0", "--batch=1", "--batch=7")),
    Program("evaluate", ("--pred_root", "inputs/maps", "--gt_root", "inputs/TestDataset", "--result_path",
                         OUT), ("--workers=1", "--workers=2")))}


@dataclass
class Run:
    """A program at work, in a session of its own.

    Attributes:
        text: what it said on stderr, once it has ended.
    """

    command: list[str]
    folder: Path
    stderr: Path = field(init=False)
    text: str = ""

    def __post_init__(self) -> None:
        self.stderr = self.folder / f"stderr.{time.monotonic_ns()}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        with open(self.stderr, "wb") as said:
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=environment, stderr=said,
                                            stdout=subprocess.DEVNULL, start_new_session=True)

    @property
    def code(self) -> int | None:
        """The exit code, negative after a signal; None while the program runs."""
        return self.process.poll()

    def end(self, *codes: int) -> list[str]:
        """Waits for the program. Returns what is wrong with how it ended, where one of ``codes`` is right."""
        problems = []
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            problems.append(f"had not ended after {PATIENCE_S} s")
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if not problems and self.code not in codes:
            problems.append(f"exit code {self.code}, expected one of {', '.join(map(str, codes))}")
        if self._survivors():
            problems.append(f"left processes behind after {GRACE_S} s")
            os.killpg(self.process.pid, signal.SIGKILL)
        self.text = self.stderr.read_text(errors="replace")
        self.stderr.unlink()
        lines = self.text.strip().splitlines()
        problems += [f"said {word!r}" for word in UNSEEMLY if word in self.text]
        if self.code == 2 and not (lines and lines[-1].startswith("error: ")):
            problems.append("exit code 2 without a line that says why")
        return [f"{problem}:\n{self.text[-3000:]}" for problem in problems]

    def _survivors(self) -> bool:
        deadline = time.monotonic() + GRACE_S
        while members(self.process.pid):
            if time.monotonic() > deadline:
                return True
            time.sleep(0.05)
        return False


def members(session: int) -> list[int]:
    """The processes of a session, but for those that have ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has gone meanwhile
            continue
        if int(number) == session and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def command_of(process: int) -> bytes:
    """The command line of a process; empty if it has gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


class Scene:
    """A folder with inputs/, and the outputs of each program that nobody disturbed.

    Attributes:
        targets: the programs that are to be attacked.
        seconds: how long each program took.
    """

    def __init__(self, folder: Path, targets: Sequence[str]):
        self.folder, self.out, self.targets = folder, folder / OUT, targets
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, dict] = {}
        self.run([sys.executable, "-m", "jittor_pranet", "demo", "--out", INPUTS, "--train", "3", "--test",
                  "9", "--size", "64"])
        for name in PROGRAMS:
            self._leave_alone(name)
        self.inputs = tree(folder / INPUTS)

    def _leave_alone(self, name: str) -> None:
        """Runs a program to its end, keeps what it wrote, and gives the next ones what they need of it."""
        start = time.monotonic()
        self.run(PROGRAMS[name].command)
        self.seconds[name], self.expected[name] = time.monotonic() - start, outputs(self.out)
        if name == "train":
            shutil.copy(self.out / "last.npz", self.folder / INPUTS / "weights.npz")
        if name == "test":
            shutil.copytree(self.out / "Synthetic", self.folder / INPUTS / "maps" / "Synthetic")
        self.out.rename(self.whole(name))

    def whole(self, name: str) -> Path:
        """The folder with what a program wrote when left alone."""
        return self.folder / f"whole-{name}"

    def run(self, command: list[str], *codes: int) -> None:
        """Runs a program that must succeed, or nothing can be attacked."""
        problems = Run(command, self.folder).end(*codes or (0,))
        if problems:
            raise RuntimeError("\n".join([" ".join(command), *problems]))

    def check_inputs(self) -> list[str]:
        return differences(tree(self.folder / INPUTS), self.inputs, "input ")

    def clear(self) -> None:
        """Takes away what the last case has left."""
        for name in (OUT, "bad", "kept"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

"""The ways of attacking a program. Each draws its choices when it is made, so that a seed makes it again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.damage import damage
from tests.tools.attack.checks import broken, differences, half_written, outputs, tree
from tests.tools.attack.scene import INPUTS, OUT, PROGRAMS, Run, Scene, command_of, members

ENDED_BY = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130, -2)}


class Case:
    """One attack on one program.

    Attributes:
        counts: what was done, for the summary.
    """

    def __init__(self, scene: Scene, rng: random.Random):
        self.scene, self.rng, self.counts = scene, rng, Counter()
        self.program = PROGRAMS[rng.choice(scene.targets)]
        self.command = [*self.program.command, *(flag for flag in self.program.more if rng.random() < 0.3)]

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.program.name}"

    def run(self) -> list[str]:
        """Attacks, lets the program end its work, and returns what is wrong afterwards."""
        problems = self.attack()
        problems += [*broken(self.scene.out), *self.complete()]
        return problems + self.scene.check_inputs()

    def attack(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> Run:
        return Run(self.command, self.scene.folder)

    def complete(self) -> list[str]:
        """Runs the program once more, undisturbed: all must be there, to the bit, and nothing else."""
        problems = self.start().end(0)
        return problems + differences(outputs(self.scene.out), self.scene.expected[self.program.name],
                                      "output ")

    def end_cleanly(self, run: Run, *codes: int) -> list[str]:
        """As `Run.end`; a program that ended by itself leaves nothing half written."""
        before = half_written(self.scene.out)
        problems = run.end(*codes)
        if run.code >= 0:
            problems += [f"left half written: {name}" for name in half_written(self.scene.out) - before]
        return problems


class Killed(Case):
    """Signals at random moments, again and again."""

    def __init__(self, scene: Scene, rng: random.Random):
        super().__init__(scene, rng)
        self.kills = [self._draw() for _ in range(rng.choice((1, 1, 2, 3)))]

    def _draw(self) -> tuple[int, int, float, str, float]:
        """A signal, how often, seconds between, what to wait for first, and the part of a run after that."""
        rng = self.rng
        number = rng.choice((signal.SIGKILL,) * 3 + (signal.SIGTERM,) * 2 + (signal.SIGINT,))
        times = 1 if number == signal.SIGKILL else rng.choice((1, 1, 2, 5))
        until = rng.choice(("", "", "written", "half written"))
        return (number, times, rng.choice((0, 0.005, 0.05, 0.4)), until,
                rng.random() * (0.05 if until else 1.1))

    def attack(self) -> list[str]:
        return [problem for kill in self.kills for problem in self._kill(*kill)]

    def _kill(self, number: int, times: int, between: float, until: str, part: float) -> list[str]:
        run = self.start()
        before = self._count(until)
        while until and run.code is None and self._count(until) <= before:
            time.sleep(0.002)
        end = time.monotonic() + part * self.scene.seconds[self.program.name]
        while run.code is None and time.monotonic() < end:
            time.sleep(0.001)
        for _ in range(times if run.code is None else 0):
            run.process.send_signal(number)
            time.sleep(between)
        self.counts[signal.Signals(number).name] += run.code is None or run.code != 0
        return [f"after {times} {signal.Signals(number).name}: {problem}"
                for problem in self._end(run, number)]

    def _end(self, run: Run, number: int) -> list[str]:
        codes = (0, *ENDED_BY[number])
        if number == signal.SIGKILL:
            return run.end(*codes)  # what it leaves half written is for the next run to take away
        return self.end_cleanly(run, *codes)

    def _count(self, until: str) -> int:
        """How many files there are of the kind that is waited for."""
        out = self.scene.out
        return len(half_written(out)) if until == "half written" else sum(1 for _ in out.rglob("*"))


class WorkerKilled(Case):
    """One of the program's own processes is killed, as for want of memory."""

    def __init__(self, scene: Scene, rng: random.Random):
        super().__init__(scene, rng)
        self.part, self.which = rng.random(), rng.random()

    def attack(self) -> list[str]:
        run = self.start()
        end = time.monotonic() + self.part * self.scene.seconds[self.program.name]
        while run.code is None and (time.monotonic() < end or not self._workers(run)):
            time.sleep(0.01)
        workers = self._workers(run)
        if workers:
            self.counts["workers killed"] += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[int(self.which * len(workers))], signal.SIGKILL)
        return self.end_cleanly(run, 0, 2)

    @staticmethod
    def _workers(run: Run) -> list[int]:
        """Those of ours. Where a compiler is killed, Jittor ends the program by itself, with exit code 1;
        where Python's resource tracker is, the next one prints tracebacks. Neither does harm."""
        commands = {member: command_of(member) for member in members(run.process.pid)}
        return sorted(member for member, command in commands.items()
                      if b"multiprocessing" in command and b"resource_tracker" not in command)


class FullDisk(Case):
    """The folder of outputs lies on a disk that is too small, or no file may grow beyond a size."""

    def __init__(self, scene: Scene, rng: random.Random):
        super().__init__(scene, rng)
        sizes = [path.stat().st_size for path in scene.whole(self.program.name).rglob("*") if path.is_file()]
        self.small_disk = rng.random() < 0.7 and may_mount()
        most = sum(sizes) if self.small_disk else max(sizes)
        self.kilobytes = 4 + int(rng.random() * most / 1024)

    def attack(self) -> list[str]:
        self.counts["full disks"] += 1
        out, kept = self.scene.out, self.scene.folder / "kept"
        plain = self.command
        if self.small_disk:
            out.mkdir()
            self.command = ["unshare", "-rm", "bash", "-c", ON_SMALL_DISK, str(self.kilobytes), *plain]
        else:
            self.command = ["bash", "-c", WITH_SMALL_FILES, str(self.kilobytes), *plain]
        run, self.command = self.start(), plain
        problems = run.end(0, 2)
        if self.small_disk:
            out.rmdir()
            kept.rename(out)
        left = [f"left half written: {name}" for name in half_written(out)]
        return [f"with {self.kilobytes} kB: {problem}" for problem in problems + left]


ON_SMALL_DISK = f"""mount -t tmpfs -o size=$0k none {OUT} || exit 99
"$@"; code=$?; cp -a {OUT} kept; exit $code"""
WITH_SMALL_FILES = 'ulimit -f $0; exec "$@"'


def may_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, stderr=subprocess.DEVNULL).returncode


class TwoAtOnce(Case):
    """The same program twice in one folder: the second may be refused, and spoils nothing."""

    def __init__(self, scene: Scene, rng: random.Random):
        super().__init__(scene, rng)
        self.delay = rng.choice((0, rng.random() * scene.seconds[self.program.name]))

    def attack(self) -> list[str]:
        self.counts["pairs"] += 1
        first = self.start()
        time.sleep(self.delay)
        second = self.start()
        problems = [problem for run in (first, second) for problem in run.end(0, 2)]
        if first.code and second.code:
            problems.append(f"both were refused:\n{first.text}{second.text}")
        return [f"two at once, {self.delay:.1f} s apart: {problem}" for problem in problems]


class BadFiles(Case):
    """Files among the inputs that are damaged or no files at all, in a copy of the inputs."""

    def run(self) -> list[str]:
        bad = self.scene.folder / "bad"
        shutil.copytree(self.scene.folder / INPUTS, bad)
        changed = dict(self._spoil(bad) for _ in range(self.rng.choice((1, 2, 5))))
        before = tree(bad)
        self.command = [each.replace(f"{INPUTS}/", "bad/") for each in self.command]
        run = self.start()
        problems = self.end_cleanly(run, 0, 1, 2)
        problems += [*broken(self.scene.out), *differences(tree(bad), before, "input ")]
        if self.program.name == "predict" and run.code != 2:
            problems += self._check_good({path.stem for path in changed})
        what = ", ".join(f"{kind} {str(path.relative_to(bad))!a}" for path, kind in changed.items())
        return [f"with {what}: {problem}" for problem in problems]

    def _check_good(self, bad: set[str]) -> list[str]:
        """The pictures of the good files are as ever, whatever lies beside them."""
        expected = {name: content for name, content in self.scene.expected["predict"].items()
                    if name.endswith(".png") and Path(name).stem not in bad}
        found = outputs(self.scene.out)
        return differences({name: found[name] for name in expected if name in found}, expected, "output ")

    def _spoil(self, bad: Path) -> tuple[Path, str]:
        """Damages a file or puts a bad one in its place or beside it. Returns its path and what it is."""
        self.counts["bad files"] += 1
        path = self.rng.choice([path for path in sorted(bad.rglob("*"))
                                if path.is_file() and not path.is_symlink()])
        if self.rng.random() < 0.5:
            path.write_bytes(damage(path.read_bytes(), np.random.default_rng(self.rng.randrange(1 << 30))))
            return path, "damaged"
        kind, make = self.rng.choice(list(BAD.items()))
        if self.rng.random() < 0.5:
            path = path.with_name(f"{self.rng.choice(NAMES)}{path.suffix}")
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        make(path)
        return path, kind


NAMES = ("new\nline", "no utf-8 \udce9", "=1+1", "-flag", "x" * 240, "with space", "\x1b[31m", "%s{}")
BAD: dict[str, Callable[[Path], object]] = {
    "an empty file": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("polyp"),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "a folder": lambda path: path.mkdir(),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "a picture of 16 bits": lambda path: Image.new("I;16", (8, 8)).save(path, "PNG"),
    "a picture of one pixel": lambda path: Image.new("L", (1, 1)).save(path, "PNG"),
    "a film": lambda path: Image.new("RGB", (8, 8)).save(path, "GIF", save_all=True, append_images=[
        Image.new("RGB", (8, 8), (9, 9, 9))]),
    "an archive": lambda path: path.write_bytes(b"PK\3\4" + bytes(100)),
}


class BadOutputs(Case):
    """Files of an earlier run that are damaged: refused, mended or written again, never a traceback."""

    def run(self) -> list[str]:
        out = self.scene.out
        shutil.copytree(self.scene.whole(self.program.name), out)
        path = self.rng.choice([path for path in sorted(out.rglob("*")) if path.is_file()])
        self.counts["damaged outputs"] += 1
        content = path.read_bytes()
        kind = self.rng.choice(("damaged", "cut", "empty", "away"))
        path.unlink()
        if kind != "away":
            path.write_bytes({"damaged": damage(content, np.random.default_rng(self.rng.randrange(1 << 30))),
                              "cut": content[:self.rng.randrange(len(content))], "empty": b""}[kind])
        problems = self.end_cleanly(self.start(), 0, 2) + self.scene.check_inputs()
        return [f"with {path.relative_to(out)} {kind}: {problem}" for problem in problems]


CASES = (Killed, Killed, Killed, WorkerKilled, FullDisk, TwoAtOnce, BadFiles, BadFiles, BadOutputs)

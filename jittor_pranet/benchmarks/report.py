"""What a benchmark reports: the machine and the versions, a table in Markdown, and all of it as JSON."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from jittor_pranet.benchmarks.timing import Timings
from utils.errors import UserError
from utils.files import atomic_write

JITTOR = "jittor"  # the candidate that the others, its baselines, are compared with


class Report:
    """Prints as it goes; with a ``path`` the JSON there is replaced by a longer one after every row."""

    def __init__(self, path: Path | None, device: str, settings: dict):
        self.path, self.columns, self.failed = path, 0, False
        self.content = {"command": shlex.join(["python", "-m", "jittor_pranet", *sys.argv[1:]]),
                        "machine": machine(device), "settings": settings, "contenders": {}, "rows": [],
                        "complete": False}
        self._describe("machine", self.content["machine"])
        self._describe("settings", settings)
        self._write()

    def candidate(self, name: str, description: dict[str, str]) -> None:
        self.content["contenders"][name] = description
        self._describe(name, description)

    def header(self, *cells: str) -> None:
        self.columns = len(cells)
        print()
        self.line(*cells)
        print("|" + " --- |" * len(cells), flush=True)

    def line(self, *cells: str) -> None:
        """Prints a line of the table, with empty cells at its end where some are missing."""
        print(f"| {' | '.join([*cells, *[''] * (self.columns - len(cells))])} |", flush=True)

    def row(self, labels: dict, timings: Mapping[str, Timings],
            cells: Callable[[Timings, Timings], list[str]], **more) -> None:
        """Adds a task, its labels and the timings of each candidate, to the JSON, and prints a line for each.

        ``cells(timings, those of Jittor)`` stand behind the name of a candidate that did not fail.
        """
        jittor = timings[JITTOR]
        self.content["rows"].append({**labels, **more, "contenders": {name: each.as_json(jittor)
                                                                      for name, each in timings.items()}})
        self._write()
        for name, each in timings.items():
            self.line(*map(str, labels.values()), name,
                      *([each.failure] if each.failure else cells(each, jittor)))
            self.failed |= each.failure is not None

    def complete(self) -> int:
        """Says so in the JSON; returns the exit code, 1 where a candidate has failed."""
        self.content["complete"] = True
        self._write()
        return int(self.failed)

    def _describe(self, name: str, description: dict) -> None:
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in description.items()), flush=True)

    def _write(self) -> None:
        if self.path:
            with atomic_write(self.path, "w") as file:
                json.dump(self.content, file, indent=1)


def machine(device: str) -> dict[str, str]:
    """Processor, its cores that are ours, memory, load averages, and the GPU where it is used."""
    name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = {"CPU": name[1] if name else os.uname().machine, "cores": str(len(os.sched_getaffinity(0))),
             "memory": f"{memory:.0f} GiB", "load": " ".join(f"{load:.1f}" for load in os.getloadavg())}
    return {**parts, "GPU": nvidia("name")} if device == "cuda" else parts


def nvidia(query: str) -> str:
    """What nvidia-smi says of the first GPU. Raises UserError where it does not run."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"nvidia-smi does not say the GPU's {query} ({error}); it comes with the driver, put "
                        "it on PATH") from error

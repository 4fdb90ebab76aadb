"""What a benchmark says: the machine and the versions, a table in Markdown, and all of it as JSON."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from utils.errors import UserError
from utils.files import atomic_write


class Report:
    """Prints as it goes; with a ``path`` the JSON there is replaced by a longer one after every row."""

    def __init__(self, path: Path | None, device: str, settings: dict):
        self.path = path
        self.content = {"command": shlex.join(["python", "-m", "jittor_pranet", *sys.argv[1:]]),
                        "machine": machine(device), "settings": settings, "contenders": {}, "rows": [],
                        "complete": False}
        self._say("machine", self.content["machine"])
        self._say("settings", settings)
        self._write()

    def contender(self, name: str, description: dict[str, str]) -> None:
        if name not in self.content["contenders"]:
            self.content["contenders"][name] = description
            self._say(name, description)

    def row(self, entry: dict) -> None:
        self.content["rows"].append(entry)
        self._write()

    def complete(self) -> None:
        self.content["complete"] = True
        self._write()

    def _say(self, name: str, description: dict) -> None:
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in description.items()), flush=True)

    def _write(self) -> None:
        if self.path:
            with atomic_write(self.path, "w") as file:
                json.dump(self.content, file, indent=1)


def machine(device: str) -> dict[str, str]:
    """Processor, its cores that are ours, memory, load averages, and the GPU where it is used."""
    name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {"CPU": name[1] if name else os.uname().machine, "cores": str(len(os.sched_getaffinity(0))),
             "memory": f"{memory:.0f} GiB", "load": " ".join(f"{load:.1f}" for load in os.getloadavg())}
    return {**found, "GPU": nvidia("name")} if device == "cuda" else found


def nvidia(query: str) -> str:
    """What nvidia-smi says of the first GPU. Raises UserError where it does not run."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"nvidia-smi does not say the GPU's {query} ({error}); it comes with the driver, put "
                        "it on PATH") from error


def print_header(*cells: str) -> None:
    print()
    print_row(*cells)
    print("|" + " --- |" * len(cells), flush=True)


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)

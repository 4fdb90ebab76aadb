"""Prints how the memory of `predict` changes over thousands of small images.

    python -m tests.tools.long_run --weights runs/v2/last.npz

A table in Markdown: images done, and the resident memory of the program and of its reading and writing
processes together, in MB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jittor_pranet.cli.arguments import whole

SIZE = 64  # of the images, and of the network's square, in pixels
ROWS = 20  # of the table


def write_images(folder: Path, count: int) -> None:
    """Noisy pictures of unequal sides, each another one."""
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (SIZE, SIZE + number % 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg")


def memory(process: int) -> int:
    """Resident bytes of a process, 0 if it is gone."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * 4096


def children(process: int) -> list[int]:
    """All processes below one."""
    try:
        direct = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [below for child in map(int, direct) for below in (child, *children(child))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, metavar="FILE")
    parser.add_argument("--images", type=whole(ROWS), default=5000, metavar="N")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "in", Path(name) / "out"
        folder.mkdir()
        write_images(folder, args.images)
        program = subprocess.Popen(
            [sys.executable, "-m", "jittor_pranet", "predict", folder, "--weights", args.weights,
             "--out", out, "--testsize", str(SIZE)], stdout=subprocess.DEVNULL)
        print("| images | program, MB | its processes, MB |\n| --- | --- | --- |")
        shown, table = 0, out / "predictions.csv"
        while program.poll() is None:
            time.sleep(0.2)
            done = table.read_bytes().count(b"\n") - 1 if table.exists() else 0
            if done >= (shown + 1) * args.images // ROWS:
                shown = done * ROWS // args.images
                others = sum(map(memory, children(program.pid)))
                print(f"| {done} | {memory(program.pid) / 1e6:.0f} | {others / 1e6:.0f} |", flush=True)
    sys.exit(program.returncode)


if __name__ == "__main__":
    main()

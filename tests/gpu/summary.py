"""Tables and curves of what `run.sh` trained and measured: python -m tests.gpu.summary FOLDER.

Prints Markdown; writes curves-NETWORK.png into the folder.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from jittor_pranet.training.pictures import write_chart

LAST = 100  # steps whose mean loss is given
SIDES = {"train": "ours", "reference": "PyTorch", "tf32": "ours, tf32", "amp": "ours, amp"}


@dataclass(frozen=True)
class Run:
    """The log of one training, and its mDice (percent) by set."""

    side: str
    network: str
    seed: int
    rows: list[dict[str, float]]
    dice: dict[str, float]

    @property
    def loss(self) -> float:
        return statistics.mean(row["loss"] for row in self.rows[-LAST:])


def read_runs(folder: Path) -> list[Run]:
    results = json.loads((folder / "results.json").read_text())
    runs = []
    methods = results.get("methods") or {Path(results["pred_root"]).name: results}
    for name, method in methods.items():
        kind, network, seed = re.fullmatch(r"(\w+)-(.+)-(\d+)", name).groups()
        with open(folder / f"{name}.csv") as log:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(log)]
        dice = {dataset: 100 * figures["meanDic"] for dataset, figures in method["datasets"].items()}
        runs.append(Run(SIDES[kind], network, int(seed), rows, dice))
    return sorted(runs, key=lambda run: (run.network, list(SIDES.values()).index(run.side), run.seed))


def print_runs(runs: list[Run]) -> None:
    print(f"| network | run | seed | steps | loss of the last {LAST} | minutes | images/s, median |",
          "| --- | --- | --- | --- | --- | --- | --- |", sep="\n")
    for run in runs:
        minutes = sum(row["seconds"] for row in run.rows) / 60
        rate = statistics.median(row["images_per_s"] for row in run.rows)
        print(f"| {run.network} | {run.side} | {run.seed} | {len(run.rows)} | {run.loss:.3f} | {minutes:.1f} "
              f"| {rate:.3g} |")


def print_steps(runs: list[Run]) -> None:
    """How far the losses of ours are from PyTorch's, step by step: of the same batches, and of others."""
    print("\n| network | run | losses differ from PyTorch's of the same seed by | of another seed by |",
          "| --- | --- | --- | --- |", sep="\n")
    for run in (each for each in runs if each.side != "PyTorch"):
        references = [each for each in runs if each.side == "PyTorch" and each.network == run.network]
        for same in (each for each in references if each.seed == run.seed):
            others = [f"{100 * apart(run, each):.1f} %" for each in references if each is not same]
            print(f"| {run.network} | {run.side} {run.seed} | {100 * apart(run, same):.1f} % "
                  f"| {', '.join(others)} |")


def apart(run: Run, reference: Run) -> float:
    """The mean difference of the losses of a step, as a part of the reference's."""
    losses = zip((row["loss"] for row in run.rows), (row["loss"] for row in reference.rows))
    return statistics.mean(abs(ours / theirs - 1) for ours, theirs in losses)


def print_dice(runs: list[Run]) -> None:
    """The mDice of all seeds; a difference of means says something only beyond the seeds' spread."""
    grouped = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for dataset, dice in run.dice.items():
            grouped[run.network, dataset][run.side].append(dice)
    print("\n| network | set | run | mDice of each seed | mean | from PyTorch's | widest spread of seeds |",
          "| --- | --- | --- | --- | --- | --- | --- |", sep="\n")
    for (network, dataset), sides in grouped.items():
        spread = max(max(each) - min(each) for each in sides.values())
        for side, each in sides.items():
            mean, reference = statistics.mean(each), sides.get("PyTorch")
            apart = f"{mean - statistics.mean(reference):+.2f}" if reference and side != "PyTorch" else ""
            seeds = ", ".join(f"{dice:.2f}" for dice in each)
            print(f"| {network} | {dataset} | {side} | {seeds} | {mean:.2f} | {apart} | {spread:.2f} |")


def draw(folder: Path, runs: list[Run]) -> None:
    for network in {run.network for run in runs}:
        lines = {f"{run.side} {run.seed}": [(row["step"], row["loss"]) for row in run.rows]
                 for run in runs if run.network == network}
        write_chart(folder / f"curves-{network}.png", f"{network}: sum of the losses", lines)


def main(folder: Path) -> None:
    runs = read_runs(folder)
    print_runs(runs)
    print_steps(runs)
    print_dice(runs)
    draw(folder, runs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Finds the program named on the command line and runs it."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import NoReturn

import jittor_pranet
from utils import ranks
from utils.errors import UserError
from utils.files import PROJECT_ROOT
from utils.signals import keep_interrupts

NAME = "pranet"  # of the script at the root, and of the command that pip installs
OURS = ("jittor_pranet", "lib", "utils", "tests")
# A program is a module with `add_arguments(parser)` and `run(args) -> exit code`; only the one asked for is
# imported, so that those without a network start without Jittor.
PROGRAMS = {
    "train": ("train a network on images and masks, or on scans with several classes",
              "--train_path data/TrainDataset --train_save runs/v2"),
    "test": ("write the maps of a trained network for test sets",
             "--weights runs/v2/best.npz --test_path data/TestDataset --save_path results/v2 --evaluate"),
    "predict": ("segment images and videos that have no masks",
                "frames/ clip.mp4 --weights runs/v2/best.npz --out predictions"),
    "convert": ("write weights as .npz, .pth or .safetensors, or a network as .onnx",
                "--weights runs/v2/best.npz --out v2.onnx"),
    "check-data": ("list what is wrong or remarkable with training and test sets",
                   "--train_path data/TrainDataset --test_path data/TestDataset"),
    "evaluate": ("score maps against masks (mDice, wFm, Sm ...) or label maps (Dice, HD95 ...)",
                 "--pred_root results/v2 --gt_root data/TestDataset --compare"),
    "benchmark": ("time a part of the project on this machine",
                  "--what infer --against torch"),
    "demo": ("draw a small synthetic set of polyps or scans to try the programs on",
             "--out demo"),
    "doctor": ("show what was found on this machine and what will be used", ""),
}
"""What each program does, and the flags of an example."""


class Parser(argparse.ArgumentParser):
    """Answers a wrong flag in one line that names the nearest right one; the usage is a screenful."""

    def error(self, message: str) -> NoReturn:
        ranks.let_rank_0_report()
        self.exit(2, f"error: {message}; `{self.prog} --help` lists the flags\n")

    def refuse_unknown(self, words: list[str]) -> NoReturn:
        """Says of words that are no flags of this program which ones they may have been meant to be."""
        flags = [word.split("=")[0] for word in words if word.startswith("-")]
        near = [difflib.get_close_matches(flag, self._option_string_actions, n=1) for flag in flags[:1]]
        hint = f"; did you mean {near[0][0]}?" if near and near[0] else ""
        self.error(f"{' '.join(words)}: {self.prog.split()[-1]} has no such flag{hint}")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not that of a flag which is off or unset when left out."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def build_parser(argv: list[str]) -> tuple[Parser, Parser | None]:
    """The parser of everything, and that of the program which ``argv`` names."""
    parser = Parser(prog=NAME, description=jittor_pranet.__doc__)
    parser.add_argument("--version", action="version", version=f"jittor-pranet {jittor_pranet.__version__}")
    programs = parser.add_subparsers(dest="program", metavar="PROGRAM", required=True)
    chosen = None
    for name, (summary, example) in PROGRAMS.items():
        program = programs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                      usage=f"{NAME} {name} {example} [FLAG ...]".replace("  ", " "),
                                      formatter_class=HelpFormatter)
        if name in argv[:1]:
            load_program(name).add_arguments(program)
            chosen = program
    return parser, chosen


def parse(argv: list[str]) -> argparse.Namespace:
    """The flags of a command line; exits where they are wrong, or where help is asked for."""
    parser, program = build_parser(argv)
    if not argv:
        parser.print_help()
        sys.exit(0)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        (program or parser).refuse_unknown(unknown)
    return args


def load_program(name: str) -> ModuleType:
    """The module of a program. Raises UserError where this Python lacks a package that it needs."""
    try:
        return importlib.import_module(f"jittor_pranet.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in OURS:
            raise
        raise UserError(f"{sys.executable} has no package {error.name}; run {PROJECT_ROOT / NAME} {name}, "
                        f"which sets up a Python that has, or: {sys.executable} -m pip install -r "
                        f"{PROJECT_ROOT / 'requirements.txt'}") from error


@contextlib.contextmanager
def naming_files() -> Iterator[None]:
    """Raises what the system says of a file, and no program has expected, as a UserError that names it."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, (str, bytes)):
            raise
        raise UserError(f"{os.fsdecode(error.filename)}: {error.strerror}; give another path, or mend what "
                        "is there") from error


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = parse(argv)
        if ranks.WORLD_SIZE > 1 and args.program != "train":
            raise UserError(f"{args.program}: runs in one process, mpirun started {ranks.WORLD_SIZE}; only "
                            "train is for mpirun")
        with naming_files():
            return load_program(args.program).run(args)
    except UserError as error:
        ranks.let_rank_0_report()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def start() -> NoReturn:
    """Runs the program of the command line and ends the process with its exit code."""
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8; so is stderr anyway
    keep_interrupts()
    with ranks.rank_0_only():
        sys.exit(main())


if __name__ == "__main__":
    start()

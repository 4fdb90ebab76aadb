"""Finds the program named on the command line and runs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType
from typing import NoReturn

import jittor_pranet
from utils import ranks
from utils.errors import UserError

# A program is a module with `add_arguments(parser)` and `run(args) -> exit code`; only the one asked for is
# imported, so that those without a network start without Jittor.
PROGRAMS = {
    "train": "train a network on images and masks, or on scans with several classes",
    "test": "write the maps of a trained network for test sets",
    "predict": "segment images and videos that have no masks",
    "convert": "write weights as .npz or .pth, or a network as .onnx",
    "check-data": "list what is wrong or remarkable with training and test sets",
    "evaluate": "score maps against masks (mDice, wFm, Sm ...) or label maps (Dice, HD95 ...)",
    "benchmark": "time a part of the project on this machine",
    "demo": "draw a small synthetic set of polyps or scans to try the programs on",
    "doctor": "show what was found on this machine and what will be used",
}


class Parser(argparse.ArgumentParser):
    """Answers a wrong flag in one line, as every other mistake is; the usage is a screenful."""

    def error(self, message: str) -> NoReturn:
        ranks.let_rank_0_report()
        self.exit(2, f"error: {message}; `{self.prog} --help` lists the flags\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not that of a flag which is off or unset when left out."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def build_parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = Parser(prog="python -m jittor_pranet", description=jittor_pranet.__doc__)
    programs = parser.add_subparsers(dest="program", metavar="PROGRAM", required=True)
    for name, summary in PROGRAMS.items():
        program = programs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                      formatter_class=HelpFormatter)
        if name in argv[:1]:
            load_program(name).add_arguments(program)
    return parser


def load_program(name: str) -> ModuleType:
    return importlib.import_module(f"jittor_pranet.{name.replace('-', '_')}")


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = build_parser(argv).parse_args(argv)
        if ranks.WORLD_SIZE > 1 and args.program != "train":
            raise UserError(f"{args.program}: runs in one process, mpirun started {ranks.WORLD_SIZE}; only "
                            "train is for mpirun")
        return load_program(args.program).run(args)
    except UserError as error:
        ranks.let_rank_0_report()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8; so is stderr anyway
    with ranks.rank_0_only():
        sys.exit(main())

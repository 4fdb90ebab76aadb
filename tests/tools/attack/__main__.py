"""Attacks the programs train, test, predict and evaluate at random for some time.

    python -m tests.tools.attack --minutes 60

They are killed at any moment, run on full disks, find bad files among good ones, and are started twice in one
folder. Afterwards no input has changed, every output is whole or absent, and a further run ends with the
bytes of a run that nobody disturbed. Prints what was done and every violation, with the command that makes it
again (but for the moment, which a clock decides). Exit code 1 if there was any.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path

from jittor_pranet.cli.arguments import positive, whole
from tests.tools.attack.cases import CASES, Case
from tests.tools.attack.scene import PROGRAMS, Scene


def make(scene: Scene, seed: int, number: int) -> Case:
    """The case of a number, which depends on it and the seed alone."""
    rng = random.Random(f"{seed} {number}")
    return rng.choice(CASES)(scene, rng)


def again(args: argparse.Namespace, seed: int, number: int) -> str:
    """The command that makes a case again."""
    programs = "" if args.programs == list(PROGRAMS) else f" --programs {' '.join(args.programs)}"
    return f"python -m tests.tools.attack --seed {seed} --case {number}{programs}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=positive, default=10.0, metavar="N",
                        help="begin no case after that")
    parser.add_argument("--seed", type=whole(0), default=None, metavar="S",
                        help="another one draws other cases; at random if left out")
    parser.add_argument("--case", type=whole(0), default=None, metavar="N", help="this case alone")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), metavar="NAME",
                        help=f"of {', '.join(PROGRAMS)}; all if left out")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(10 ** 6) if args.seed is None else args.seed
    end = time.monotonic() + 60 * args.minutes
    counts, violations = Counter(), []
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        scene = Scene(Path(name), args.programs)
        print(f"seed {seed}; left alone, " + ", ".join(
            f"{name} takes {scene.seconds[name]:.1f} s" for name in PROGRAMS), flush=True)
        for number in count() if args.case is None else (args.case,):
            if time.monotonic() > end and args.case is None:
                break
            case = make(scene, seed, number)
            problems = case.run()
            scene.clear()
            counts += Counter(cases=1) + case.counts
            violations += problems
            print(f"{number} {case}: {'violated' if problems else 'holds'}", flush=True)
            for problem in problems:
                print(f"VIOLATION {problem}\n    {again(args, seed, number)}", flush=True)
    print("; ".join(f"{what}: {counts[what]}" for what in sorted(counts)), f"; violations: {len(violations)}")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())

"""Draws a small synthetic polyp set in the benchmark's folder layout, to try the programs on."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image

from jittor_pranet.options import whole
from utils.dataset import WORKERS, read_ahead
from utils.errors import UserError
from utils.files import write_whole
from utils.image_io import list_folder, name_some, write_map
from utils.progress import track
from utils.synthetic import draw_polyp

# The parts have streams of their own, so that a picture depends on the seed and its number alone.
PARTS = (("train", "TrainDataset"), ("test", "TestDataset/Synthetic"))
OURS = re.compile(r"synthetic_(train|test)_\d{4,}\.(jpg|png)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="DIR", default=argparse.SUPPRESS,
                        help="folder for TrainDataset and TestDataset")
    parser.add_argument("--train", type=whole(1), default=64, metavar="N", help="number of training pictures")
    parser.add_argument("--test", type=whole(1), default=16, metavar="N", help="number of test pictures")
    parser.add_argument("--size", type=whole(64), default=352, help="height of the pictures in pixels")
    parser.add_argument("--seed", type=whole(0), default=0, help="another seed draws another set")


def run(args: argparse.Namespace) -> int:
    out = Path(args.out)
    earlier = [path for _, folder in PARTS for path in _ours(out / folder)]
    jobs = [(part, out / folder, index) for part, folder in PARTS for index in range(getattr(args, part))]

    def draw(job: tuple[str, Path, int]) -> list[Path]:
        part, folder, index = job
        rng = np.random.default_rng([args.seed, part == "test", index])
        return _write(folder, f"synthetic_{part}_{index:04d}", *draw_polyp(rng, args.size))

    drawn = read_ahead(draw, jobs, WORKERS, ahead=2 * WORKERS)
    written = {path for paths in track(drawn, len(jobs), "drawing", "pictures") for path in paths}
    for path in set(earlier) - written:  # of a larger set drawn here before
        path.unlink()
    for part, folder in PARTS:
        print(f"{out / folder}: {getattr(args, part)} pictures with masks, seed {args.seed}")
    if earlier:
        print(f"an earlier synthetic set of {len(earlier) // 2} pictures was there and has been replaced")
    return 0


def _write(folder: Path, stem: str, picture: np.ndarray, mask: np.ndarray) -> list[Path]:
    paths = [folder / "images" / f"{stem}.jpg", folder / "masks" / f"{stem}.png"]
    with write_whole(paths[0]) as file:
        Image.fromarray(picture).save(file, format="JPEG", quality=92)
    write_map(paths[1], mask)
    return paths


def _ours(folder: Path) -> list[Path]:
    """The files of an earlier synthetic set in ``folder``. Raises UserError when there are others too."""
    folders = [folder / kind for kind in ("images", "masks") if (folder / kind).is_dir()]
    inside = [path for kind in folders for path in list_folder(kind)]
    others = [path.name for path in inside if not OURS.fullmatch(path.name)]
    if others:
        raise UserError(f"{folder}: holds {len(others)} files that this program did not draw: "
                        f"{name_some(others)}; choose an empty folder for --out")
    return inside

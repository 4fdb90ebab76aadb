"""Draws a small synthetic set, to try the programs on: polyps in the benchmark's folder layout, or scans."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from jittor_pranet.cli.arguments import MAX_SEED, whole
from utils.checkpoint import save_arrays
from utils.data.image_io import list_folder, name_some, write_map
from utils.data.synthetic.polyps import synthetic_polyp
from utils.data.synthetic.scans import MAX_CLASSES, synthetic_scan
from utils.errors import UserError
from utils.files import atomic_write
from utils.outputs import output_folder
from utils.parallel import WORKERS, prefetch
from utils.progress import track


class Polyps:
    """Pictures with masks."""

    unit = "pictures"
    defaults = MappingProxyType({"train": 64, "test": 16, "size": 352})
    parts = MappingProxyType({"train": "TrainDataset", "test": "TestDataset/Synthetic"})
    folders = tuple(f"{part}/{kind}" for part in parts.values() for kind in ("images", "masks"))
    ours = re.compile(r"synthetic_(train|test)_\d{4,}\.(jpg|png)")

    def __init__(self, out: Path, train: int, test: int, size: int, seed: int):
        self.out, self.size, self.seed = out, size, seed
        counts = {"train": train, "test": test}
        self.jobs = [(part, index) for part, count in counts.items() for index in range(count)]
        self.summary = [f"{out / self.parts[part]}: {count} pictures with masks"
                        for part, count in counts.items()]

    def draw(self, job: tuple[str, int]) -> list[Path]:
        """Draws a picture and its mask. Gives their files."""
        part, index = job
        picture, mask = synthetic_polyp(stream(self.seed, part, index), self.size)
        folder, stem = self.out / self.parts[part], f"synthetic_{part}_{index:04d}"
        paths = [folder / "images" / f"{stem}.jpg", folder / "masks" / f"{stem}.png"]
        with atomic_write(paths[0]) as file:
            Image.fromarray(picture).save(file, format="JPEG", quality=92)
        write_map(paths[1], mask)
        return paths


class Scans:
    """Slices of patients to train on, volumes of others to test on: .npz with image, label and spacing."""

    unit = "scans"
    defaults = MappingProxyType({"train": 64, "test": 2, "size": 128})
    folders = ("TrainDataset", "TestDataset")
    ours = re.compile(r"synthetic_(train_\d{4,}_slice\d{3}|test_\d{4,})\.npz")
    slices, depth = 8, 12  # of a patient to train on, of a volume

    def __init__(self, out: Path, train: int, test: int, size: int, seed: int, classes: int):
        self.out, self.train, self.size, self.seed, self.classes = out, train, size, seed, classes
        patients = -(-train // self.slices)
        self.jobs = [*(("train", index) for index in range(patients)),
                     *(("test", index) for index in range(test))]
        self.summary = [f"{out / 'TrainDataset'}: {train} slices of {patients} patients",
                        f"{out / 'TestDataset'}: {test} volumes of {self.depth} slices"]

    def draw(self, job: tuple[str, int]) -> list[Path]:
        """Draws a patient. Gives the files of the slices, or that of the volume."""
        part, index = job
        depth = self.slices if part == "train" else self.depth
        image, label, spacing = synthetic_scan(stream(self.seed, part, index), self.classes, depth, self.size)
        if part == "test":
            path = self.out / "TestDataset" / f"synthetic_test_{index:04d}.npz"
            return [_write_scan(path, image, label, spacing)]
        folder, count = self.out / "TrainDataset", min(depth, self.train - index * depth)
        return [_write_scan(folder / f"synthetic_train_{index:04d}_slice{number:03d}.npz", image[number],
                            label[number], spacing) for number in range(count)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def count(flag: str, low: int, text: str) -> None:
        values = f"{Polyps.defaults[flag]} if left out, {Scans.defaults[flag]} with --classes"
        parser.add_argument(f"--{flag}", type=whole(low), default=None, metavar="N", help=f"{text}; {values}")

    parser.add_argument("--out", required=True, metavar="DIR", default=argparse.SUPPRESS,
                        help="folder for TrainDataset and TestDataset")
    parser.add_argument("--classes", type=int, choices=range(2, MAX_CLASSES + 1), default=None, metavar="N",
                        help="draw no polyps but scans with organs of N classes, the background included: 2 "
                             f"to {MAX_CLASSES}")
    count("train", 1, "number of training pictures or slices")
    count("test", 1, "number of test pictures or volumes")
    count("size", 64, "height of the pictures in pixels")
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, help="another seed draws another set")


def run(args: argparse.Namespace) -> int:
    defaults = (Scans if args.classes else Polyps).defaults
    train, test, size = (getattr(args, flag) or default for flag, default in defaults.items())
    out = Path(args.out)
    demo = (Scans(out, train, test, size, args.seed, args.classes) if args.classes
            else Polyps(out, train, test, size, args.seed))
    earlier = _earlier(demo)
    with output_folder(out, ("TrainDataset", "TestDataset"), [], "demo", may_replace=True):
        drawn = prefetch(demo.draw, demo.jobs, WORKERS, ahead=2 * WORKERS)
        written = {path for paths in track(drawn, len(demo.jobs), "drawing", demo.unit) for path in paths}
        for path in set(earlier) - written:  # of a larger set drawn here before
            path.unlink()
    for line in demo.summary:
        print(f"{line}, seed {args.seed}")
    if earlier:
        print(f"an earlier synthetic set of {len({path.stem for path in earlier})} {demo.unit} was there and "
              "has been replaced")
    return 0


def stream(seed: int, part: str, index: int) -> np.random.Generator:
    """Random numbers for a picture or patient, which depends on the seed and its number alone."""
    return np.random.default_rng([seed, part == "test", index])


def _write_scan(path: Path, image: np.ndarray, label: np.ndarray, spacing: tuple[float, ...]) -> Path:
    save_arrays({"image": image, "label": label, "spacing": np.array(spacing)}, path, compressed=True)
    return path


def _earlier(demo: Polyps | Scans) -> list[Path]:
    """The files of an earlier synthetic set. Raises UserError when there are others too."""
    folders = [demo.out / folder for folder in demo.folders if (demo.out / folder).is_dir()]
    inside = [path for folder in folders for path in list_folder(folder)]
    others = [path for path in inside if not demo.ours.fullmatch(path.name)]
    if others:
        raise UserError(f"{others[0].parent}: holds {len(others)} files that this program did not draw: "
                        f"{name_some([path.name for path in others])}; choose an empty folder for --out")
    return inside

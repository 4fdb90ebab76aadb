"""Writes the maps of a trained network for test sets: of polyps, or the label maps of scans."""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from jittor_pranet.cli.arguments import (
    add_device_arguments,
    add_network_arguments,
    fraction,
    load_segmenter,
    whole,
)
from jittor_pranet.cli.scan_options import add_scan_arguments, scan_flags, scan_options_of
from jittor_pranet.cli.task_flags import check_task_flags
from jittor_pranet.testing.binary import BinaryTask
from jittor_pranet.testing.multiclass import MulticlassTask
from jittor_pranet.testing.task import MapOptions, Task
from lib.inference import PolypSegmenter, ScanSegmenter
from lib.registry import TASKS
from lib.trained import Usage, settings_of, usage_of
from utils.checkpoint import Checkpoint, read_checkpoint
from utils.data.polyps import TestImages, find_test_sets
from utils.data.scan_sets import find_scan_sets, scan_set_folders
from utils.files import child_environment
from utils.outputs import output_folder
from utils.parallel import WORKERS
from utils.progress import Progress
from utils.signals import Interruption

OVERLAYS, EVALUATION = "overlays", "evaluation"  # folders beside those of the sets
REMEMBERED = ("slice_axis", "window", "label_map")  # how scans were read in training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    required = argparse.SUPPRESS  # keeps "(default: None)" out of the help
    data = parser.add_argument_group("data")
    data.add_argument("--task", choices=TASKS, default=None,
                      help="binary or multiclass; left out, what the weights say, or binary")
    data.add_argument("--test_path", "--data", required=True, metavar="DIR", default=required,
                      help="folder with one folder per test set, each with images/; multiclass: each with "
                           "scans, or a folder of scans")
    data.add_argument("--datasets", nargs="+", default=None, metavar="SET",
                      help="test sets to take; all that are there if left out")
    data.add_argument("--bs", "--batch_size", type=whole(1), default=1,
                      help="images in a batch; the maps do not depend on it")
    data.add_argument("--workers", type=whole(0), default=WORKERS,
                      help="processes that read images ahead; 0 reads them between the batches")
    add_network_arguments(parser.add_argument_group("network"))
    output = parser.add_argument_group("output")
    output.add_argument("--save_path", "--out", required=True, metavar="DIR", default=required,
                        help="maps go to SAVE_PATH/<set>/<image>.png")
    output.add_argument("--overlays", action="store_true",
                        help=f"write the images with the map's contour, or the slices with their classes, to "
                             f"SAVE_PATH/{OVERLAYS} too")
    output.add_argument("--evaluate", action="store_true",
                        help="evaluate the maps against the ground truth of the test sets afterwards")
    add_device_arguments(parser.add_argument_group("device"))
    binary = parser.add_argument_group("task binary")
    binary.add_argument("--no_minmax", action="store_true",
                        help="write the probability; the published maps are stretched to 0..255 per image")
    binary.add_argument("--threshold", type=fraction, default=None, metavar="T",
                        help="write 255 where the map is above T (from 0 to below 1) and 0 elsewhere")
    multiclass = parser.add_argument_group(
        "task multiclass", "Left out, the first four are what the weights say of their training.")
    add_scan_arguments(multiclass)
    multiclass.add_argument("--test_list", default=None, metavar="FILE",
                            help="text file with the names of the scans to take; all if left out")
    multiclass.add_argument("--nifti", action="store_true",
                            help="write .nii.gz with the scan's spacing in place of .npz")


def run(args: argparse.Namespace) -> int:
    checkpoint = read_checkpoint(args.weights)
    usage = take_from_weights(args, checkpoint)
    folders, save_path = set_folders(args), Path(args.save_path)
    beside = [name for name, wanted in ((OVERLAYS, args.overlays), (EVALUATION, args.evaluate)) if wanted]
    with output_folder(save_path, [*folders, *beside], [*folders.values(), args.weights], "test"):
        task, flags = load_task(args, checkpoint, usage, folders)
        del checkpoint  # the network holds its weights now
        exit_code = write_maps(task)
        if exit_code:
            return exit_code
        print(f"maps: {save_path.resolve()}")
        if args.overlays:
            print(f"overlays: {(save_path / OVERLAYS).resolve()}")
        return evaluate(task, save_path, args.test_path, flags) if args.evaluate else 0


def set_folders(args: argparse.Namespace) -> dict[str, Path]:
    """The folder of each test set by name. Raises UserError where there is none."""
    if args.task == "multiclass":
        return scan_set_folders(args.test_path, args.datasets)
    return {name: images.parent for name, images in find_test_sets(args.test_path, args.datasets).items()}


def load_task(args: argparse.Namespace, checkpoint: Checkpoint, usage: Usage, folders: dict[str, Path],
              ) -> tuple[Task, list[str]]:
    """Test sets and network, and the flags that the program evaluate needs beside the folders."""
    save_path = Path(args.save_path)
    options = MapOptions(save_path, save_path / OVERLAYS if args.overlays else None, args.bs, args.workers)
    if args.task == "binary":
        images = {name: TestImages(folder / "images", usage.size) for name, folder in folders.items()}
        segmenter, flags = load_segmenter(PolypSegmenter, checkpoint, args), []
        task = BinaryTask(images, segmenter, options, not args.no_minmax, args.threshold)
    else:
        scan_options = scan_options_of(args)
        scans = find_scan_sets(args.test_path, args.datasets, args.test_list)
        segmenter = load_segmenter(ScanSegmenter, checkpoint, args)
        task = MulticlassTask(scans, segmenter, options, scan_options, args.nifti)
        flags = ["--task", "multiclass", *scan_flags(scan_options),
                 *(["--test_list", args.test_list] if args.test_list else [])]
    print(f"{segmenter.model_type}: {task}, {usage}, on {segmenter.device}")
    return task, flags


def write_maps(task: Task) -> int:
    """Writes the maps until a signal comes, and returns the exit code.

    The network is there before `Interruption`, as Jittor forks compilers, which must not take our signals.
    """
    total, written = sum(map(len, task.sets.values())), task.write_maps()
    with Interruption() as interruption, closing(written), \
            Progress(total, "testing", task.unit, slow=1) as progress:
        for name in written:
            progress.step(note=name)
            if interruption.signal:
                print(f"stopped after {progress.done} of {total} {task.unit}; run again to complete")
                return interruption.exit_code
    return 0


def take_from_weights(args: argparse.Namespace, checkpoint: Checkpoint) -> Usage:
    """Sets flags that were left out to what the weights say of themselves; returns how the network is used.

    Raises:
        UserError: the weights say what no training has, or a flag is for the other task.
    """
    said = settings_of(checkpoint)
    args.task = args.task or said.get("task", "binary")
    check_task_flags("test", args.task, vars(args))
    usage = usage_of(checkpoint, args.testsize, args.num_class, args.gain)
    if args.task == "multiclass":
        args.num_class = usage.num_class
        for name in REMEMBERED:
            if getattr(args, name) is None:
                setattr(args, name, said.get(name))
    return usage


def evaluate(task: Task, save_path: Path, test_path: str, flags: list[str]) -> int:
    """Runs the program `evaluate` on what was written; a process of its own, since this one holds Jittor."""
    sets = [name for name in task.sets if task.has_ground_truth(name)]
    without = [name for name in task.sets if name not in sets]
    if without:
        print(f"not evaluated, without ground truth: {', '.join(without)}")
    if not sets:
        return 0
    command = [sys.executable, "-m", "jittor_pranet", "evaluate", "--pred_root", str(save_path),
               "--gt_root", test_path, "--datasets", *sets, "--result_path", str(save_path / EVALUATION),
               *flags]
    return subprocess.run(command, env=child_environment()).returncode

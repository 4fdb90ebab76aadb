"""The flags of all programs that read scans with label maps of several classes."""

from __future__ import annotations

import argparse
import math

from jittor_pranet.cli.arguments import whole
from utils.data.scans import LABEL_MAPS, MAX_CLASSES, ScanOptions
from utils.errors import UserError


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num_class", type=whole(2), default=None, metavar="N",
                        help="classes of the label maps, the background included: Synapse 9, ACDC 4")
    parser.add_argument("--slice_axis", type=int, choices=(0, 1, 2), default=None,
                        help="axis of volumes that slices are cut along; left out, the last of a NIfTI, that "
                             "is axial, and the first of other files")
    parser.add_argument("--window", type=float, nargs=2, default=None, metavar=("LOW", "HIGH"),
                        help="grey levels that become 0 and 1, for images that are not scaled yet: -125 275 "
                             "for abdominal CT")
    parser.add_argument("--label_map", choices=sorted(LABEL_MAPS), default=None,
                        help="synapse takes the raw labels of 13 organs to the 8 that are measured")


def scan_flags(options: ScanOptions) -> list[str]:
    """The command-line flags that give these options."""
    values = {"num_class": [options.num_class], "slice_axis": [options.axis], "window": options.window,
              "label_map": [options.label_map]}
    return [text for name, each in values.items() if each and each[0] is not None
            for text in (f"--{name}", *map(str, each))]


def scan_options_of(args) -> ScanOptions:
    """How the flags of `add_scan_arguments`, or attributes of these names, say that scans are read.

    Raises:
        UserError: the number of classes is missing or too large, or the window is no range.
    """
    if not args.num_class or args.num_class < 2:
        raise UserError("--num_class is missing: the number of classes of the label maps, the background "
                        "included (Synapse 9, ACDC 4)")
    if args.num_class > MAX_CLASSES:
        raise UserError(f"--num_class {args.num_class}: label maps have at most {MAX_CLASSES} classes")
    if args.window is not None:
        low, high = args.window
        if not (math.isfinite(high - low) and low < high):
            raise UserError(f"--window {low:g} {high:g}: expected finite grey levels, the lower one first")
    return ScanOptions(args.num_class, args.slice_axis, args.window and tuple(args.window), args.label_map)

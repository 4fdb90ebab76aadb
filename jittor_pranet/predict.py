"""The program `predict`: maps, masks, overlays and tables for images and videos that need no masks.

Exit code: 0 if everything is done, 1 if files with a defect were left out, 2 for a mistake, 130 and 143 after
Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from contextlib import closing
from itertools import chain
from pathlib import Path

from jittor_pranet.cli.arguments import (
    add_device_arguments,
    add_network_arguments,
    fraction,
    load_segmenter,
    whole,
)
from jittor_pranet.prediction.images import predict_images
from jittor_pranet.prediction.output import (
    COLUMNS,
    FOLDERS,
    OUTPUTS,
    SETTINGS_FILE,
    TABLE,
    Plan,
    check_settings,
    is_complete,
    pending,
    write_settings,
)
from jittor_pranet.prediction.videos import predict_videos
from lib.inference import PolypSegmenter, network_of
from lib.trained import usage_of
from utils.checkpoint import read_checkpoint
from utils.csv_log import CsvLog, read_rows
from utils.data.image_io import describe
from utils.data.inputs import Source, find_inputs
from utils.errors import UserError, printable
from utils.outputs import check_outputs, output_folder
from utils.parallel import WORKERS
from utils.progress import Progress
from utils.signals import Interruption

SETTINGS = ("model_type", "gain", "tta", "minmax", "threshold")  # of what the results depend on
AUTO_BATCH = {"cpu": 4, "cuda": 32}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = argparse.SUPPRESS  # keeps "(default: None)" out of the help
    data = parser.add_argument_group("data")
    data.add_argument("inputs", nargs="+", metavar="INPUT", default=default,
                      help="an image, a video, a folder with all below it, a glob, or a list (.txt) with a "
                           "path in each line, relative to the list")
    data.add_argument("--batch", "--batch_size", type=batch_size, default="auto", metavar="N",
                      help="images in a batch; the maps do not depend on it. auto: "
                           + ", ".join(f"{count} on {device}" for device, count in AUTO_BATCH.items()))
    data.add_argument("--workers", type=whole(0), default=WORKERS,
                      help="processes that read images ahead, and as many that write; 0 for none")
    add_network_arguments(parser.add_argument_group("network"))
    output = parser.add_argument_group("output")
    output.add_argument("--out", required=True, metavar="DIR", default=default,
                        help=f"for {', '.join(FOLDERS)} and {TABLE}; a second run goes on where the first "
                             "stopped")
    output.add_argument("--threshold", type=fraction, default=0.5, metavar="T",
                        help="what is above T in the map (from 0 to below 1) is polyp in the mask")
    output.add_argument("--minmax", action="store_true",
                        help="stretch each map to 0..255, as `test` does by default because the papers' "
                             "scores need it; a frame without polyp then lights up too")
    output.add_argument("--no_minmax", action="store_false", dest="minmax", default=argparse.SUPPRESS,
                        help="write the probability: the default here, so that an empty frame stays empty")
    output.add_argument("--overwrite", action="store_true",
                        help="begin anew, whatever an earlier run has done in DIR")
    add_device_arguments(parser.add_argument_group("device"))


def batch_size(text: str) -> int | str:
    return text if text == "auto" else whole(1)(text)


def run(args: argparse.Namespace) -> int:
    out = Path(os.path.abspath(args.out))
    inputs = find_inputs(args.inputs, out)
    read = [*(source.path for source in inputs.sources), args.weights]
    check_outputs([out / name for name in OUTPUTS], read)
    checkpoint = read_checkpoint(args.weights, with_sha256=True)
    args.model_type = args.model_type or network_of(checkpoint)
    usage = usage_of(checkpoint, args.testsize, gain=args.gain)
    settings = {"weights": checkpoint.sha256, "testsize": usage.size,
                **{name: getattr(args, name) for name in SETTINGS}}
    if not args.overwrite:
        check_settings(out, settings)
    may_replace = args.overwrite or (out / SETTINGS_FILE).exists()
    with output_folder(out, OUTPUTS, read, "predict", may_replace):
        earlier = [] if args.overwrite else read_rows(out / TABLE, COLUMNS)
        done = {row[0]: row for row in earlier if is_complete(out, row)}
        table = CsvLog(out / TABLE, COLUMNS, done.values())
        write_settings(out, settings)
        left = pending(inputs, done, out)
        segmenter = load_segmenter(PolypSegmenter, checkpoint, args)
        del checkpoint  # the network holds its weights now
        batch = AUTO_BATCH[segmenter.device] if args.batch == "auto" else args.batch
        plan = Plan(out, args.threshold, args.minmax, batch, args.workers)
        print(f"{segmenter.model_type}: {len(left)} files, {usage}, on {segmenter.device}")
        counts, interruption = predict(segmenter, left, inputs.defects, plan, table)
    named = " (named above)" if counts["bad"] else ""
    print(f"{counts['good']} predicted, {len(done)} done before, {counts['bad']} left out for a "
          f"defect{named}")
    if inputs.others:
        print(f"neither images nor videos: {describe(inputs.others)}")
    print(f"results: {out}")
    if interruption.signal:
        to_go = len(left) + len(inputs.defects) - counts["good"] - counts["bad"]
        print(f"stopped with {to_go} files to go; run again to complete")
        return interruption.exit_code
    return 1 if counts["bad"] else 0


def predict(segmenter: PolypSegmenter, sources: list[Source], defects: list[str], plan: Plan, table: CsvLog,
            ) -> tuple[Counter, Interruption]:
    """Predicts images, then videos, until a signal comes; counts the good and the bad, ``defects`` too."""
    images, videos = ([source for source in sources if source.is_video == kind] for kind in (False, True))
    counts = Counter(bad=len(defects))
    with Interruption() as interruption, Progress(len(sources), "predicting", "files", slow=1) as progress, \
            closing(predict_images(segmenter, images, plan)) as rows:
        for defect in defects:
            progress.say(printable(f"left out: {defect}"))
        try:
            for source, outcome in chain(rows, predict_videos(segmenter, videos, plan, interruption)):
                if isinstance(outcome, UserError):
                    progress.say(f"left out: {outcome}")
                else:
                    table.add(outcome)
                counts["bad" if isinstance(outcome, UserError) else "good"] += 1
                progress.step(note=source.name)
                if interruption.signal:
                    break
        except UserError:
            if not interruption.signal:  # which a scheduler sends to the worker processes as well
                raise
    return counts, interruption

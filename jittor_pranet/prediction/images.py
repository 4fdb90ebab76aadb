"""Images through a network: read and finished in processes while the network runs in this one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np

from jittor_pranet.prediction.output import Plan, write_image
from lib.inference import PolypSegmenter
from utils.data.image_io import image_size
from utils.data.inputs import Source
from utils.data.polyps import BATCHES_AHEAD, in_imagenets_units, read_image
from utils.errors import UserError
from utils.parallel import map_in_processes, try_in_processes


def predict_images(segmenter: PolypSegmenter, sources: list[Source], plan: Plan,
                   ) -> Iterator[tuple[Source, list | UserError]]:
    """Yields each source with its row of the table, its files being written, or with its defect.

    No more than a few batches are in memory, however many sources there are.

    Raises:
        UserError: a file cannot be written, or the device's memory does not hold one image.
    """
    finish, maps = functools.partial(write_image, plan=plan), image_maps(segmenter, sources, plan)
    with closing(maps), closing(map_in_processes(finish, maps, plan.workers, 2 * plan.workers)) as rows:
        yield from rows


def image_maps(segmenter: PolypSegmenter, sources: list[Source], plan: Plan,
               ) -> Iterator[tuple[Source, np.ndarray | UserError]]:
    """Yields each source with its map, float32 (H, W), or with its defect."""
    load, batch = functools.partial(read_image, size=segmenter.size), plan.batch
    files, shape = [source.path for source in sources], (3, segmenter.size, segmenter.size)
    with closing(try_in_processes(load, files, shape, plan.workers, BATCHES_AHEAD * batch)) as results:
        for start in range(0, len(sources), batch):
            part = sources[start:start + batch]
            outcomes = [_with_size(source.path, result)
                        for source, result in zip(part, islice(results, len(part)))]
            good = [(str(source.path), *outcome) for source, outcome in zip(part, outcomes)
                    if not isinstance(outcome, UserError)]
            maps = iter(())
            if good:
                names, images, sizes = zip(*good)
                maps = segmenter.try_maps(in_imagenets_units(np.stack(images)), sizes, plan.minmax, names)
            for source, outcome in zip(part, outcomes):
                yield source, outcome if isinstance(outcome, UserError) else next(maps)


def _with_size(path: Path, result: np.ndarray | Exception,
               ) -> tuple[np.ndarray, tuple[int, int]] | UserError:
    """An image with (height, width) of its file, or its defect. What is no defect of the file is raised."""
    if isinstance(result, Exception) and not isinstance(result, UserError):
        raise result
    try:
        return result if isinstance(result, UserError) else (result, image_size(path)[::-1])
    except UserError as error:
        return error

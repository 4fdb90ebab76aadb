"""The report's section of a set of polyps: where a network fails."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
from PIL import Image

from jittor_pranet.reports import page, scales
from jittor_pranet.reports.overlay import MAP_COLOUR, MASK_COLOUR, overlay
from utils.data.image_io import find_images, read_rgb
from utils.errors import UserError
from utils.metrics.binary import THRESHOLDS
from utils.metrics.evaluation import MapPair, read_pair
from utils.metrics.scoring import SetScores

THUMBNAIL = 320  # pixels of the longer side
CHARTS = {"Dic": "Dice", "IoU": "IoU", "Em": "E-measure"}
HISTOGRAM_BINS = 20


def section(entries: list[SetScores], colours: dict[str, str], images: Path, limit: int) -> list[str]:
    """Charts of a set's scores, and for each method the images, those of the lowest Dice first.

    The first ``limit`` are drawn, on those in the folder ``images`` if that is there.

    Raises:
        UserError: a map or mask is no longer readable.
    """
    return [_charts(entries, colours), *(_gallery(entry, images, limit) for entry in entries)]


# ---------------------------------------------------------------- charts


def _charts(entries: list[SetScores], colours: dict[str, str]) -> str:
    charts = [_histogram("Images by Dice", {entry.method: dices(entry) for entry in entries}, colours)]
    for name, title in CHARTS.items():
        curves = {entry.method: entry.metrics.curves()[name] for entry in entries}
        charts.append(_curves(f"{title} by threshold", curves, colours))
    return "<div class=charts>" + "".join(f"<figure>{chart}</figure>" for chart in charts) + "</div>"


def dices(entry: SetScores) -> np.ndarray:
    """(n,) float64: each image's Dice, the mean over thresholds."""
    return np.array([scores.result()["meanDic"] for scores in entry.scores])


def _curves(title: str, curves: dict[str, np.ndarray], colours: dict[str, str]) -> str:
    lines = [page.line(THRESHOLDS, curve, colours[method]) for method, curve in curves.items()]
    return page.frame(title, "threshold", page.QUARTERS, lines)


def _histogram(title: str, values: dict[str, np.ndarray], colours: dict[str, str]) -> str:
    counts = {method: np.histogram(dice, HISTOGRAM_BINS, (0, 1))[0] for method, dice in values.items()}
    # Of 3 images or more, so that all marks are whole.
    marks = scales.ticks(0, max(3, *(int(count.max()) for count in counts.values())), 5)
    bar = 1 / HISTOGRAM_BINS / len(counts)
    bars = []
    for place, (method, count) in enumerate(counts.items()):
        for bin_, number in enumerate(count):
            x, y = page.x_at(bin_ / HISTOGRAM_BINS + place * bar), page.y_at(number / marks[-1])
            bars.append(f"<rect x='{x:.1f}' y='{y:.1f}' width='{page.x_at(bar) - page.LEFT - 0.5:.1f}' "
                        f"height='{page.BOTTOM - y:.1f}' fill='{colours[method]}'/>")
    return page.frame(title, "Dice", marks, bars)


# ---------------------------------------------------------------- images


def _gallery(entry: SetScores, images: Path, limit: int) -> str:
    reached = dices(entry)
    order = np.argsort(reached, kind="stable")
    pairs = [entry.pairs[place] for place in order]
    captions = [f"{pair.map.name} {100 * dice:.1f}" for pair, dice in zip(pairs, reached[order])]
    try:
        photographs, remark = find_images(images), ""
    except UserError as error:
        photographs, remark = {}, f" on black ({html.escape(str(error))})"

    def draw(place: int) -> str:
        pair = pairs[place]
        return _thumbnail(pair, entry.metrics.mask_rule, photographs.get(pair.stem), captions[place])

    legend = f"<p class=quiet>{page.key(MAP_COLOUR)}map{remark}{page.key(MASK_COLOUR)}mask</p>"
    return page.gallery(f"{entry.method}: images by Dice (times 100), worst first", legend, captions, draw,
                        limit, "gallery", "image")


def _thumbnail(pair: MapPair, mask_rule: str, photograph: Path | None, caption: str) -> str:
    levels, mask = read_pair(pair, mask_rule)
    levels = Image.fromarray(levels)
    levels.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    try:
        if photograph is None:
            raise UserError("no photograph")
        picture = read_rgb(photograph).resize(levels.size, Image.Resampling.BILINEAR)
    except UserError as error:
        picture = Image.new("RGB", levels.size)
        caption += f" ({error})"
    small = Image.fromarray(mask).convert("L").resize(levels.size, Image.Resampling.BILINEAR)
    levels = np.asarray(levels)
    drawn = overlay(_tint(np.asarray(picture), levels), levels, np.asarray(small))
    return f"<figure>{page.picture(drawn, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _tint(picture: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The picture, uint8 (H, W, 3), coloured the more the higher the map's level, uint8 (H, W)."""
    opacity = levels[..., None] / 255 * 0.35
    return (picture * (1 - opacity) + np.array(MAP_COLOUR) * opacity).astype(np.uint8)

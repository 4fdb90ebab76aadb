"""The report of an evaluation: one HTML file by itself that shows where a network fails."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
from PIL import Image

from jittor_pranet.reports import page
from jittor_pranet.reports.overlay import MAP_COLOUR, MASK_COLOUR, overlay
from utils.data.image_io import find_images, read_rgb
from utils.errors import UserError
from utils.metrics.binary import THRESHOLDS
from utils.metrics.evaluation import MapPair, read_pair
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table

THUMBNAIL = 320  # pixels of the longer side
CHARTS = {"Dic": "Dice", "IoU": "IoU", "Em": "E-measure"}
HISTOGRAM_BINS = 20


def write_report(path: Path, scores: list[SetScores], tables: list[Table], notes: list[str],
                 gt_root: Path, thumbnails: int) -> None:
    """Writes the tables, and for each set its charts and the images, those of the lowest Dice first.

    The first ``thumbnails`` of a set and method are drawn, on ``gt_root/<set>/images`` if that is there.

    Raises:
        UserError: a map or mask is no longer readable, or the report cannot be written.
    """
    colours = page.colours_of(scores)
    datasets = list(dict.fromkeys(entry.dataset for entry in scores))
    parts = page.head(datasets, tables, notes)
    for dataset in datasets:
        entries = [entry for entry in scores if entry.dataset == dataset]
        parts += [page.heading(dataset), page.legend(colours), _charts(entries, colours)]
        parts += [_gallery(entry, gt_root / dataset / "images", thumbnails) for entry in entries]
    page.write(path, parts)


# ---------------------------------------------------------------- charts


def _charts(entries: list[SetScores], colours: dict[str, str]) -> str:
    charts = [_histogram("Images by Dice", {entry.method: dices(entry) for entry in entries}, colours)]
    for name, title in CHARTS.items():
        curves = {entry.method: entry.metrics.curves()[name] for entry in entries}
        charts.append(_curves(f"{title} by threshold", curves, colours))
    return "<div class=charts>" + "".join(f"<figure>{chart}</figure>" for chart in charts) + "</div>"


def dices(entry: SetScores) -> np.ndarray:
    """(n,) float64: each image's Dice, the mean over thresholds."""
    return np.array([figures.result()["meanDic"] for figures in entry.figures])


def _curves(title: str, curves: dict[str, np.ndarray], colours: dict[str, str]) -> str:
    lines = [page.line(THRESHOLDS, curve, colours[method]) for method, curve in curves.items()]
    return page.frame(title, "threshold", page.QUARTERS, lines)


def _histogram(title: str, values: dict[str, np.ndarray], colours: dict[str, str]) -> str:
    counts = {method: np.histogram(figures, HISTOGRAM_BINS, (0, 1))[0] for method, figures in values.items()}
    # Of 3 images or more, so that all marks are whole.
    marks = page.round_marks(max(3, *(int(count.max()) for count in counts.values())))
    bar = 1 / HISTOGRAM_BINS / len(counts)
    bars = []
    for place, (method, count) in enumerate(counts.items()):
        for bin_, number in enumerate(count):
            x, y = page.x_at(bin_ / HISTOGRAM_BINS + place * bar), page.y_at(number / marks[-1])
            bars.append(f"<rect x='{x:.1f}' y='{y:.1f}' width='{page.x_at(bar) - page.LEFT - 0.5:.1f}' "
                        f"height='{page.BOTTOM - y:.1f}' fill='{colours[method]}'/>")
    return page.frame(title, "Dice", marks, bars)


# ---------------------------------------------------------------- images


def _gallery(entry: SetScores, images: Path, thumbnails: int) -> str:
    """The entry's images, lowest Dice first: some drawn, the others listed."""
    reached = dices(entry)
    try:
        photographs, remark = find_images(images), ""
    except UserError as error:
        photographs, remark = {}, f" on black ({html.escape(str(error))})"
    drawn, listed = [], []
    for place in np.argsort(reached, kind="stable"):
        pair, caption = entry.pairs[place], f"{entry.pairs[place].map.name} {100 * reached[place]:.1f}"
        if len(drawn) < thumbnails:
            drawn.append(_thumbnail(pair, entry.metrics.mask_rule, photographs.get(pair.stem), caption))
        else:
            listed.append(html.escape(caption))
    parts = [f"<h3>{html.escape(entry.method)}: images by Dice (times 100), worst first</h3>"]
    if drawn:
        parts.append(f"<p class=quiet>{page.key(MAP_COLOUR)}map{remark}{page.key(MASK_COLOUR)}mask</p>"
                     f"<div class=gallery>{''.join(drawn)}</div>")
    if listed:
        parts.append(f"<details><summary>{len(listed)} more images</summary>"
                     f"<p>{'<br>'.join(listed)}</p></details>")
    return "\n".join(parts)


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

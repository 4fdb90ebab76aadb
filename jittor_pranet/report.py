"""The report of an evaluation: one HTML file by itself that shows where a network fails."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.evaluation import MapPair, read_pair
from utils.files import write_whole
from utils.image_io import find_images, read_rgb
from utils.metrics import THRESHOLDS
from utils.overlay import MAP_COLOUR, MASK_COLOUR, overlay
from utils.scoring import SetScores
from utils.tables import Table

THUMBNAIL = 320  # pixels of the longer side
METHOD_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
CHARTS = {"Dic": "Dice", "IoU": "IoU", "Em": "E-measure"}
HISTOGRAM_BINS = 20

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --quiet: #777; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1200px; padding: 16px; }
h1 { font-size: 1.5em; margin: 0 0 .2em; } h2 { font-size: 1.25em; margin: 2em 0 .5em; }
h3 { font-size: 1em; margin: 1.5em 0 .5em; }
.quiet { color: var(--quiet); font-size: .9em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .7em; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th.label, td.label { text-align: left; }
.charts { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr)); }
.charts figure { background: var(--soft); border-radius: 6px; padding: 8px; }
.gallery { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
figure { margin: 0; } figcaption { font-size: .85em; overflow-wrap: anywhere; }
.gallery img { display: block; width: 100%; height: auto; border-radius: 4px; background: #000; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 1em; }
.key:first-child { margin-left: 0; }
@media (max-width: 600px) { th, td { padding: .3em .4em; } table { font-size: .9em; } }
"""


def write_report(path: Path, scores: list[SetScores], tables: list[Table], notes: list[str],
                 gt_root: Path, thumbnails: int) -> None:
    """Writes the tables, and for each set its charts and the images, those of the lowest Dice first.

    The first ``thumbnails`` of a set and method are drawn, on ``gt_root/<set>/images`` if that is there.

    Raises:
        UserError: a map or mask is no longer readable, or the report cannot be written.
    """
    colours = {method: METHOD_COLOURS[place % len(METHOD_COLOURS)]
               for place, method in enumerate(dict.fromkeys(entry.method for entry in scores))}
    datasets = list(dict.fromkeys(entry.dataset for entry in scores))
    body = [
        "<h1>Evaluation</h1>",
        f"<p class=quiet>{_links(datasets)}</p>",
        *(_table(table) for table in tables),
        *(f"<p class=quiet>Note: {html.escape(note)}</p>" for note in notes)]
    for dataset in datasets:
        entries = [entry for entry in scores if entry.dataset == dataset]
        body += [f"<h2 id='{html.escape(dataset)}'>{html.escape(dataset)}</h2>",
                 _legend(colours), _charts(entries, colours)]
        body += [_gallery(entry, gt_root / dataset / "images", thumbnails) for entry in entries]
    with write_whole(path, "w", encoding="utf-8") as file:
        file.write(_page("\n".join(body)))


def _page(body: str) -> str:
    # The policy makes the browser refuse whatever would be fetched: the file shows all it has by itself.
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Evaluation</title>
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _links(datasets: Iterable[str]) -> str:
    return " · ".join(f"<a href='#{html.escape(name)}'>{html.escape(name)}</a>" for name in datasets)


def _legend(colours: dict[str, str]) -> str:
    return "<p>" + "".join(f"<span class=key style='background:{colour}'></span>{html.escape(method)}"
                           for method, colour in colours.items()) + "</p>"


def _table(table: Table) -> str:
    def row(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(
            f"<{tag}{' class=label' if column < table.labels else ''}>{html.escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)) + "</tr>"

    rows = "\n".join(row(cells, "td") for cells in table.rows)
    title = html.escape(table.title)
    return (f'<h3>{title}</h3><div class=wide><table aria-label="{title}">'
            f"<thead>{row(table.header, 'th')}</thead>\n<tbody>{rows}</tbody></table></div>")


# ---------------------------------------------------------------- charts

WIDTH, HEIGHT = 320, 200  # of a chart, in the units of its drawing
LEFT, RIGHT, TOP, BOTTOM = 34, 312, 24, 168  # the frame in it


def _charts(entries: list[SetScores], colours: dict[str, str]) -> str:
    charts = [_histogram("Images by Dice", {entry.method: dices(entry) for entry in entries}, colours)]
    for name, title in CHARTS.items():
        curves = {entry.method: entry.measures.curves()[name] for entry in entries}
        charts.append(_curves(f"{title} by threshold", curves, colours))
    return "<div class=charts>" + "".join(f"<figure>{chart}</figure>" for chart in charts) + "</div>"


def dices(entry: SetScores) -> np.ndarray:
    """(n,) float64: each image's Dice, the mean over thresholds."""
    return np.array([figures.result()["meanDic"] for figures in entry.figures])


def _curves(title: str, curves: dict[str, np.ndarray], colours: dict[str, str]) -> str:
    lines = []
    for method, curve in curves.items():
        points = " ".join(f"{_x(at):.1f},{_y(value):.1f}" for at, value in zip(THRESHOLDS, curve))
        lines.append(f"<polyline points='{points}' fill='none' stroke='{colours[method]}' stroke-width='2'/>")
    return _frame(title, "threshold", [f"{level:g}" for level in np.linspace(0, 1, 5)], lines)


def _histogram(title: str, values: dict[str, np.ndarray], colours: dict[str, str]) -> str:
    counts = {method: np.histogram(figures, HISTOGRAM_BINS, (0, 1))[0] for method, figures in values.items()}
    most = 4 * -(-max(int(count.max()) for count in counts.values()) // 4)  # so that all marks are whole
    bar = 1 / HISTOGRAM_BINS / len(counts)
    bars = []
    for place, (method, count) in enumerate(counts.items()):
        for bin_, number in enumerate(count):
            x, y = _x(bin_ / HISTOGRAM_BINS + place * bar), _y(number / most)
            bars.append(f"<rect x='{x:.1f}' y='{y:.1f}' width='{_x(bar) - LEFT - 0.5:.1f}' "
                        f"height='{BOTTOM - y:.1f}' fill='{colours[method]}'/>")
    return _frame(title, "Dice", [f"{most * share:g}" for share in np.linspace(0, 1, 5)], bars)


def _frame(title: str, below: str, marks: list[str], drawn: list[str]) -> str:
    """A chart with an x axis of 0..1 and the given marks at even steps of its y axis."""
    grid = []
    for place, mark in enumerate(marks):
        y, x = _y(place / (len(marks) - 1)), _x(place / 4)
        grid.append(f"<path d='M{LEFT} {y:.1f}H{RIGHT}' stroke='#8885'/>"
                    f"<text x='{LEFT - 4}' y='{y + 4:.1f}' text-anchor='end'>{mark}</text>"
                    f"<text x='{x:.1f}' y='{BOTTOM + 14}' text-anchor='middle'>{place / 4:g}</text>")
    return (f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{title}'>"
            f"<text x='{LEFT}' y='13' font-weight='600'>{title}</text>{''.join(grid)}{''.join(drawn)}"
            f"<text x='{(LEFT + RIGHT) / 2}' y='{HEIGHT - 3}' text-anchor='middle'>{below}</text></svg>")


def _x(share: float) -> float:
    return LEFT + share * (RIGHT - LEFT)


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


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
            drawn.append(_thumbnail(pair, entry.measures.mask_rule, photographs.get(pair.stem), caption))
        else:
            listed.append(html.escape(caption))
    parts = [f"<h3>{html.escape(entry.method)}: images by Dice (times 100), worst first</h3>"]
    if drawn:
        parts.append(f"<p class=quiet>{_key(MAP_COLOUR)}map{remark}{_key(MASK_COLOUR)}mask</p>"
                     f"<div class=gallery>{''.join(drawn)}</div>")
    if listed:
        parts.append(f"<details><summary>{len(listed)} more images</summary>"
                     f"<p>{'<br>'.join(listed)}</p></details>")
    return "\n".join(parts)


def _key(colour: tuple[int, int, int]) -> str:
    return f"<span class=key style='background:rgb{colour}'></span>"


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
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, format="JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    caption = html.escape(caption)
    return (f"<figure><img loading=lazy width={small.width} height={small.height} alt='{caption}' "
            f"src='data:image/jpeg;base64,{data}'><figcaption>{caption}</figcaption></figure>")


def _tint(picture: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The picture, uint8 (H, W, 3), coloured the more the higher the map's level, uint8 (H, W)."""
    opacity = levels[..., None] / 255 * 0.35
    return (picture * (1 - opacity) + np.array(MAP_COLOUR) * opacity).astype(np.uint8)

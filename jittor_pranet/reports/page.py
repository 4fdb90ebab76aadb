"""The parts that reports are made of: one HTML page by itself, tables, charts and pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Callable

import numpy as np
from PIL import Image

from jittor_pranet.reports.scales import COLOURS, Colour
from utils.files import atomic_write
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table

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
.scans { display: grid; gap: 20px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr)); }
.scans .quiet { margin: .5em 0 .2em; }
.triple { display: grid; gap: 4px; grid-template-columns: repeat(3, 1fr); font-size: .8em;
  text-align: center; }
.triple img { display: block; width: 100%; height: auto; border-radius: 4px; background: #000; }
.matrix td { line-height: 1.2; } .matrix small { display: block; color: inherit; opacity: .75; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 1em; }
.key:first-child { margin-left: 0; } .named { white-space: nowrap; margin-right: .7em; }
@media (max-width: 600px) { th, td { padding: .3em .4em; } table { font-size: .9em; } }
"""


def write_report(path: Path, scores: list[SetScores], tables: list[Table], notes: list[str],
                 section: Callable[[list[SetScores], dict[str, str]], list[str]]) -> None:
    """Writes links to the sets, the tables and notes, and of each set its section, in one file by itself.

    Args:
        section: gives the elements of a set from the scores of every method there, and the methods' colours.

    Raises:
        UserError: the file cannot be written.
    """
    methods = list(dict.fromkeys(entry.method for entry in scores))
    datasets = list(dict.fromkeys(entry.dataset for entry in scores))
    colours = {method: hexadecimal(COLOURS[place % len(COLOURS)]) for place, method in enumerate(methods)}
    links = " · ".join(f"<a href='#{html.escape(name)}'>{html.escape(name)}</a>" for name in datasets)
    parts = ["<h1>Evaluation</h1>", f"<p class=quiet>{links}</p>", *map(table, tables),
             *(f"<p class=quiet>Note: {html.escape(note)}</p>" for note in notes)]
    for dataset in datasets:
        entries = [entry for entry in scores if entry.dataset == dataset]
        parts += [f"<h2 id='{html.escape(dataset)}'>{html.escape(dataset)}</h2>", _legend(colours),
                  *section(entries, colours)]
    with atomic_write(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(_document("\n".join(parts)))


def _document(body: str) -> str:
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


def _legend(colours: dict[str, str]) -> str:
    return "<p>" + "".join(f"<span class=key style='background:{colour}'></span>{html.escape(method)}"
                           for method, colour in colours.items()) + "</p>"


def table(content: Table) -> str:
    def row(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(
            f"<{tag}{' class=label' if column < content.labels else ''}>{html.escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)) + "</tr>"

    rows = "\n".join(row(cells, "td") for cells in content.rows)
    title = html.escape(content.title)
    return (f'<h3>{title}</h3><div class=wide><table aria-label="{title}">'
            f"<thead>{row(content.header, 'th')}</thead>\n<tbody>{rows}</tbody></table></div>")


def key(colour: Colour) -> str:
    return f"<span class=key style='background:rgb{colour}'></span>"


def hexadecimal(colour: Colour) -> str:
    return "#" + bytes(colour).hex()


def gallery(title: str, legend: str, captions: list[str], draw: Callable[[int], str], limit: int, style: str,
            unit: str) -> str:
    """Pictures by what ``draw`` gives for their place, the first ``limit`` of them; the others by caption."""
    parts = [f"<h3>{html.escape(title)}</h3>"]
    if drawn := [draw(place) for place in range(min(limit, len(captions)))]:
        parts.append(f"{legend}<div class={style}>{''.join(drawn)}</div>")
    if listed := [html.escape(caption) for caption in captions[limit:]]:
        parts.append(f"<details><summary>{len(listed)} more {unit}s</summary>"
                     f"<p>{'<br>'.join(listed)}</p></details>")
    return "\n".join(parts)


def picture(pixels: np.ndarray, caption: str) -> str:
    """An image element of uint8 (H, W, 3), which holds them itself."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return (f"<img loading=lazy width={width} height={height} alt='{html.escape(caption)}' "
            f"src='data:image/jpeg;base64,{data}'>")


# ---------------------------------------------------------------- charts

WIDTH, HEIGHT = 320, 200  # of a chart, in the units of its drawing
LEFT, RIGHT, TOP, BOTTOM = 34, 312, 24, 168  # the frame in it
QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]  # the marks of an axis that ends at 1


def frame(title: str, below: str, marks: list[float], drawn: list[str]) -> str:
    """A chart with an x axis of 0..1 and a y axis of these marks, from 0 in even steps."""
    grid = []
    for mark in marks:
        y = y_at(mark / marks[-1])
        grid.append(f"<path d='M{LEFT} {y:.1f}H{RIGHT}' stroke='#8885'/>"
                    f"<text x='{LEFT - 4}' y='{y + 4:.1f}' text-anchor='end'>{mark:g}</text>")
    grid += [f"<text x='{x_at(mark):.1f}' y='{BOTTOM + 14}' text-anchor='middle'>{mark:g}</text>"
             for mark in QUARTERS]
    return (f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{title}'>"
            f"<text x='{LEFT}' y='13' font-weight='600'>{title}</text>{''.join(grid)}{''.join(drawn)}"
            f"<text x='{(LEFT + RIGHT) / 2}' y='{HEIGHT - 3}' text-anchor='middle'>{below}</text></svg>")


def line(across: Iterable[float], up: Iterable[float], colour: str) -> str:
    """A line through points whose coordinates are fractions of a chart's frame."""
    points = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in zip(across, up))
    return f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'/>"


def x_at(fraction: float) -> float:
    return LEFT + fraction * (RIGHT - LEFT)


def y_at(fraction: float) -> float:
    return BOTTOM - fraction * (BOTTOM - TOP)

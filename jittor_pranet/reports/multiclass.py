"""The report of an evaluation of label maps: which class was missed or taken for another, and where."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
from PIL import Image

from jittor_pranet.reports import page
from jittor_pranet.reports.overlay import label_overlay
from utils.data.scans import PALETTE, ScanOptions, read_scan
from utils.errors import UserError
from utils.metrics.multiclass import METRICS
from utils.metrics.multiclass_evaluation import LabelPair, read_pair
from utils.metrics.multiclass_tables import HEADINGS, shown
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table

THUMBNAIL = 320  # pixels of the longer side
STRIPS = ("Dice", "HD95")  # the figures that are drawn for every scan


def write_report(path: Path, scores: list[SetScores], tables: list[Table], notes: list[str],
                 options: ScanOptions, names: list[str], thumbnails: int) -> None:
    """Writes the tables, and for each set its charts, confusion matrices and scans, lowest Dice first.

    Args:
        names: of all labels, that of the background first.
        thumbnails: scans that are drawn of each set and method.

    Raises:
        UserError: a label map is no longer readable, or the report cannot be written.
    """
    colours = page.colours_of(scores)
    datasets = list(dict.fromkeys(entry.dataset for entry in scores))
    parts = page.head(datasets, tables, notes)
    for dataset in datasets:
        entries = [entry for entry in scores if entry.dataset == dataset]
        parts += [page.heading(dataset), page.legend(colours), _charts(entries, colours, names)]
        parts += [_matrix(entry, names) for entry in entries]
        parts += [_gallery(entry, options, names, thumbnails) for entry in entries]
    page.write(path, parts)


def _class_legend(names: list[str]) -> str:
    return "<p class=quiet>" + " ".join(
        f"<span class=named>{page.key(_colour(label))}{html.escape(name)}</span>"
        for label, name in enumerate(names) if label) + "</p>"


def _colour(label: int) -> tuple[int, int, int]:
    return tuple(PALETTE[label].tolist())


# ---------------------------------------------------------------- charts

ROW = 16  # height of a strip
FROM, TO = 100, 306  # where a strip begins and ends


def _charts(entries: list[SetScores], colours: dict[str, str], names: list[str]) -> str:
    charts = [_strips(name, entries, colours, names) for name in STRIPS]
    charts += [_curves(entry, names) for entry in entries]
    figures = "".join(f"<figure>{chart}</figure>" for chart in charts)
    return f"<div class=charts>{figures}</div>{_class_legend(names)}"


def _curves(entry: SetScores, names: list[str]) -> str:
    """For every class, how large a part of its scans reaches a Dice."""
    lines = []
    for label in range(1, len(names)):
        dice = np.sort(_values(entry, label, "Dice"))
        if dice.size:
            # From each scan's Dice to the next better one's the share stays; there it falls by one scan.
            across = np.repeat([0.0, *dice], 2)[1:]
            up = np.repeat(1 - np.arange(len(dice) + 1) / len(dice), 2)[:-1]
            lines.append(page.line(across, up, f"rgb{_colour(label)}"))
    return page.frame("Percent of scans that reach a Dice", html.escape(f"Dice, {entry.method}"),
                      [100 * mark for mark in page.QUARTERS], lines)


def _strips(name: str, entries: list[SetScores], colours: dict[str, str], names: list[str]) -> str:
    """Every scan's figure as a dot, in a strip for each class and method; a line at the mean."""
    values = {(label, entry.method): _values(entry, label, name)
              for label in range(1, len(names)) for entry in entries}
    most = max((figures.max() for figures in values.values() if figures.size), default=0.0) or 1.0
    marks = page.QUARTERS if name == "Dice" else page.round_marks(most)
    drawn, end = [], page.TOP + 8 + ROW * len(values)
    for mark in marks:
        x = _across(mark / marks[-1])
        drawn.append(f"<path d='M{x:.1f} {page.TOP}V{end}' stroke='#8885'/>"
                     f"<text x='{x:.1f}' y='{end + 14}' text-anchor='middle'>{mark:g}</text>")
    for row, ((label, method), figures) in enumerate(values.items()):
        y = page.TOP + 4 + ROW * (row + 0.5)
        if row % len(entries) == 0:
            drawn.append(f"<text x='{FROM - 6}' y='{y + 4}' text-anchor='end'>{_short(names[label])}</text>")
        drawn += [f"<circle cx='{_across(figure / marks[-1]):.1f}' cy='{y}' r='2.5' fill='{colours[method]}' "
                  "fill-opacity='.45'/>" for figure in figures]
        if figures.size:
            drawn.append(f"<path d='M{_across(figures.mean() / marks[-1]):.1f} {y - 7}v14' "
                         f"stroke='{colours[method]}' stroke-width='2.5'/>")
    title = f"{HEADINGS[name]} of every scan{'' if name == 'Dice' else ', voxels'}; line: mean"
    return (f"<svg viewBox='0 0 {page.WIDTH} {end + 20}' role='img' aria-label='{title}'>"
            f"<text x='8' y='13' font-weight='600'>{title}</text>{''.join(drawn)}</svg>")


def _values(entry: SetScores, label: int, name: str) -> np.ndarray:
    """A figure of a class in the scans where it is defined."""
    values = np.array([table[label - 1, METRICS.index(name)] for table in entry.metrics.tables])
    return values[~np.isnan(values)]


def _across(share: float) -> float:
    return FROM + share * (TO - FROM)


def _short(name: str, most: int = 15) -> str:
    return html.escape(name if len(name) <= most else name[:most - 1] + "…")


# ---------------------------------------------------------------- confusion

RIGHT_COLOUR, WRONG_COLOUR = "0 114 178", "213 94 0"


def _matrix(entry: SetScores, names: list[str]) -> str:
    """The confusion matrix: rows are true labels, columns found ones, in percent of the row and in voxels."""
    title = html.escape(f"{entry.method}: what the voxels of each true class (rows) were found as (columns), "
                        "percent of the row and voxels")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = []
    for label, (name, counts) in enumerate(zip(names, entry.metrics.confusion.tolist())):
        cells = "".join(_cell(count, sum(counts), place == label) for place, count in enumerate(counts))
        rows.append(f"<tr><th class=label>{html.escape(name)}</th>{cells}</tr>")
    return (f"<h3>{title}</h3><div class=wide><table class=matrix aria-label='{title}'>"
            f"<thead><tr><th class=label>true \\ found</th>{head}</tr></thead>\n"
            f"<tbody>{''.join(rows)}</tbody></table></div>")


def _cell(count: int, total: int, right: bool) -> str:
    if not count:
        return "<td>0</td>"
    percent = 100 * count / total
    # The square root lets small confusions be seen beside the large figures of the diagonal.
    strength = 0.6 * (percent / 100) ** 0.5
    shown = f"{percent:.1f}" if percent >= 0.05 else "&lt; 0.1"
    return (f"<td style='background:rgb({RIGHT_COLOUR if right else WRONG_COLOUR} / {strength:.2f})'>{shown}"
            f"<small>{count:,}</small></td>")


# ---------------------------------------------------------------- images


def _gallery(entry: SetScores, options: ScanOptions, names: list[str], thumbnails: int) -> str:
    """The entry's scans, lowest mean Dice first: some drawn, the others listed."""
    dice = np.array([table[:, 0] for table in entry.metrics.tables])
    defined = ~np.isnan(dice)
    means = np.divide(np.nansum(dice, axis=1), defined.sum(axis=1), where=defined.any(axis=1),
                      out=np.full(len(dice), np.nan))
    drawn, listed = [], []
    for place in np.argsort(means, kind="stable"):  # NaN, of scans without any class, comes last
        pair, of_classes = entry.pairs[place], zip(names[1:], dice[place])
        caption = f"{pair.scan.name} {shown('Dice', means[place])} (" + ", ".join(
            f"{name} {shown('Dice', value)}" for name, value in of_classes) + ")"
        if len(drawn) < thumbnails:
            drawn.append(_scan(pair, options, caption))
        else:
            listed.append(html.escape(caption))
    parts = [f"<h3>{html.escape(entry.method)}: scans by mean Dice (times 100), worst first</h3>"]
    if drawn:
        parts.append(f"{_class_legend(names)}<div class=scans>{''.join(drawn)}</div>")
    if listed:
        parts.append(f"<details><summary>{len(listed)} more scans</summary>"
                     f"<p>{'<br>'.join(listed)}</p></details>")
    return "\n".join(parts)


def _scan(pair: LabelPair, options: ScanOptions, caption: str) -> str:
    """The middle slice of a scan and the one with most wrong voxels, found and true labels beside them."""
    found, truth, _ = read_pair(pair, options)
    try:
        image = read_scan(pair.scan, options).image
    except UserError as error:
        image = np.zeros((len(found), 1, *found.shape[1:]), np.float32)
        caption += f" on black: {error}"
    wrong = np.count_nonzero(found != truth, axis=(1, 2))
    middle, worst = len(found) // 2, int(wrong.argmax())
    rows = {middle: "middle slice"}
    if wrong[worst]:
        rows[worst] = "middle slice, the one with most wrong" if worst == middle else "most wrong"
    parts = []
    for place, what in rows.items():
        none = np.zeros_like(truth[place])
        views = {name: _small(label_overlay(image[place], labels))
                 for name, labels in (("image", none), ("found", found[place]), ("true", truth[place]))}
        if len(found) > 1:
            parts.append(f"<p class=quiet>slice {place + 1} of {len(found)}, {what}: {wrong[place]:,} "
                         "wrong voxels</p>")
        parts.append("<div class=triple>" + "".join(
            f"<div>{page.picture(view, f'{pair.scan.name}, slice {place + 1}, {name}')}{name}</div>"
            for name, view in views.items()) + "</div>")
    return f"<figure><figcaption>{html.escape(caption)}</figcaption>{''.join(parts)}</figure>"


def _small(pixels: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    return np.asarray(picture)

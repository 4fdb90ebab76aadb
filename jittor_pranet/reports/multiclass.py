"""The report's section of a set of scans: which class was missed or taken for another, and where."""

from __future__ import annotations

import html

import numpy as np
from PIL import Image

from jittor_pranet.reports import page, scales
from jittor_pranet.reports.overlay import label_overlay
from utils.data.scans import PALETTE, ScanOptions, read_scan
from utils.errors import UserError
from utils.metrics.multiclass import METRICS
from utils.metrics.multiclass_evaluation import LabelPair, read_pair
from utils.metrics.multiclass_tables import HEADINGS, shown
from utils.metrics.scoring import SetScores

THUMBNAIL = 320  # pixels of the longer side
STRIPS = ("Dice", "HD95")  # the scores that are drawn for every scan


def section(entries: list[SetScores], colours: dict[str, str], options: ScanOptions, names: list[str],
            limit: int) -> list[str]:
    """Charts of a set's scores, and for each method its confusion matrix and the scans, lowest Dice first.

    Args:
        names: of all labels, that of the background first.
        limit: scans of each method that are drawn.

    Raises:
        UserError: a label map is no longer readable.
    """
    return [_charts(entries, colours, names), *(_matrix(entry, names) for entry in entries),
            *(_gallery(entry, options, names, limit) for entry in entries)]


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
    elements = "".join(f"<figure>{chart}</figure>" for chart in charts)
    return f"<div class=charts>{elements}</div>{_class_legend(names)}"


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
    """Every scan's score as a dot, in a strip for each class and method; a line at the mean."""
    values = {(label, entry.method): _values(entry, label, name)
              for label in range(1, len(names)) for entry in entries}
    highest = max((scores.max() for scores in values.values() if scores.size), default=0.0) or 1.0
    marks = page.QUARTERS if name == "Dice" else scales.ticks(0, highest, 5)
    drawn, end = [], page.TOP + 8 + ROW * len(values)
    for mark in marks:
        x = _across(mark / marks[-1])
        drawn.append(f"<path d='M{x:.1f} {page.TOP}V{end}' stroke='#8885'/>"
                     f"<text x='{x:.1f}' y='{end + 14}' text-anchor='middle'>{mark:g}</text>")
    for row, ((label, method), scores) in enumerate(values.items()):
        y = page.TOP + 4 + ROW * (row + 0.5)
        if row % len(entries) == 0:
            drawn.append(f"<text x='{FROM - 6}' y='{y + 4}' text-anchor='end'>{_short(names[label])}</text>")
        drawn += [f"<circle cx='{_across(score / marks[-1]):.1f}' cy='{y}' r='2.5' fill='{colours[method]}' "
                  "fill-opacity='.45'/>" for score in scores]
        if scores.size:
            drawn.append(f"<path d='M{_across(scores.mean() / marks[-1]):.1f} {y - 7}v14' "
                         f"stroke='{colours[method]}' stroke-width='2.5'/>")
    title = f"{HEADINGS[name]} of every scan{'' if name == 'Dice' else ', voxels'}; line: mean"
    return (f"<svg viewBox='0 0 {page.WIDTH} {end + 20}' role='img' aria-label='{title}'>"
            f"<text x='8' y='13' font-weight='600'>{title}</text>{''.join(drawn)}</svg>")


def _values(entry: SetScores, label: int, name: str) -> np.ndarray:
    """A score of a class in the scans where it is defined."""
    values = np.array([table[label - 1, METRICS.index(name)] for table in entry.metrics.tables])
    return values[~np.isnan(values)]


def _across(fraction: float) -> float:
    return FROM + fraction * (TO - FROM)


def _short(name: str, limit: int = 15) -> str:
    return html.escape(name if len(name) <= limit else name[:limit - 1] + "…")


# ---------------------------------------------------------------- confusion


def _matrix(entry: SetScores, names: list[str]) -> str:
    """The confusion matrix: true labels by predicted ones, in percent of the row and in voxels."""
    title = html.escape(f"{entry.method}: what the voxels of each true class (rows) were predicted as "
                        "(columns), percent of the row and voxels")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = []
    for label, (name, counts) in enumerate(zip(names, entry.metrics.confusion.tolist())):
        cells = "".join(_cell(count, sum(counts), place == label) for place, count in enumerate(counts))
        rows.append(f"<tr><th class=label>{html.escape(name)}</th>{cells}</tr>")
    return (f"<h3>{title}</h3><div class=wide><table class=matrix aria-label='{title}'>"
            f"<thead><tr><th class=label>true \\ predicted</th>{head}</tr></thead>\n"
            f"<tbody>{''.join(rows)}</tbody></table></div>")


def _cell(count: int, total: int, right: bool) -> str:
    if not count:
        return "<td>0</td>"
    percent = 100 * count / total
    # The square root lets small confusions be seen beside the large figures of the diagonal.
    strength = 0.6 * (percent / 100) ** 0.5
    red, green, blue = scales.BLUE if right else scales.VERMILION
    shown = f"{percent:.1f}" if percent >= 0.05 else "&lt; 0.1"
    return (f"<td style='background:rgb({red} {green} {blue} / {strength:.2f})'>{shown}"
            f"<small>{count:,}</small></td>")


# ---------------------------------------------------------------- images


def _gallery(entry: SetScores, options: ScanOptions, names: list[str], limit: int) -> str:
    dice = np.array([table[:, 0] for table in entry.metrics.tables])
    defined = ~np.isnan(dice)
    means = np.divide(np.nansum(dice, axis=1), defined.sum(axis=1), where=defined.any(axis=1),
                      out=np.full(len(dice), np.nan))
    order = np.argsort(means, kind="stable")  # NaN, of scans without any class, comes last
    pairs, captions = [entry.pairs[place] for place in order], []
    for pair, mean, of_classes in zip(pairs, means[order], dice[order]):
        shares = ", ".join(f"{name} {shown('Dice', value)}" for name, value in zip(names[1:], of_classes))
        captions.append(f"{pair.scan.name} {shown('Dice', mean)} ({shares})")
    return page.gallery(f"{entry.method}: scans by mean Dice (times 100), worst first", _class_legend(names),
                        captions, lambda place: _scan(pairs[place], options, captions[place]), limit,
                        "scans", "scan")


def _scan(pair: LabelPair, options: ScanOptions, caption: str) -> str:
    """The middle slice of a scan and the one with most wrong voxels, with predicted and true labels."""
    prediction, target, _ = read_pair(pair, options)
    try:
        image = read_scan(pair.scan, options).image
    except UserError as error:
        image = np.zeros((len(prediction), 1, *prediction.shape[1:]), np.float32)
        caption += f" on black: {error}"
    wrong = np.count_nonzero(prediction != target, axis=(1, 2))
    middle, worst = len(prediction) // 2, int(wrong.argmax())
    rows = {middle: "middle slice"}
    if wrong[worst]:
        rows[worst] = "middle slice, the one with most wrong" if worst == middle else "most wrong"
    parts = []
    for place, what in rows.items():
        none = np.zeros_like(target[place])
        labels = {"image": none, "predicted": prediction[place], "true": target[place]}
        views = {name: _small(label_overlay(image[place], each)) for name, each in labels.items()}
        if len(prediction) > 1:
            parts.append(f"<p class=quiet>slice {place + 1} of {len(prediction)}, {what}: {wrong[place]:,} "
                         "wrong voxels</p>")
        parts.append("<div class=triple>" + "".join(
            f"<div>{page.picture(view, f'{pair.scan.name}, slice {place + 1}, {name}')}{name}</div>"
            for name, view in views.items()) + "</div>")
    return f"<figure><figcaption>{html.escape(caption)}</figcaption>{''.join(parts)}</figure>"


def _small(pixels: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    return np.asarray(picture)
